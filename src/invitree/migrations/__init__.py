"""The schema migrations, in SQL, run by Alembic; `HEAD` is the revision that this code needs.

HEAD is a constant so that a start can compare it with the database without loading Alembic; a test checks it.
"""

HEAD = "0010"
LOCK = 0x696E7669  # "invi"
"""The key of the advisory lock for changing the schema; an arbitrary number, unique in this database."""
SESSION = {
    "application_name": "invitree migration",
    # Requests queue behind a waiting migration, and themselves wait 2 s at most. After 1 s PostgreSQL looks for
    # deadlocks, and would abort one of the requests.
    "lock_timeout": "300ms",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
}
"""Session settings that keep a migration from blocking others for long."""
