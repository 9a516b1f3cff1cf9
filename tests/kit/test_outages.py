"""The database away, full or slow: a 503 that says when to retry, and a connection that is good again afterwards."""

import asyncio

import asyncpg
import httpx
import pytest

from invitree.base.settings import Settings
from invitree.kit.context import AppContext
from tests.cast import Cast, in_days, refused
from tests.conftest import SECRET


@pytest.fixture(scope="module")
def settings(database_url: str) -> Settings:
    """A process with a single connection, which a test can take away."""
    return Settings(database_url=database_url, secret_key=SECRET, workers=1, pool_size=1)


async def test_an_exhausted_pool_is_a_503(client: httpx.AsyncClient, ctx: AppContext, cast: Cast) -> None:
    alice = await cast.member()
    async with ctx.db.transaction():
        answer = await client.get("/auth/users/me/", headers=alice.headers)
        ready = await client.get("/readyz")
        alive = await client.get("/healthz")
    refused(answer, 503, "unavailable")
    refused(ready, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert alive.status_code == 200
    assert (await client.get("/auth/users/me/", headers=alice.headers)).status_code == 200


async def test_a_lock_that_is_not_granted_is_a_503_and_nothing_written(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, database_url: str
) -> None:
    alice = await cast.member()
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", alice.id)
        body = {"expiration_date": in_days(9)}
        answer = await client.post("/api/referral_codes/", json=body, headers=alice.headers)
    refused(answer, 503, "unavailable")
    assert await other.fetchval("SELECT count(*) FROM codes WHERE user_id = $1", alice.id) == 0
    await other.close()
    assert (await client.post("/api/referral_codes/", json=body, headers=alice.headers)).status_code == 201


async def test_a_connection_cut_amid_a_request_is_a_503_and_replaced(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, database_url: str
) -> None:
    alice = await cast.member()
    other = await asyncpg.connect(database_url)
    async with other.transaction():
        await other.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", alice.id)
        body = {"expiration_date": in_days(9)}
        waiting = asyncio.create_task(client.post("/api/referral_codes/", json=body, headers=alice.headers))
        await asyncio.sleep(0.3)
        ended = await other.fetch(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND application_name = 'invitree'
            """
        )
        refused(await waiting, 503, "unavailable")
    await other.close()
    assert len(ended) == 1
    assert (await client.get("/auth/users/me/", headers=alice.headers)).status_code == 200


async def test_a_client_that_hangs_up_leaves_a_clean_connection(
    client: httpx.AsyncClient, cast: Cast, database_url: str
) -> None:
    alice = await cast.member()
    for delay in range(12):
        going = asyncio.create_task(
            client.post(
                "/api/referral_codes/",
                json={"expiration_date": in_days(9)},
                params={"replace": True},
                headers=alice.headers,
            )
        )
        await asyncio.sleep(delay / 2000)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
    assert (await client.get("/auth/users/me/", headers=alice.headers)).status_code == 200
    other = await asyncpg.connect(database_url)
    states = await other.fetch(
        "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'invitree'"
    )
    await other.close()
    assert [row["state"] for row in states] == ["idle"], "no transaction is left open"
