"""A queue, a mail server, and settings that lead from one to the other."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from msgspec import structs

from invitree.base.settings import Settings
from tests.service.postoffice import PostOffice, post_office


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Any]:
    """A connection to a database without jobs."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_statistics")
    yield connection
    await connection.close()


@pytest.fixture
def office() -> PostOffice:
    """A mail server that is not open yet."""
    return post_office()


@pytest.fixture
def mailing(settings: Settings, office: PostOffice) -> Settings:
    """Settings that lead to the mail server."""
    return structs.replace(settings, smtp_url=f"smtp://127.0.0.1:{office.port}")
