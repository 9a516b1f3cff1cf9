"""Migrating a database to the schema that this code needs."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg

from invitree.kit.data.connections import connect
from invitree.kit.data.db import Queryable
from invitree.migrations import HEAD

TURN_S = 600.0
"""How long a process waits for another one to finish migrating, in seconds."""
_PAUSES_S = (0.2, 0.5, 1, 2, 3, 5, 5, 5, 10, 10, 10)


class NewerSchema(Exception):
    """The database's schema is of a newer Invitree than this one; upgrade the code, or restore an older backup."""


class SchemaBusy(Exception):
    """The schema cannot be changed now. The message is one line that names the session in the way."""


async def revision(db: Queryable) -> str | None:
    """Return the revision of a database, None for an empty one."""
    try:
        version: str | None = await db.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return version


def upgrade(url: str, *, to: str = HEAD, report: Callable[[str], None] = lambda _: None) -> None:
    """Run all pending migrations up to `to`. Must not be called from a running event loop.

    If a table is in use for long, it retries for about a minute, calls `report` with a message each time, and then
    raises SchemaBusy. Raises NewerSchema if the database has a revision unknown to this code, and
    asyncpg.PostgresError. A failed migration is rolled back; earlier ones stay.
    """
    for pause_s in (*_PAUSES_S, None):
        try:
            _upgrade(url, to=to)
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
            busy = f"the schema cannot be changed while its tables are in use; {asyncio.run(_longest_user(url))}"
        else:
            return
        if pause_s is None:
            raise SchemaBusy(busy)
        report(f"{busy}; trying again in {pause_s:g} s")
        time.sleep(pause_s)


def _upgrade(url: str, *, to: str) -> None:
    # Alembic imports SQLAlchemy, a second that is only spent if there is something to migrate.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError
    from sqlalchemy.exc import DBAPIError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["url"] = url
    try:
        command.upgrade(config, to)
    except DBAPIError as error:
        # asyncpg's error, without SQLAlchemy's wrapping.
        raise (error.orig.__cause__ if error.orig else None) or error from None
    except CommandError as error:
        if "Can't locate revision" in str(error):
            raise NewerSchema(NewerSchema.__doc__) from None
        raise


async def _longest_user(url: str) -> str:
    connection = await connect(url, timeout=5)
    try:
        session = await connection.fetchrow(
            """
            SELECT pid, usename, application_name, extract(epoch FROM clock_timestamp() - xact_start)::int AS age_s
            FROM pg_stat_activity
            WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
                AND xact_start IS NOT NULL
            ORDER BY xact_start LIMIT 1
            """
        )
    finally:
        await connection.close()
    if session is None:
        return "it was a short transaction"
    who = f"{session['usename']} ({session['application_name'] or 'no application'}, process {session['pid']})"
    return f"the oldest transaction is one of {who}, {session['age_s']} s old"
