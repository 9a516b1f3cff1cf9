"""Requests to the service while its database is migrated from the last revision that it can work with."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from invitree.migrations import HEAD
from invitree.migrations.upgrade import upgrade
from tests.cast import PASSWORD, Cast
from tests.databases import database, execute, fill
from tests.migrations.load import Load

_OLDEST = "0009"


@pytest.fixture(scope="module")
async def database_url(postgres: str) -> AsyncIterator[str]:
    """The URL of a database of that revision."""
    if HEAD == _OLDEST:
        pytest.skip("there is no migration since the revision that this version needs at least")
    async with database(postgres) as url:
        await asyncio.to_thread(upgrade, url, to=_OLDEST)
        await fill(url, users=10_000, at=_OLDEST)
        yield url


async def test_no_request_fails(client: httpx.AsyncClient, cast: Cast, database_url: str) -> None:
    anna = await cast.member()
    code = await cast.code(anna)
    headers = anna.headers

    async def expect(status: int, method: str, path: str, **how: object) -> None:
        answer = await client.request(method, path, **how)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text

    async def sign_up(number: int) -> None:
        body = {"email": f"friend{number}@example.com", "username": f"friend{number}", "password": PASSWORD}
        await expect(201, "POST", "/auth/users/", json={**body, "referral_code": code})

    async def log_in(number: int) -> None:
        body = {"email": anna.email, "password": "not this one"}
        await expect(400, "POST", "/auth/token/login/", json=body)

    async def look(number: int) -> None:
        await expect(200, "GET", f"/api/users/{anna.id}/", headers=headers)

    async def mint(number: int) -> None:
        body = {"expiration_date": "2999-01-01"}
        await expect(400, "POST", "/api/referral_codes/create/", json=body, headers=headers)

    load = Load(sign_up, log_in, look, mint)
    async with load.going_on():
        await asyncio.to_thread(upgrade, database_url)
    assert load.failures == []
    assert load.done > 10
    assert await execute(database_url, "SELECT version_num FROM alembic_version") == HEAD
