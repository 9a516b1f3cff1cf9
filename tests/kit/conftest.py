"""Folders for embedded PostgreSQL servers, and pools of connections."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from invitree.kit.postgres.embedded import embedded_postgres
from tests.conftest import as_admin
from tests.kit.lender import Lender, turn_over
from tests.kit.postmasters import FAST, kill_all
from tests.waiting import eventually


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may pass through (unlike tmp_path); what still runs below it dies at the end."""
    folder = Path(tempfile.mkdtemp(prefix="emb-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    kill_all(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="emb-", dir="/tmp"))
    folder.chmod(0o755)
    with embedded_postgres(folder / "data", settings=FAST):
        pass
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def data(made: Path) -> Iterator[Path]:
    """A data folder that was started before. The tests share it, a first start being slow, and leave it usable."""
    yield made
    kill_all(made)


@pytest.fixture
async def lender(database_url: str) -> AsyncIterator[Lender]:
    """Pools on the module's database, of which nothing is left when a test has ended: no connection, no task."""
    before = asyncio.all_tasks()
    watch = await asyncpg.connect(as_admin(database_url).replace("/postgres?", f"{urlsplit(database_url).path}?"))
    made = Lender(database_url, watch)
    yield made
    for pool in made.pools:
        await pool.close()

    async def nothing_is_left() -> bool:
        return await made.count() == 0

    await eventually(nothing_is_left)
    await watch.close()
    await turn_over()
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}
