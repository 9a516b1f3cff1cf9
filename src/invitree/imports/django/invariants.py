"""What must always hold of users that were imported."""

REFERENCES = (
    """
    SELECT 'imported_users' AS of, i.program_id, i.user_id
    FROM imported_users i LEFT JOIN users u ON u.program_id = i.program_id AND u.id = i.user_id WHERE u.id IS NULL
    """,
)
"""Rows that point at nothing, or into another program."""
