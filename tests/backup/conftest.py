"""A database with something in every table, and empty ones."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from invitree.migrations import HEAD
from tests.conftest import SECRET, New
from tests.databases import fill
from tests.process import run


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
async def empty(new_database: New) -> str:
    """The URL of a database without tables."""
    return await new_database()


def at(url: str) -> Mapping[str, str]:
    """Return what tells a command where the database is."""
    return {"INVITREE_DATABASE_URL": url, "INVITREE_SECRET_KEY": SECRET}
