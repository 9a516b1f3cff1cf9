"""Sign-ups, mails, lookups and checks are limited, by whoever does them and by what they are aimed at."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from itertools import count

import httpx
import pytest
from msgspec import structs

from invitree.app import open_resources
from invitree.base.problems import TooManyRequests
from invitree.base.settings import Settings
from invitree.kit.context import AppContext
from invitree.kit.limits.rate_limiter import RateLimiter, limit
from tests.cast import PASSWORD, Cast, in_days, refused
from tests.throttles.conftest import most

_numbers = count(1)


@pytest.fixture
def ip() -> dict[str, str]:
    """The header of a client that nobody else is."""
    return {"X-Forwarded-For": f"198.51.100.{next(_numbers)}"}


def somebody() -> dict[str, str]:
    """Return a sign-up that is not taken."""
    name = f"throttled{next(_numbers)}"
    return {"email": f"{name}@example.com", "username": name, "password": PASSWORD}


async def test_sign_ups_are_limited_by_client(client: httpx.AsyncClient, ip: dict[str, str], ctx: AppContext) -> None:
    for left in reversed(range(most("limit_register"))):
        answer = await client.post("/auth/users/", json=somebody(), headers=ip)
        assert answer.status_code == 201
        assert answer.headers["ratelimit"].startswith(f'"register";r={left};t=')
    before = await ctx.db.fetchval("SELECT count(*) FROM users")
    refused(await client.post("/auth/users/", json=somebody(), headers=ip), 429, "too_many_requests")
    assert await ctx.db.fetchval("SELECT count(*) FROM users") == before


def elsewhere() -> dict[str, str]:
    """Return the header of a client in a network of its own."""
    return {"X-Forwarded-For": f"10.0.{next(_numbers)}.1"}


@pytest.mark.parametrize("route", ["reset_password", "reset_username"])
async def test_mails_to_one_address_are_limited_by_client_and_from_anywhere(
    client: httpx.AsyncClient, cast: Cast, ip: dict[str, str], route: str
) -> None:
    ann, number = await cast.member(), count()

    async def ask(header: dict[str, str]) -> int:
        email = ann.email.replace("@", f"+{next(number)}@")
        return (await client.post(f"/auth/users/{route}/", json={"email": email}, headers=header)).status_code

    by_client, anywhere = most("limit_mail_by_target"), most("limit_mail_to_target")
    assert [await ask(ip) for _ in range(by_client + 1)] == [204] * by_client + [429]
    seen = [await ask(elsewhere()) for _ in range(anywhere - by_client + 1)]
    assert seen == [204] * (anywhere - by_client) + [429]


async def test_mails_are_limited_by_client_whatever_the_target(client: httpx.AsyncClient, ip: dict[str, str]) -> None:
    seen = []
    for number in range(most("limit_mail_by_ip") + 1):
        body = {"email": f"target{number}-{ip['X-Forwarded-For']}@example.com"}
        seen.append((await client.post("/auth/users/reset_password/", json=body, headers=ip)).status_code)
    assert seen == [204] * most("limit_mail_by_ip") + [429]


async def test_known_and_unknown_targets_are_limited_alike(client: httpx.AsyncClient, cast: Cast) -> None:
    ann = await cast.member()
    answers = {}
    for email in (ann.email, "nobody-at-all@example.com"):
        header = {"X-Forwarded-For": f"192.0.2.{next(_numbers)}"}
        answers[email] = [
            (answer.status_code, answer.content, answer.headers.get("ratelimit", "").partition(";t=")[0])
            for _ in range(most("limit_mail_by_target"))
            for answer in [await client.post("/auth/users/reset_password/", json={"email": email}, headers=header)]
        ]
    known, unknown = answers.values()
    assert known == unknown


async def test_a_mail_that_is_refused_is_not_sent(
    client: httpx.AsyncClient, cast: Cast, ip: dict[str, str], ctx: AppContext
) -> None:
    ann = await cast.member()
    before = await ctx.db.fetchval("SELECT count(*) FROM pgqueuer")
    for _ in range(5):
        await client.post("/auth/users/reset_password/", json={"email": ann.email}, headers=ip)
    after = await ctx.db.fetchval("SELECT count(*) FROM pgqueuer")
    assert after - before == most("limit_mail_by_target")


async def test_lookups_are_limited_by_caller_hits_and_misses_alike(client: httpx.AsyncClient, cast: Cast) -> None:
    ann, bob, cid = await cast.member(), await cast.member(), await cast.member()
    await cast.code(bob)
    seen = []
    for number in range(most("limit_lookup") + 2):
        email = bob.email if number % 2 else f"missing{number}@example.com"
        answer = await client.get(f"/api/referral_codes/get/{email}/", headers=ann.headers)
        seen.append(answer.status_code)
    assert seen == [404, 200, 404, 200, 404, 429, 429], "also for an address that is in the cache"
    assert (await client.get(f"/api/referral_codes/get/{bob.email}/", headers=cid.headers)).status_code == 200


async def test_many_lookups_of_somebody_stop_nobody_else(client: httpx.AsyncClient, cast: Cast) -> None:
    bob = await cast.member()
    await cast.code(bob)
    path = f"/api/referral_codes/get/{bob.email}/"
    for flooding in [await cast.member() for _ in range(3)]:
        for _ in range(most("limit_lookup") + 1):
            answer = await client.get(path, headers=flooding.headers)
        assert answer.status_code == 429
    assert (await client.get(path, headers=(await cast.member()).headers)).status_code == 200
    assert (await client.get(path, headers=bob.headers)).status_code == 200


async def test_checks_are_limited_by_client(client: httpx.AsyncClient, ip: dict[str, str]) -> None:
    seen = [
        (await client.get(f"/api/referral_codes/check/AAAAAAAAA{number}/", headers=ip)).status_code
        for number in range(most("limit_check") + 1)
    ]
    assert seen == [200] * most("limit_check") + [429]


async def test_programs_do_not_share_counts(client: httpx.AsyncClient, cast: Cast, ip: dict[str, str]) -> None:
    other = await cast.stranger()
    slug = await _slug_of(cast, other.program_id)
    for _ in range(most("limit_check") + 1):
        answer = await client.get("/api/referral_codes/check/AAAAAAAAAA/", headers=ip)
    assert answer.status_code == 429
    elsewhere = await client.get("/api/referral_codes/check/AAAAAAAAAA/", headers={**ip, "X-Program": slug})
    assert elsewhere.status_code == 200


async def _slug_of(cast: Cast, program_id: int) -> str:
    slug: str = await cast.ctx.db.fetchval("SELECT slug FROM programs WHERE id = $1", program_id)
    return slug


@pytest.fixture
async def processes(ctx: AppContext, settings: Settings) -> AsyncIterator[list[RateLimiter]]:
    """The throttles of two processes on one database."""
    async with open_resources(structs.replace(settings, throttle="on")) as other:
        yield [ctx.throttle, other.throttle]


async def test_two_processes_together_let_exactly_the_limit_through(
    processes: list[RateLimiter], ctx: AppContext
) -> None:
    for round_number in range(10):
        one = limit("test", "7/1h", "shared", str(round_number))
        another = limit("test_of_more", "1000/1h", "shared")

        async def charge(number: int, mine: object = one, more: object = another) -> bool:
            connection = _Connection()
            try:
                await processes[number % 2].charge(connection, 1, mine, more)  # type: ignore[arg-type]
            except TooManyRequests:
                return False
            return True

        passed = Counter(await asyncio.gather(*map(charge, range(64))))
        assert passed == {True: 7, False: 57}
    # Each of the 70 that passed added 3.6 seconds, of which some have gone by.
    added = await ctx.db.fetchval(
        """
        SELECT extract(epoch FROM clear_at - clock_timestamp())::float8 / 3.6
        FROM throttles WHERE scope = 'test_of_more'
        """
    )
    assert 60 < added <= 70, "what another limit refused is given back"


class _Connection:
    def __init__(self) -> None:
        self.scope: dict[str, object] = {}


async def test_a_count_runs_out_with_time(ctx: AppContext) -> None:
    one = limit("test", "2/1h", "patience")
    connection = _Connection()
    for _ in range(2):
        await ctx.throttle.charge(connection, 1, one)  # type: ignore[arg-type]
    with pytest.raises(TooManyRequests) as caught:
        await ctx.throttle.charge(connection, 1, one)  # type: ignore[arg-type]
    assert caught.value.retry_after_s in range(1790, 1801)
    await ctx.db.execute("UPDATE throttles SET clear_at = clear_at - interval '30 minutes' WHERE scope = 'test'")
    await ctx.throttle.charge(connection, 1, one)  # type: ignore[arg-type]
    with pytest.raises(TooManyRequests):
        await ctx.throttle.charge(connection, 1, one)  # type: ignore[arg-type]


async def test_a_change_of_address_counts_as_a_mail_to_the_new_one(client: httpx.AsyncClient, cast: Cast) -> None:
    ann, target = await cast.member(), f"new-home-{next(_numbers)}@example.com"
    seen = []
    for number in range(most("limit_mail_by_target") + 1):
        header = {"X-Forwarded-For": f"192.0.2.{next(_numbers)}"}
        body = {"new_email": target.replace("@", f"+{number}@"), "current_password": PASSWORD}
        answer = await client.post("/auth/users/set_email/", json=body, headers={**ann.headers, **header})
        seen.append(answer.status_code)
    assert seen == [204] * most("limit_mail_by_target") + [429]


async def test_nobody_can_fill_a_mailbox_by_changing_a_password_again_and_again(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    ann, passwords = await cast.member(), [PASSWORD, "staple battery horse correct"]
    seen = []
    for number in range(most("limit_mail_by_target") + 1):
        header = {"X-Forwarded-For": f"192.0.2.{next(_numbers)}"}
        body = {"current_password": passwords[number % 2], "new_password": passwords[1 - number % 2]}
        answer = await client.post("/auth/users/set_password/", json=body, headers={**ann.headers, **header})
        seen.append(answer.status_code)
    assert seen == [204] * most("limit_mail_by_target") + [429]


async def test_nor_by_signing_up_with_variants_of_its_address(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    await ctx.db.execute("INSERT INTO programs (slug, activation) VALUES ('strict', 'required')")
    seen = []
    for number in range(most("limit_mail_to_target") + 1):
        header = {**elsewhere(), "X-Program": "strict"}
        body = {"email": f"prey+{number}@example.com", "username": f"prey{number}", "password": PASSWORD}
        seen.append((await client.post("/auth/users/", json=body, headers=header)).status_code)
    assert seen == [201] * most("limit_mail_to_target") + [429]


async def test_codes_are_limited_by_who_creates_them(client: httpx.AsyncClient, cast: Cast) -> None:
    ann, body = await cast.member(), {"expiration_date": in_days(5)}
    path = "/api/referral_codes/create/?replace=true"
    seen = [(await client.post(path, json=body, headers=ann.headers)).status_code for _ in range(4)]
    assert seen == [201] * most("limit_create") + [429]
    assert (await client.post(path, json=body, headers=(await cast.member()).headers)).status_code == 201


async def test_refreshes_are_limited_by_session(client: httpx.AsyncClient, cast: Cast) -> None:
    ann = await cast.member()
    refresh, other = (await cast.pair(ann)).refresh, (await cast.pair(ann)).refresh
    for _ in range(most("limit_refresh")):
        answer = await client.post("/auth/jwt/refresh/", json={"refresh": refresh})
        refresh = answer.json()["refresh"]
    refused(await client.post("/auth/jwt/refresh/", json={"refresh": refresh}), 429, "too_many_requests")
    assert (await client.post("/auth/jwt/refresh/", json={"refresh": other})).status_code == 200
