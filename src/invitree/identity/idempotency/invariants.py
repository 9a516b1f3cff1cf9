"""What must always hold of answers that are kept."""

from invitree.kit.data.invariants import Invariant

INVARIANTS = (
    Invariant(
        "I7",
        "a request that its client has named has one answer",
        """
        SELECT program_id, min(user_id) AS about FROM idempotency_keys
        GROUP BY program_id, key_hash HAVING count(*) > 1
        """,
    ),
)
REFERENCES = (
    """
    SELECT 'idempotency_keys' AS of, k.program_id, k.user_id
    FROM idempotency_keys k
    LEFT JOIN programs p ON p.id = k.program_id
    LEFT JOIN users u ON u.program_id = k.program_id AND u.id = k.user_id
    WHERE p.id IS NULL OR (k.user_id IS NOT NULL AND u.id IS NULL)
    """,
)
"""Rows that point at nothing, or into another program."""
