"""Codes that read alike: each is found by its exact spelling, and by another only if no other can be meant."""

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import httpx
import pytest

from invitree.base.problems import InvalidInput
from invitree.identity.programs.actions import get_program
from invitree.kit.context import AppContext
from invitree.sharing.codes import store
from invitree.sharing.codes.actions import OWNERS, TOPIC
from tests.cast import Cast, Person, new_user, refused, sign_up
from tests.races.stage import until_it_waits

_numbers = count(1)


class Twins(NamedTuple):
    """Two people whose codes read alike, and three ways to spell these: two are theirs, one is nobody's."""

    one: Person
    other: Person
    of_one: str
    of_other: str
    of_nobody: str


@pytest.fixture
async def twins(ctx: AppContext, cast: Cast) -> Twins:
    """Two imported codes, both alive."""
    rest = f"A{next(_numbers)}".translate(str.maketrans("01", "XY"))
    made = Twins(await cast.member(), await cast.member(), f"LOO{rest}", f"10O{rest}", f"I00{rest}")
    await has(ctx, made.one, made.of_one)
    await has(ctx, made.other, made.of_other)
    return made


async def has(ctx: AppContext, person: Person, code: str, *, expires_in: str = "9 days") -> None:
    """Give a person a code as an import does."""
    await ctx.db.execute(
        """
        INSERT INTO codes (program_id, user_id, code, created_at, expires_at)
        VALUES ($1, $2, $3, now() - interval '1 year', now() + $4::text::interval)
        """,
        person.program_id,
        person.id,
        code,
        expires_in,
    )


async def referrer_by(client: httpx.AsyncClient, ctx: AppContext, code: str) -> int | None:
    """Return whom a code stands for: to the check, asked twice, and to a sign-up, which must agree with it."""
    checks = [(await client.get(f"/api/referral_codes/check/{code}/")).json()["valid"] for _ in range(2)]
    name = f"friend{next(_numbers)}"
    body = {"email": f"{name}@example.com", "username": name, "password": "correct horse battery"}
    answer = await client.post("/auth/users/", json={**body, "referral_code": code})
    if answer.status_code != 201:
        refused(answer, 400, "invalid_input", referral_code=["This referral code is not valid."])
        assert checks == [False, False]
        return None
    assert checks == [True, True]
    found: int = await ctx.db.fetchval("SELECT referrer_id FROM referrals WHERE referee_id = $1", answer.json()["id"])
    return found


@pytest.fixture(params=["from memory", "from the database"], autouse=True)
def memory(request: pytest.FixtureRequest, ctx: AppContext) -> Iterator[None]:
    """Memory as it is, and closed."""
    if request.param == "from memory":
        yield
        return
    for topic in (OWNERS, TOPIC):
        ctx.caches[topic].close()
    yield
    for topic in (OWNERS, TOPIC):
        ctx.caches[topic].open()


async def test_each_is_found_by_its_exact_spelling(client: httpx.AsyncClient, ctx: AppContext, twins: Twins) -> None:
    assert await referrer_by(client, ctx, twins.of_one) == twins.one.id
    assert await referrer_by(client, ctx, twins.of_other.lower()) == twins.other.id


async def test_a_spelling_of_neither_finds_neither(client: httpx.AsyncClient, ctx: AppContext, twins: Twins) -> None:
    assert await referrer_by(client, ctx, twins.of_nobody) is None


@pytest.mark.parametrize("how", ["deleted", "expired", "deactivated"])
async def test_a_dead_one_does_not_hide_the_other(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, twins: Twins, how: str
) -> None:
    await end(cast, twins.one, how)
    assert await referrer_by(client, ctx, twins.of_nobody) == twins.other.id
    assert await referrer_by(client, ctx, twins.of_other) == twins.other.id


@pytest.mark.parametrize("how", ["deleted", "expired", "deactivated"])
async def test_the_exact_spelling_of_a_dead_one_does_not_count_for_the_other(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, twins: Twins, how: str
) -> None:
    await client.get(f"/api/referral_codes/check/{twins.of_one}/")  # it is in memory
    await end(cast, twins.one, how)
    assert await referrer_by(client, ctx, twins.of_one) is None


async def end(cast: Cast, person: Person, how: str) -> None:
    """End a person's code."""
    await {"deleted": cast.delete_code, "expired": cast.expire_code, "deactivated": cast.deactivate}[how](person)


async def test_many_dead_ones_do_not_hide_the_living(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, twins: Twins
) -> None:
    await cast.delete_code(twins.one)
    for spelling in ("LO0", "IOO", "L0O", "1OO"):
        await has(ctx, await cast.member(), spelling + twins.of_one[3:], expires_in="-1 days")
    assert await referrer_by(client, ctx, twins.of_nobody) == twins.other.id


async def test_a_look_alike_of_another_program_is_not_counted(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, twins: Twins
) -> None:
    await cast.delete_code(twins.one)
    await has(ctx, await cast.stranger(), twins.of_one)
    assert await referrer_by(client, ctx, twins.of_nobody) == twins.other.id


async def test_a_new_code_does_not_read_like_one_that_the_program_has(
    ctx: AppContext, cast: Cast, twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cast.delete_code(twins.one)
    read_alike, fresh = twins.of_one.translate(str.maketrans("OIL", "011")), f"FRESH{next(_numbers)}"
    monkeypatch.setattr("invitree.sharing.codes.actions.candidates", lambda _length: iter([read_alike, fresh]))
    assert await cast.code(twins.one) == fresh


async def test_a_sign_up_that_waits_for_the_only_one_to_be_deleted_is_refused(
    ctx: AppContext, cast: Cast, twins: Twins
) -> None:
    await cast.delete_code(twins.one)
    program = await get_program(ctx, twins.one.program_id)
    async with ctx.db.transaction() as tx:
        assert await store.revoke(tx, program_id=program.id, user_id=twins.other.id)
        waiting = asyncio.create_task(sign_up(ctx, program=program, new_user=new_user(), referral_code=twins.of_nobody))
        await until_it_waits(ctx, waiting)
    with pytest.raises(InvalidInput):
        await waiting


async def test_a_sign_up_that_waits_for_one_of_two_to_be_deleted_gets_the_other(
    ctx: AppContext, cast: Cast, twins: Twins
) -> None:
    program = await get_program(ctx, twins.one.program_id)
    async with ctx.db.transaction() as tx:
        assert await store.revoke(tx, program_id=program.id, user_id=twins.one.id)
        waiting = asyncio.create_task(sign_up(ctx, program=program, new_user=new_user(), referral_code=twins.of_nobody))
        await until_it_waits(ctx, waiting)
    user = await waiting
    found = await ctx.db.fetchval("SELECT referrer_id FROM referrals WHERE referee_id = $1", user.id)
    assert found == twins.other.id
