"""What must always hold of the tokens in emails."""

REFERENCES = (
    """
    SELECT 'one_time_tokens' AS of, t.program_id, t.id
    FROM one_time_tokens t LEFT JOIN users u ON u.program_id = t.program_id AND u.id = t.user_id WHERE u.id IS NULL
    """,
)
"""Rows that point at nothing, or into another program."""
