"""express.py: the short way gives, to the byte, the answers of the framework, whatever is in memory."""

from typing import Any

import asyncpg
import httpx
import pytest

from invitree.app import create_app, front
from invitree.fastpath import fast_routes
from invitree.kit.context import AppContext
from tests.auth.test_sessions import set_back
from tests.cast import Cast, Person, in_days


@pytest.fixture(scope="module")
async def alice(cast: Cast) -> Person:
    """Somebody with a code, who has brought 25 others; and the codes of people whose addresses look like paths."""
    for name in ("/slashed", "sla//shed", "sla/shed", "slashed"):
        await cast.code(await cast.member(email=f"{name}@example.com"))
    person = await cast.member()
    code = await cast.code(person)
    for _ in range(25):
        await cast.member(referral_code=code)
    return person


def told(answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return all of an answer but the name of the request."""
    trace = answer.headers["x-request-id"]
    headers = sorted((name, value) for name, value in answer.headers.items() if name != "x-request-id")
    return answer.status_code, headers, answer.content.replace(trace.encode(), b"-")


def forget_everything(ctx: AppContext) -> None:
    """Empty every memory."""
    for cache in ctx.caches.values():
        cache.clear()


LOOKUP, CHECK, LIST = "/api/referral_codes/get/", "/api/referral_codes/check/", "/api/users/"
PATHS = [
    LOOKUP + "{email}/",
    LOOKUP + "{email}",
    LOOKUP + "{email}//",
    LOOKUP + "/{email}/",
    LOOKUP + "{email}/?x=1",
    LOOKUP + "a/{email}/",
    LOOKUP + "{EMAIL}/",
    LOOKUP + "/slashed@example.com/",
    LOOKUP + "sla//shed@example.com/",
    LOOKUP + "sla/shed@example.com/",
    LOOKUP + "%2540{email}/",
    LOOKUP + "%20{email}%20/",
    LOOKUP + "nobody@example.com/",
    LOOKUP + "no-address/",
    LOOKUP + "%FF/",
    LOOKUP + "%00/",
    LOOKUP,
    LOOKUP.rstrip("/"),
    CHECK + "{code}/",
    CHECK + "{code}",
    CHECK + "{CODE_IN_SMALL}/",
    CHECK + "%20{code}%E2%80%8B./",
    CHECK + "%C2%AB{CODE_IN_SMALL}%C2%BB",
    CHECK + "{CODE_SPACED}/",
    CHECK + "{CODE_IN_FULL_WIDTH}/",
    CHECK + "{code}%2F/",
    CHECK + "{code}%3F/",
    CHECK + "AAAAAAAAAA/",
    CHECK + "a/b/",
    CHECK + "//",
    CHECK,
    LIST + "{id}/",
    LIST + "{id}",
    LIST + "{id}/?limit=7",
    LIST + "{id}/?limit=7&after={middle}",
    LIST + "{id}/?after={middle}",
    LIST + "{id}/?after={middle}&limit=7",
    LIST + "{id}/?&after={middle}",
    LIST + "{id}/?limit=7after={middle}",
    LIST + "{id}/?limit=7&after={middle}&limit=8",
    LIST + "{id}/?limit=100",
    LIST + "{id}/?limit=101",
    LIST + "{id}/?limit=0",
    LIST + "{id}/?limit=07",
    LIST + "{id}/?limit=",
    LIST + "{id}/?limit=%37",
    LIST + "{id}/?after=0",
    LIST + "{id}/?after=-1",
    LIST + "{id}/?after=9007199254740991",
    LIST + "{id}/?after=9007199254740992",
    LIST + "{id}/?x=1",
    LIST + "+{id}/",
    LIST + "0{id}/",
    LIST + "{id}_0/",
    LIST + "0/",
    LIST + "-1/",
    LIST + "9007199254740992/",
    LIST + "99999999999999999999/",
    LIST + "4000000/",
    LIST + "{id}/referrer/",
    LIST + "{id}/x/",
    LIST,
    "/auth/users/me/",
    "/auth/users/me",
    "/auth/users/me/?x=1",
    "/auth/users/me//",
    "/auth/users/me/events/",
    "/auth/users/meow/",
    "/auth/users/{id}/",
]


WHO = [
    "herself",
    "another",
    "of another program",
    "nobody",
    "wrong",
    "two",
    "none and one",
    "one and none",
    "named program",
]
# Each spelling of a path by whom it is for, and everybody on a path of each route.
ONE_OF_EACH = [LOOKUP + "{email}/", CHECK + "{code}/", LIST + "{id}/", "/auth/users/me/"]
CASES = [(path, "nobody" if path.startswith(CHECK) else "herself") for path in PATHS]
CASES += [(path, who) for path in ONE_OF_EACH for who in WHO if (path, who) not in CASES]


def test_every_short_way_is_compared(ctx: AppContext) -> None:
    prefixes = {route.prefix.rstrip("/") for route in fast_routes(create_app(ctx.settings))}
    assert prefixes == {path.partition("{")[0].rstrip("/") for path in ONE_OF_EACH}


@pytest.mark.parametrize(("path", "who"), CASES)
async def test_both_ways_give_the_same_answer(
    client: httpx.AsyncClient,
    long_way: httpx.AsyncClient,
    ctx: AppContext,
    cast: Cast,
    people: dict[str, Person],
    alice: Person,
    path: str,
    who: str,
) -> None:
    code = await ctx.db.fetchrow("SELECT code FROM codes WHERE user_id = $1 AND revoked_at IS NULL", alice.id)
    middle = await ctx.db.fetchval(
        "SELECT id FROM referrals WHERE referrer_id = $1 ORDER BY id DESC OFFSET 12 LIMIT 1", alice.id
    )
    url = path.format(
        email=alice.email,
        EMAIL=alice.email.upper(),
        code=code["code"],
        CODE_IN_SMALL=code["code"].lower(),
        CODE_SPACED="%20".join(code["code"]),
        CODE_IN_FULL_WIDTH="".join(chr(ord(letter) + 0xFEE0) for letter in code["code"]),
        id=alice.id,
        middle=middle,
    )
    match who:
        case "nobody":
            headers = httpx.Headers()
        case "wrong":
            headers = httpx.Headers({"Authorization": "Token 1.nonsense"})
        case "two":
            token = alice.headers["Authorization"]
            headers = httpx.Headers([("Authorization", "Token 1.nonsense"), ("Authorization", token)])
        case "none and one":
            headers = httpx.Headers([("Authorization", ""), ("Authorization", alice.headers["Authorization"])])
        case "one and none":
            headers = httpx.Headers([("Authorization", alice.headers["Authorization"]), ("Authorization", "")])
        case "named program":
            headers = httpx.Headers({"X-Program": "nowhere"})
        case _:
            headers = httpx.Headers(people[who].headers)
    expected = told(await long_way.get(url, headers=headers))
    forget_everything(ctx)
    first, second = await client.get(url, headers=headers), await client.get(url, headers=headers)
    assert told(first) == expected
    assert told(second) == expected
    assert told(await long_way.get(url, headers=headers)) == expected


@pytest.fixture(scope="module")
async def people(cast: Cast, alice: Person) -> dict[str, Person]:
    """Who asks."""
    return {"herself": alice, "another": await cast.member(), "of another program": await cast.stranger()}


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "bad host"},
        {"Host": "invitree.test:80"},
        {"Host": "INVITREE.test"},
        {"Accept-Language": "ru"},
        {"X-Request-ID": "mine"},
        {"Accept": "text/html"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [CHECK + "AAAAAAAAAA/", LOOKUP + "nobody@example.com/", "/auth/users/me/"])
async def test_headers_mean_the_same(
    client: httpx.AsyncClient,
    long_way: httpx.AsyncClient,
    ctx: AppContext,
    alice: Person,
    path: str,
    headers: dict[str, str],
) -> None:
    for sent in (headers, {**headers, **alice.headers}):
        expected = told(await long_way.get(path, headers=sent))
        forget_everything(ctx)
        for _ in range(2):
            assert told(await client.get(path, headers=sent)) == expected


@pytest.mark.parametrize("hosts", [("one.test", "two.test"), ("two.test", "one.test"), ("", "one.test")])
async def test_of_two_hosts_both_ways_take_the_same(
    client: httpx.AsyncClient, long_way: httpx.AsyncClient, ctx: AppContext, cast: Cast, hosts: tuple[str, str]
) -> None:
    stranger = await cast.stranger()
    await ctx.db.execute("UPDATE programs SET host = NULL WHERE host = 'one.test'")
    await ctx.db.execute("UPDATE programs SET host = 'one.test' WHERE id = $1", stranger.program_id)
    path = f"{CHECK}{await cast.code(stranger)}/"
    headers = [("Host", host) for host in hosts]
    forget_everything(ctx)
    expected = told(await long_way.get(path, headers=headers))
    for _ in range(2):
        assert told(await client.get(path, headers=headers)) == expected


@pytest.mark.parametrize("name", ["/slashed", "sla//shed", "sla/shed", "slashed", "//slashed"])
async def test_slashes_mean_the_same_though_memory_knows_such_an_address(
    client: httpx.AsyncClient, long_way: httpx.AsyncClient, ctx: AppContext, alice: Person, name: str
) -> None:
    path = f"{LOOKUP}{name}@example.com/"
    forget_everything(ctx)
    expected = told(await long_way.get(path, headers=alice.headers))
    for row in await ctx.db.fetch("SELECT code FROM codes WHERE revoked_at IS NULL"):
        await client.get(f"{CHECK}{row['code']}/")  # which is remembered by its owner's address
    assert told(await client.get(path, headers=alice.headers)) == expected


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_the_frameworks(
    client: httpx.AsyncClient, long_way: httpx.AsyncClient, alice: Person, method: str
) -> None:
    for path in (LOOKUP + f"{alice.email}/", CHECK + "AAAAAAAAAA/", LIST + f"{alice.id}/", LIST + "x/"):
        answers = [await way.request(method, path, headers=alice.headers) for way in (client, long_way, client)]
        assert told(answers[0]) == told(answers[1]) == told(answers[2])


async def test_what_is_in_memory_is_answered_without_the_database(
    client: httpx.AsyncClient, ctx: AppContext, alice: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = await ctx.db.fetchval("SELECT code FROM codes WHERE user_id = $1 AND revoked_at IS NULL", alice.id)
    paths = [LOOKUP + f"{alice.email}/", CHECK + f"{code}/", "/auth/users/me/"]
    before = [(await client.get(path, headers=alice.headers)).json() for path in paths]
    for question in ("fetch", "fetchrow", "fetchval", "execute"):
        monkeypatch.delattr(f"invitree.kit.data.db.Database.{question}")
    assert [(await client.get(path, headers=alice.headers)).json() for path in paths] == before


async def test_the_answer_follows_the_programs_time_zone(
    client: httpx.AsyncClient, long_way: httpx.AsyncClient, ctx: AppContext, cast: Cast
) -> None:
    stranger = await cast.stranger()
    await cast.code(stranger, expiration_date=in_days(3))
    path = LOOKUP + f"{stranger.email}/"
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        await ctx.db.execute("UPDATE programs SET time_zone = $2 WHERE id = $1", stranger.program_id, zone)
        ctx.caches["programs"].clear()
        expected = told(await long_way.get(path, headers=stranger.headers))
        for _ in range(2):
            assert told(await client.get(path, headers=stranger.headers)) == expected


async def test_a_database_that_is_away_is_told_as_by_the_framework(
    client: httpx.AsyncClient,
    long_way: httpx.AsyncClient,
    ctx: AppContext,
    alice: Person,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*_: object) -> None:
        raise asyncpg.CannotConnectNowError("the database system is starting up")

    monkeypatch.setattr("invitree.kit.data.db.Database.fetchrow", away)
    monkeypatch.setattr("invitree.kit.data.db.Database.fetch", away)
    for path in (LOOKUP + "x@example.com/", CHECK + "AAAAAAAAAA/", LIST + f"{alice.id}/", "/auth/users/me/"):
        forget_everything(ctx)
        expected = told(await long_way.get(path, headers=alice.headers))
        assert expected[0] == 503
        forget_everything(ctx)
        assert told(await client.get(path, headers=alice.headers)) == expected


async def test_a_session_is_noted_as_used_even_by_what_is_asked_most(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast
) -> None:
    person = await cast.member()
    await set_back(ctx, person, minutes=10)
    forget_everything(ctx)
    for _ in range(2):
        await client.get("/auth/users/me/", headers=person.headers)
    ago = await ctx.db.fetchval("SELECT now() - max(last_seen_at) FROM sessions WHERE user_id = $1", person.id)
    assert ago.total_seconds() < 60


@pytest.mark.parametrize("path", ["/auth/users/me/", "/auth/users/meow/", "/auth/users/me/events/", LIST + "7/x/"])
async def test_both_ways_are_counted_under_the_same_route(ctx: AppContext, alice: Person, path: str) -> None:
    app = create_app(ctx.settings)
    app.state["context"] = ctx
    routes = []
    for way in (app, front(app, access_log=False), front(app, access_log=False)):
        scope: Any = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "client": None,
            "state": {},
            "headers": [(name.lower().encode(), value.encode()) for name, value in alice.headers.items()],
        }
        await way(scope, _nothing, _ignore)
        routes.append(scope.get("path_template"))
    assert len(set(routes)) == 1


async def _nothing() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _ignore(_message: Any) -> None:
    """Take the answer."""
