"""Lookups and checks, which are counted in memory, on the short way and on the framework's."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count as numbers
from itertools import cycle

import httpx
import pytest

from invitree.app import open_resources
from invitree.kit.context import AppContext
from tests.cast import Cast, Person, refused
from tests.conftest import client_for
from tests.throttles.conftest import most
from tests.waiting import eventually

LOOKUP, CHECK = "/api/referral_codes/get/", "/api/referral_codes/check/"
_numbers = numbers(1)


@pytest.fixture
def ip() -> dict[str, str]:
    """The header of a client that nobody else is."""
    return {"X-Forwarded-For": f"203.0.113.{next(_numbers)}"}


@pytest.fixture(scope="module")
async def bob(cast: Cast) -> Person:
    """Somebody with a code."""
    person = await cast.member()
    await cast.code(person)
    return person


@pytest.fixture(scope="module")
async def other(ctx: AppContext) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another process on the same database."""
    async with open_resources(ctx.settings) as opened, client_for(opened) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
async def connected(ctx: AppContext) -> None:
    """Make every connection before many ask at once: who waits a second for one gets a 503, whatever the limits say."""

    async def are_made() -> bool:
        asked = (ctx.db.execute("SELECT pg_sleep(0.05)") for _ in range(ctx.settings.pool_size))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return not any(isinstance(answer, TimeoutError) for answer in answers)

    await eventually(are_made)


def used(ctx: AppContext, scope: str, key: str) -> int:
    """Return how many uses of a limit are counted."""
    count = ctx.tally._counts.get((1, scope, key))
    return 0 if count is None else round((count.clear_at - ctx.tally._now()) / 60 * most(f"limit_{scope}") + 0.3)


async def code_of(ctx: AppContext, person: Person) -> str:
    """Return the live code of a person."""
    code: str = await ctx.db.fetchval("SELECT code FROM codes WHERE user_id = $1 AND revoked_at IS NULL", person.id)
    return code


async def test_of_64_lookups_at_once_exactly_the_limit_passes(
    client: httpx.AsyncClient, long_way: httpx.AsyncClient, cast: Cast
) -> None:
    """Found in memory, found in the database and not found, whatever way they take."""
    targets = [await cast.member() for _ in range(8)]
    for one in targets:
        await cast.code(one)
    emails = [one.email for one in targets] + [f"nobody{number}@example.com" for number in range(8)]
    for ways in ([client], [long_way], [client, long_way]):
        ann = await cast.member()
        asked = zip(range(64), cycle(ways), cycle(emails), strict=False)
        answers = await asyncio.gather(*(way.get(f"{LOOKUP}{email}/", headers=ann.headers) for _, way, email in asked))
        passed = Counter(answer.status_code for answer in answers)
        assert passed[200] + passed[404] == most("limit_lookup")
        assert passed[429] == 64 - most("limit_lookup")


async def test_of_64_checks_at_once_exactly_the_limit_passes(
    client: httpx.AsyncClient, long_way: httpx.AsyncClient, ctx: AppContext, bob: Person
) -> None:
    code = await code_of(ctx, bob)
    for ways in ([client], [long_way], [client, long_way]):
        ip = {"X-Forwarded-For": f"203.0.113.{next(_numbers)}"}
        asked = zip(range(64), cycle(ways), cycle([code, "AAAAAAAAAA", code.lower()]), strict=False)
        answers = await asyncio.gather(*(way.get(f"{CHECK}{text}/", headers=ip) for _, way, text in asked))
        assert Counter(answer.status_code for answer in answers) == {200: most("limit_check"), 429: 60}


async def test_a_request_counts_once_whatever_way_it_takes(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, bob: Person, ip: dict[str, str]
) -> None:
    """Also one that is refused on the short way and then by the route."""
    ann, address, code = await cast.member(), ip["X-Forwarded-For"], await code_of(ctx, bob)
    for number in range(1, most("limit_lookup") + 4):
        path = f"{LOOKUP}{bob.email if number % 2 else 'nobody@example.com'}/"
        await client.get(path, headers=ann.headers)
        assert used(ctx, "lookup", str(ann.id)) == min(number, most("limit_lookup"))
    for number in range(1, most("limit_check") + 4):
        await client.get(f"{CHECK}{code if number % 2 else 'AAAAAAAAAA'}/", headers=ip)
        assert used(ctx, "check", address) == min(number, most("limit_check"))


@pytest.mark.parametrize("first_way", [0, 1])
async def test_both_ways_tell_the_same_of_what_is_left(
    client: httpx.AsyncClient, long_way: httpx.AsyncClient, ctx: AppContext, cast: Cast, first_way: int
) -> None:
    ways, bob = [client, long_way], await cast.member()
    code = await cast.code(bob)
    for path, limit in ((f"{LOOKUP}{bob.email}/", "lookup"), (f"{CHECK}{code}/", "check")):
        seen = []
        ann = await cast.member()
        sent = {**ann.headers, "X-Forwarded-For": f"203.0.113.{next(_numbers)}"}
        for number in range(most(f"limit_{limit}")):
            answer = await ways[(first_way + number) % 2].get(path, headers=sent)
            assert answer.status_code == 200
            assert answer.headers["ratelimit-policy"] == f'"{limit}";q={most(f"limit_{limit}")};w=60'
            seen.append(answer.headers["ratelimit"].partition(";t=")[0])
            await ctx.tally.sync()
        assert seen == [f'"{limit}";r={left}' for left in reversed(range(most(f"limit_{limit}")))]
        refusals = [await way.get(path, headers=sent) for way in ways]
        for answer in refusals:
            refused(answer, 429, "too_many_requests")
            assert answer.headers["ratelimit"].startswith(f'"{limit}";r=0;t=')
            assert 1 <= int(answer.headers["retry-after"]) <= 60 / most(f"limit_{limit}")
        one, another = ({**answer.headers, "x-request-id": "", "content-length": ""} for answer in refusals)
        for headers in (one, another):
            for name in ("retry-after", "ratelimit"):  # a second may have passed
                headers[name] = ""
        assert one == another


async def test_another_process_soon_knows(
    client: httpx.AsyncClient, other: httpx.AsyncClient, cast: Cast, bob: Person
) -> None:
    ann = await cast.member()
    path = f"{LOOKUP}nobody@example.com/"
    for _ in range(most("limit_lookup")):
        assert (await client.get(path, headers=ann.headers)).status_code == 404
    passed = 0
    async with asyncio.timeout(20):
        while (await other.get(path, headers=ann.headers)).status_code == 404:
            passed += 1
            await asyncio.sleep(0.6)
    assert passed < most("limit_lookup")
