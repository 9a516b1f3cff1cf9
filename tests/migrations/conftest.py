"""Databases as earlier versions have left them."""

import asyncio

import pytest

from invitree.migrations import HEAD
from invitree.migrations.upgrade import upgrade
from tests.conftest import New
from tests.databases import fill
from tests.migrations.test_lint import scripts

USERS = 10_000
EARLIER = sorted(script.revision for script in scripts() if script.revision != HEAD)


@pytest.fixture(params=EARLIER)
async def old(request: pytest.FixtureRequest, new_database: New) -> str:
    """The URL of a filled database of an earlier revision."""
    url = await new_database()
    await asyncio.to_thread(upgrade, url, to=request.param)
    await fill(url, users=USERS, at=request.param)
    return url


@pytest.fixture
async def oldest(new_database: New) -> str:
    """The URL of a database of the first revision, with little in it."""
    url = await new_database()
    await asyncio.to_thread(upgrade, url, to="0001")
    await fill(url, users=1000, at="0001")
    return url
