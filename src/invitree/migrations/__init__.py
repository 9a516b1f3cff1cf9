"""The schema's history, as SQL run by Alembic; `HEAD` is the revision that this code needs.

HEAD stands here so that a warm start can compare it with the database without loading Alembic; a test keeps it true.
"""

HEAD = "0010"
LOCK = 0x696E7669  # "invi"
"""The advisory lock of whoever changes the schema; any number that no one else on this database takes."""
SESSION = {
    "application_name": "invitree migration",
    # Whoever comes after it waits too, and a request no longer than 2 s. After one, PostgreSQL looks for deadlocks, and
    # would end one of the requests.
    "lock_timeout": "300ms",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
}
"""How long a migration may be in others' way."""
