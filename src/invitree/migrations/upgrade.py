"""Bringing a database to the schema that this code needs."""

from pathlib import Path

import asyncpg

from invitree.kit.db import Queryable
from invitree.migrations import HEAD


class NewerSchema(Exception):
    """The database's schema is of a newer Invitree than this one; upgrade the code, or restore an older backup."""


async def revision(db: Queryable) -> str | None:
    """Return the revision that a database is at, None for an empty one."""
    try:
        found: str | None = await db.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    return found


def upgrade(url: str, *, to: str = HEAD) -> None:
    """Run every migration up to `to` that the database at `url` lacks. Not to be called from a running event loop.

    Raises NewerSchema where the database knows a revision that this code does not, and asyncpg.PostgresError.
    """
    # Alembic brings SQLAlchemy along, a second of start-up that a database at its head does not need.
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
        # What asyncpg said, without SQLAlchemy's wrappings.
        raise (error.orig.__cause__ if error.orig else None) or error from None
    except CommandError as error:
        if "Can't locate revision" in str(error):
            raise NewerSchema(NewerSchema.__doc__) from None
        raise
