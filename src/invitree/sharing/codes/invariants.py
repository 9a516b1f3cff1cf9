"""What must always hold of codes."""

from invitree.kit.data.invariants import Invariant

INVARIANTS = (
    Invariant(
        "I1",
        "a user has at most one code that is not revoked",
        """
        SELECT program_id, user_id FROM codes WHERE revoked_at IS NULL
        GROUP BY program_id, user_id HAVING count(*) > 1
        """,
    ),
)
REFERENCES = (
    """
    SELECT 'codes' AS of, c.program_id, c.id
    FROM codes c LEFT JOIN users u ON u.program_id = c.program_id AND u.id = c.user_id WHERE u.id IS NULL
    """,
)
"""Rows that point at nothing, or into another program."""
