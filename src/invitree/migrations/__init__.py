"""The schema's history, as SQL run by Alembic; `HEAD` is the revision that this code needs.

HEAD stands here so that a warm start can compare it with the database without loading Alembic; a test keeps it true.
"""

HEAD = "0003"
LOCK = 0x696E7669  # "invi"
"""The advisory lock of whoever changes the schema; any number that no one else on this database takes."""
