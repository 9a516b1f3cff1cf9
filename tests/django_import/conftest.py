"""A file to import, a program to import it into, and the import itself."""

from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from invitree.identity.programs.store import Program, find_program_by_slug
from invitree.imports.django.actions import Report, import_django_data
from invitree.imports.django.store import read_django_file
from invitree.kit.context import AppContext
from tests.django_import.django import Django

_numbers = count(1)
Import = Callable[..., Awaitable[Report]]


@pytest.fixture
def django(tmp_path: Path) -> Iterator[Django]:
    """An empty file of the Django service."""
    made = Django(tmp_path / "db.sqlite3")
    yield made
    made.db.close()


@pytest.fixture
async def program(ctx: AppContext) -> Program:
    """A program of its own."""
    slug = f"import-{next(_numbers)}"
    await ctx.db.execute("INSERT INTO programs (slug, time_zone) VALUES ($1, 'Asia/Tokyo')", slug)
    found = await find_program_by_slug(ctx.db, slug=slug)
    assert found is not None
    return found


@pytest.fixture
def run_import(ctx: AppContext, django: Django, program: Program) -> Import:
    """Import the file into the program, as the command does."""

    async def run(*, source: str = "seed", dry_run: bool = False, into: Program = program) -> Report:
        return await import_django_data(
            ctx.db,
            program=into,
            source=source,
            data=read_django_file(django.path),
            keys=ctx.keys,
            dry_run=dry_run,
            advance=lambda _done, _of: None,
        )

    return run
