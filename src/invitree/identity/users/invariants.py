"""What must always hold of users."""

from invitree.kit.data.invariants import Invariant

INVARIANTS = (
    Invariant(
        # Users from before there were events have none; whoever came after the first that has one has one. Once a month
        # of events was dropped, those who came within a day of its end are left out: ids and times differ in order.
        "I5",
        "a user and the event of its coming are written together",
        """
        SELECT u.program_id, u.id
        FROM users u
        LEFT JOIN audit e ON e.program_id = u.program_id AND e.user_id = u.id AND e.kind = 'account.created'
        JOIN (
            SELECT min(user_id) AS user_id, min(created_at) AS created_at FROM audit WHERE kind = 'account.created'
        ) first ON u.id > first.user_id
        WHERE e.id IS NULL
            AND (to_regclass('audit_oldest') IS NOT NULL
                OR u.created_at > date_trunc('month', first.created_at) + interval '1 day')
        """,
    ),
)
REFERENCES = (
    """
    SELECT 'users' AS of, u.program_id, u.id FROM users u LEFT JOIN programs p ON p.id = u.program_id
    WHERE p.id IS NULL
    """,
)
"""Rows that point at nothing, or into another program."""
