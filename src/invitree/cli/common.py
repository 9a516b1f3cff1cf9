"""Helpers for commands: reading settings and opening the database."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

from invitree.base.settings import Settings, read_settings
from invitree.kit.data.db import Database
from invitree.run.serve import database, migrate

R = TypeVar("R")
Slug = Annotated[str, Parameter(help="The program.")]
ProgramSlug = Annotated[str, Parameter(name="--program", help="The program to belong to.")]
DataDir = Annotated[
    Path | None, Parameter(help="Where the embedded database and the generated secret live (INVITREE_DATA_DIR).")
]


class CommandError(Exception):
    """A command failed. The message is one line."""


def settings_of(**flags: object) -> Settings:
    """Read the settings from the environment, overridden by flags that were given."""
    chosen = {f"INVITREE_{name.upper()}": str(value) for name, value in given(**flags).items()}
    kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in chosen}
    return read_settings({**kept, **chosen})


def given(**options: object) -> dict[str, object]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def with_database(settings: Settings, work: Callable[[Database], Awaitable[R]]) -> R:
    """Run a function with the migrated database of these settings."""

    async def run(url: str) -> R:
        db = Database.at(url, size=1, statement_timeout_s=600)
        try:
            return await work(db)
        finally:
            await db.close()

    with database(settings) as ready:
        migrate(ready.database_url)
        return asyncio.run(run(ready.database_url))


async def find_program(db: Database, slug: str) -> Any:
    """Return the program with this slug. Raises CommandError."""
    from invitree.identity.programs.store import find_program_by_slug

    program = await find_program_by_slug(db, slug=slug)
    if program is None:
        raise CommandError(f"there is no program {slug!r}")
    return program
