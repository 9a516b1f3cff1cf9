"""What must always hold of sessions and refresh tokens."""

from invitree.kit.data.invariants import Invariant

INVARIANTS = (
    Invariant(
        "I4a",
        "a session has at most one unused refresh token",
        """
        SELECT program_id, session_id FROM refresh_tokens WHERE used_at IS NULL
        GROUP BY program_id, session_id HAVING count(*) > 1
        """,
    ),
    Invariant(
        "I4b",
        "a refresh token has a successor only when it was used, and one",
        """
        SELECT n.program_id, n.parent_id
        FROM refresh_tokens n
        LEFT JOIN refresh_tokens t ON t.program_id = n.program_id AND t.id = n.parent_id AND t.used_at IS NOT NULL
        WHERE n.parent_id IS NOT NULL
        GROUP BY n.program_id, n.parent_id HAVING count(*) > 1 OR count(t.id) = 0
        """,
    ),
)
REFERENCES = (
    """
    SELECT 'sessions' AS of, s.program_id, s.id
    FROM sessions s LEFT JOIN users u ON u.program_id = s.program_id AND u.id = s.user_id WHERE u.id IS NULL
    """,
    """
    SELECT 'refresh_tokens' AS of, t.program_id, t.id
    FROM refresh_tokens t LEFT JOIN sessions s ON s.program_id = t.program_id AND s.id = t.session_id
    WHERE s.id IS NULL
    """,
)
"""Rows that point at nothing, or into another program."""
