"""A database with something in every table, and empty ones."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from invitree.migrations import HEAD
from tests.conftest import SECRET, as_admin
from tests.filling import fill
from tests.process import run

New = Callable[[], Awaitable[str]]


@pytest.fixture(scope="module")
async def filled(database_url: str) -> str:
    """The URL of a database with rows in every table."""
    await fill(database_url, users=2000, at=HEAD)
    return database_url


@pytest.fixture(scope="module")
async def backup(filled: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of it."""
    file = tmp_path_factory.mktemp("backup") / "invitree.backup"
    done = run("backup", str(file), env=at(filled))
    assert done.returncode == 0, done.stderr
    return file


@pytest.fixture
async def new_database(postgres: str) -> AsyncIterator[New]:
    """Make a database without tables, and return its URL."""
    async with AsyncExitStack() as made:

        async def make() -> str:
            return await made.enter_async_context(_database(postgres))

        yield make


@asynccontextmanager
async def _database(postgres: str) -> AsyncIterator[str]:
    name = f"t{uuid4().hex}"
    admin = await asyncpg.connect(as_admin(postgres))
    await admin.execute(f"CREATE DATABASE {name} OWNER invitree")
    yield urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))
    await admin.execute(f"DROP DATABASE {name} (FORCE)")
    await admin.close()


@pytest.fixture
async def empty(new_database: New) -> str:
    """The URL of a database without tables."""
    return await new_database()


def at(url: str) -> Mapping[str, str]:
    """Return what tells a command where the database is."""
    return {"INVITREE_DATABASE_URL": url, "INVITREE_SECRET_KEY": SECRET}
