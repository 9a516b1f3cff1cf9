"""bench/data.py and bench/floor.py: the people that are copied in, and the bare answers about them."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from bench import floor
from bench.data import Sizes, code_of, email_of, fill, token_of
from invitree.kit.context import AppContext
from tests.cast import Cast
from tests.databases import broken_invariants

SIZES = Sizes(people=30, referrals=200)


@pytest.fixture(scope="module")
async def filled(database_url: str, ctx: AppContext) -> dict[str, int]:
    """How many rows each table got."""
    told: dict[str, int] = {}

    def advance(table: str, actor: int, total: int) -> None:
        told[table] = told.get(table, 0) + actor
        assert told[table] <= total

    await fill(as_superuser(database_url), SIZES, keys=ctx.keys, advance=advance)
    return told


async def test_benchmark_data_is_complete_and_breaks_no_invariant(
    filled: dict[str, int], ctx: AppContext, database_url: str
) -> None:
    assert filled == {"users": 230, "codes": 30, "referrals": 200, "sessions": 230}
    counted = {table: await ctx.db.fetchval(f"SELECT count(*) FROM {table}") for table in filled}
    assert counted == filled
    assert await broken_invariants(database_url) == []
    star = await ctx.db.fetchval("SELECT count(*) FROM referrals WHERE referrer_id = 1")
    assert star == SIZES.of_the_star == 40


async def test_the_next_user_gets_a_new_id(filled: dict[str, int], cast: Cast) -> None:
    assert (await cast.member()).id == 231


async def test_the_floor_gives_the_answers_of_the_service(
    filled: dict[str, int], ctx: AppContext, client: httpx.AsyncClient, bare: httpx.AsyncClient
) -> None:
    star = {"Authorization": f"Token {token_of(1)}"}
    lookup = await client.get(f"/api/referral_codes/get/{email_of(7)}/", headers=star)
    assert lookup.status_code == 200
    assert (await bare.get(f"/lookup/{email_of(7)}")).content == lookup.content
    check = await client.get(f"/api/referral_codes/check/{code_of(7)}/")
    assert check.json()["valid"]
    assert (await bare.get(f"/check/{code_of(7)}")).content == check.content
    page = await client.get("/api/users/1/", headers=star)
    assert len(page.json()) == 20
    assert (await bare.get("/referrals")).content == page.content
    after = page.json()[-1]["id"] - SIZES.people
    deeper = await client.get(f"/api/users/1/?after={after}", headers=star)
    assert (await bare.get(f"/referrals?after={after}")).content == deeper.content


async def test_the_floor_creates_and_deletes_codes_as_the_service_does(
    filled: dict[str, int], ctx: AppContext, bare: httpx.AsyncClient
) -> None:
    state = "SELECT count(*), count(revoked_at) FROM codes WHERE user_id = 100"
    assert (await bare.post("/code/100")).status_code == 201
    assert tuple(await ctx.db.fetchrow(state)) == (1, 0)
    assert (await bare.delete("/code/100")).status_code == 204
    assert tuple(await ctx.db.fetchrow(state)) == (1, 1)
    kinds = await ctx.db.fetch("SELECT kind FROM audit WHERE user_id = 100 ORDER BY id")
    assert [row["kind"] for row in kinds] == ["code.created", "code.deleted"]


@pytest.fixture
async def bare(ctx: AppContext, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the floor."""
    monkeypatch.setenv("INVITREE_DATABASE_URL", ctx.settings.database_url)

    async def start() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def started(_message: Any) -> None:
        """Nobody has to know."""

    await floor.app({"type": "lifespan"}, start, started)
    transport = httpx.ASGITransport(app=floor.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://floor.test") as opened:
        yield opened
    await floor._pools.pop().close()


def as_superuser(url: str) -> str:
    """Return the URL of the same database for the superuser."""
    return url.replace("://invitree@", "://postgres@", 1)


def test_codes_are_scattered_and_never_twice_the_same() -> None:
    codes = [code_of(number) for number in range(1, 100_001)]
    assert len(set(codes)) == len(codes)
    assert {len(code) for code in codes} == {10}
