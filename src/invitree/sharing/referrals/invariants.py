"""What must always hold of referrals."""

from invitree.kit.data.invariants import Invariant

INVARIANTS = (
    Invariant(
        "I2a",
        "a referee has one referrer, and it is somebody else",
        """
        SELECT program_id, referee_id FROM referrals
        GROUP BY program_id, referee_id HAVING count(*) > 1 OR bool_or(referrer_id = referee_id)
        """,
    ),
    Invariant(
        # Along any chain the ids of referrals grow (the upper one is committed before its referee can have a code), so
        # that none can lead back to where it began. Ids and not times: clocks are set back now and then.
        "I2b",
        "the graph is a forest: whoever brings others was brought before them",
        """
        SELECT r.program_id, r.id
        FROM referrals r JOIN referrals above ON above.program_id = r.program_id AND above.referee_id = r.referrer_id
        WHERE above.id >= r.id
        """,
    ),
    Invariant(
        "I3",
        "a referral's code was its referrer's, and alive when it was used",
        """
        SELECT r.program_id, r.id
        FROM referrals r JOIN codes c ON c.program_id = r.program_id AND c.id = r.code_id
        WHERE c.user_id <> r.referrer_id OR r.created_at < c.created_at OR r.created_at >= c.expires_at
           OR r.created_at > c.revoked_at
        """,
    ),
)
REFERENCES = (
    """
    SELECT 'referrals' AS of, r.program_id, r.id
    FROM referrals r
    LEFT JOIN users a ON a.program_id = r.program_id AND a.id = r.referrer_id
    LEFT JOIN users b ON b.program_id = r.program_id AND b.id = r.referee_id
    LEFT JOIN codes c ON c.program_id = r.program_id AND c.id = r.code_id
    WHERE a.id IS NULL OR b.id IS NULL OR (r.code_id IS NOT NULL AND c.id IS NULL)
    """,
)
"""Rows that point at nothing, or into another program."""
