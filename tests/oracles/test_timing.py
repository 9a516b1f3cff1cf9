"""What is the same for everybody takes the same time for everybody.

Ranks of interleaved samples are compared (Mann and Whitney, 1947), not times: whatever else the machine does, it does
to all alike. A deviation of six is met by chance once in a billion runs.
"""

import math
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import combinations

import httpx

from invitree.identity.programs.store import find_program_by_slug
from invitree.kit.context import AppContext
from tests.cast import Cast

SAMPLES = 500
TOLERATED = 6.0
Ask = Callable[[], Awaitable[httpx.Response]]


async def compare(cases: Mapping[str, Ask], *, samples: int = SAMPLES) -> None:
    """Ask every case so often, in random order, and check that neither bytes nor times tell them apart."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    answers: dict[str, set[tuple[int, bytes]]] = {name: set() for name in cases}
    order = list(cases)
    for ask in list(cases.values()) * 5:
        await ask()  # connections, caches and prepared statements, for all alike
    for _ in range(samples):
        random.shuffle(order)
        for name in order:
            began = time.perf_counter()
            answer = await cases[name]()
            seconds[name].append(time.perf_counter() - began)
            answers[name].add((answer.status_code, _without_trace(answer)))
    assert len(set.union(*answers.values())) == 1, "the bytes differ"
    for one, other in combinations(cases, 2):
        assert abs(deviation(seconds[one], seconds[other])) < TOLERATED, f"{one} and {other} are told apart"


def _without_trace(answer: httpx.Response) -> bytes:
    return answer.content.replace(answer.headers["x-request-id"].encode(), b"")


def deviation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return by how many standard deviations the ranks of two samples differ from those of the same thing."""
    ranked = sorted([(value, 0) for value in one] + [(value, 1) for value in other])
    ranks = sum(rank for rank, (_, which) in enumerate(ranked, start=1) if which == 0)
    expected = len(one) * (len(ranked) + 1) / 2
    return (ranks - expected) / math.sqrt(len(one) * len(other) * (len(ranked) + 1) / 12)


def test_the_comparison_tells_what_differs_by_half_a_deviation() -> None:
    one = [random.gauss(0, 1) for _ in range(SAMPLES)]
    assert abs(deviation(one, [random.gauss(0, 1) for _ in range(SAMPLES)])) < TOLERATED
    assert abs(deviation(one, [random.gauss(0.6, 1) for _ in range(SAMPLES)])) > TOLERATED


def log_in(client: httpx.AsyncClient, email: str) -> Ask:
    """Return what tries to log in with a wrong password."""
    body = {"email": email, "password": "a wrong password"}
    return lambda: client.post("/auth/token/login/", json=body)


async def test_a_login_tells_nobody_apart(client: httpx.AsyncClient, cast: Cast) -> None:
    known, inactive = await cast.member(), await cast.member()
    await cast.deactivate(inactive)

    cases = {"known": known.email, "inactive": inactive.email, "unknown": "nobody0@example.com"}
    await compare({name: log_in(client, email) for name, email in cases.items()})


async def test_a_reset_tells_nobody_apart(client: httpx.AsyncClient, cast: Cast) -> None:
    known = await cast.member()

    def reset(email: str) -> Ask:
        return lambda: client.post("/auth/users/reset_password/", json={"email": email})

    await compare({"known": reset(known.email), "unknown": reset("nobody0@example.com")})


async def test_asking_for_another_link_tells_nobody_apart(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    await ctx.db.execute("INSERT INTO programs (slug, activation) VALUES ('strict', 'required')")
    program = await find_program_by_slug(ctx.db, slug="strict")
    confirmed, waiting = await cast.member(program=program), await cast.member(program=program)
    await ctx.db.execute("UPDATE users SET confirmed_at = now() WHERE id = $1", confirmed.id)

    def resend(email: str) -> Ask:
        return lambda: client.post(
            "/auth/users/resend_activation/", json={"email": email}, headers={"X-Program": "strict"}
        )

    await compare(
        {
            "confirmed": resend(confirmed.email),
            "waiting": resend(waiting.email),
            "unknown": resend("nobody00@example.com"),
        }
    )


async def test_a_lookup_tells_nobody_apart_who_has_no_code(client: httpx.AsyncClient, cast: Cast) -> None:
    caller, without, deleted = await cast.member(), await cast.member(), await cast.member()
    await cast.code(deleted)
    await cast.delete_code(deleted)

    def look_up(email: str) -> Ask:
        return lambda: client.get(f"/api/referral_codes/get/{email}/", headers=caller.headers)

    await compare(
        {
            "without": look_up(without.email),
            "deleted": look_up(deleted.email),
            "unknown": look_up("nobody00@example.com"),
        }
    )
