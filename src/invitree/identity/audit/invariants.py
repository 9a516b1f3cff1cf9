"""What must always hold of the audit log."""

REFERENCES = (
    """
    SELECT 'audit' AS of, e.program_id, e.id
    FROM audit e
    LEFT JOIN programs p ON p.id = e.program_id
    LEFT JOIN users u ON u.program_id = e.program_id AND u.id = e.user_id
    WHERE p.id IS NULL OR (e.user_id IS NOT NULL AND u.id IS NULL)
    """,
)
"""Rows that point at nothing, or into another program."""
