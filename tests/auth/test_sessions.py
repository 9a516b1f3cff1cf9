"""GET and DELETE /auth/token/sessions/: where somebody is logged in, and logging a device out from another."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from invitree.identity.auth.actions import evict_sessions, open_token_session
from invitree.kit.context import AppContext
from tests.cast import NOWHERE, PASSWORD, Cast, Person, refused
from tests.steps import bearer, done, events_of, opens, refreshes

SESSIONS, LOGIN, CREATE = "/auth/token/sessions/", "/auth/token/login/", "/auth/jwt/create/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def one(session_id: Any) -> str:
    return f"{SESSIONS}{session_id}/"


async def listed(client: httpx.AsyncClient, headers: dict[str, str]) -> list[dict[str, Any]]:
    answer = await client.get(SESSIONS, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: list[dict[str, Any]] = answer.json()
    return found


async def current(client: httpx.AsyncClient, headers: dict[str, str]) -> dict[str, Any]:
    [session] = [session for session in await listed(client, headers) if session["is_current"]]
    return session


async def set_back(ctx: AppContext, person: Person, **actor: float) -> None:
    """Let a person's sessions have been seen for the last time so long ago."""
    await ctx.db.execute(
        "UPDATE sessions SET last_seen_at = last_seen_at - $2::interval WHERE user_id = $1",
        person.id,
        timedelta(**actor),
    )
    ctx.caches["users"].clear()


class TestListSessions:
    @pytest.mark.parametrize("path", [SESSIONS, SESSIONS.rstrip("/")])
    async def test_each_device_is_listed_with_what_tells_it_apart(
        self, client: httpx.AsyncClient, cast: Cast, path: str
    ) -> None:
        alice = await cast.member()
        body = {"email": alice.email, "password": PASSWORD}
        token = (await client.post(LOGIN, json=body, headers={"User-Agent": FIREFOX})).json()["auth_token"]
        pair = (await client.post(CREATE, json=body, headers={"User-Agent": "shop/1.0"})).json()
        for headers, device in (
            ({"Authorization": f"Token {token}"}, FIREFOX),
            (bearer(pair["access"]), "shop/1.0"),
            (alice.headers, ""),
        ):
            found = (await client.get(path, headers=headers)).json()
            assert [session["device"] for session in found] == ["shop/1.0", FIREFOX, ""]
            assert [session["device"] for session in found if session["is_current"]] == [device]
            assert [session["ip_prefix"] for session in found] == ["127.0.0.0/24", "127.0.0.0/24", ""]
            names = {"id", "device", "ip_prefix", "created_at", "last_seen_at", "is_current"}
            assert all(set(session) == names for session in found)
            assert all(session["created_at"] <= session["last_seen_at"] for session in found)
            assert datetime.fromisoformat(found[0]["created_at"]).utcoffset() == timedelta()

    async def test_only_ones_own_are_listed(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, staff, eve = await cast.member(), await cast.staff(), await cast.stranger()
        for person in (alice, staff, eve):
            assert len(await listed(client, person.headers)) == 1

    async def test_a_session_that_refreshes_stays_one(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        pair = await cast.pair(alice)
        following = (await client.post("/auth/jwt/refresh/", json={"refresh": pair.refresh})).json()
        assert len(await listed(client, alice.headers)) == 2
        assert (await current(client, bearer(following["access"])))["id"] == (
            await current(client, bearer(pair.access))
        )["id"]

    async def test_a_session_whose_refresh_token_has_expired_is_not_listed(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice = await cast.member()
        await cast.pair(alice)
        assert len(await listed(client, alice.headers)) == 2
        await ctx.db.execute(
            """
            UPDATE refresh_tokens t SET expires_at = clock_timestamp() FROM sessions s
            WHERE s.program_id = t.program_id AND s.id = t.session_id AND s.user_id = $1
            """,
            alice.id,
        )
        assert len(await listed(client, alice.headers)) == 1

    @pytest.mark.parametrize(
        ("agent", "device"),
        [
            ("x" * 500, "x" * 200),
            ("a\tb", "ab"),
            ("<script>alert(1)</script>", "<script>alert(1)</script>"),
            ("", ""),
            ("Gerät/1".encode("latin-1"), "Gerät/1"),
        ],
        ids=lambda value: ascii(value)[:20],
    )
    async def test_a_device_is_named_by_at_most_200_printable_characters(
        self, client: httpx.AsyncClient, cast: Cast, agent: str | bytes, device: str
    ) -> None:
        alice = await cast.member()
        raw = agent if isinstance(agent, bytes) else agent.encode()
        body = {"email": alice.email, "password": PASSWORD}
        answer = await client.post(LOGIN, json=body, headers={b"User-Agent": raw})
        headers = {"Authorization": f"Token {answer.json()['auth_token']}"}
        assert (await current(client, headers))["device"] == device

    async def test_the_seen_time_moves_after_five_minutes_and_not_with_every_request(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        pair = await cast.pair(alice)
        for person in (alice, bob):
            await set_back(ctx, person, minutes=10)
        stale = await ctx.db.fetchval("SELECT last_seen_at FROM sessions WHERE user_id = $1", bob.id)
        for headers in (alice.headers, bearer(pair.access)):
            first = (await current(client, headers))["last_seen_at"]
            for _ in range(3):
                assert (await current(client, headers))["last_seen_at"] == first
            assert datetime.fromisoformat(first) - stale > timedelta(minutes=9)
        assert await ctx.db.fetchval("SELECT last_seen_at FROM sessions WHERE user_id = $1", bob.id) == stale
        await set_back(ctx, alice, minutes=4)
        before = await cast.contents()
        await client.get("/auth/users/me/", headers=alice.headers)
        assert await cast.contents() == before

    async def test_the_network_is_the_one_it_was_last_seen_in(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice = await cast.member()
        assert (await current(client, alice.headers))["ip_prefix"] == ""
        await set_back(ctx, alice, minutes=10)
        # Written by the client itself: there is no proxy that is trusted.
        await client.get("/auth/users/me/", headers={**alice.headers, "X-Forwarded-For": "203.0.113.7"})
        assert (await current(client, alice.headers))["ip_prefix"] == "127.0.0.0/24"

    async def test_listing_sessions_needs_a_session(self, client: httpx.AsyncClient) -> None:
        for headers in ({}, {"Authorization": "Token nonsense"}):
            refused(await client.get(SESSIONS, headers=headers), 401, "unauthenticated")


class TestEndSession:
    @pytest.mark.parametrize("slash", ["/", ""])
    async def test_its_tokens_are_dead_at_once_and_no_others(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, slash: str
    ) -> None:
        alice = await cast.member()
        pair, other = await cast.pair(alice), await cast.pair(alice)
        jwt_id = (await current(client, bearer(pair.access)))["id"]
        done(await client.delete(one(jwt_id).rstrip("/") + slash, headers=alice.headers))
        assert not await opens(client, bearer(pair.access))
        assert not await refreshes(client, pair.refresh)
        refused(await client.post("/auth/jwt/verify/", json={"token": pair.access}), 401, "token_not_valid")
        assert await opens(client, alice.headers)
        token_id = (await current(client, alice.headers))["id"]
        done(await client.delete(one(token_id), headers=bearer(other.access)))
        assert not await opens(client, alice.headers)
        assert await refreshes(client, other.refresh)
        assert [kind for kind, _, _ in await events_of(ctx, alice.id)][-2:] == ["session.ended"] * 2

    async def test_a_session_can_end_itself(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        done(await client.delete(one((await current(client, alice.headers))["id"]), headers=alice.headers))
        assert not await opens(client, alice.headers)

    async def test_anothers_session_is_a_404_even_for_staff(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, bob, staff, eve = [*[await cast.member() for _ in range(2)], await cast.staff(), await cast.stranger()]
        session_id = (await current(client, alice.headers))["id"]
        before = await cast.contents()
        answers = [await client.delete(one(session_id), headers=who.headers) for who in (bob, staff, eve)]
        for answer in answers:
            refused(answer, 404, "not_found")
        assert await cast.contents() == before
        assert await opens(client, alice.headers)

    async def test_a_session_ends_once(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        session_id = (await current(client, bearer((await cast.pair(alice)).access)))["id"]
        done(await client.delete(one(session_id), headers=alice.headers))
        before = await cast.contents()
        refused(await client.delete(one(session_id), headers=alice.headers), 404, "not_found")
        assert await cast.contents() == before

    @pytest.mark.parametrize(
        "spell",
        ["+{}", "0{}", "{}_0", " {}", "{}.0", "-{}", "0", "9007199254740992", "9" * 30, "x", "٣", "{}%00", "null"],
    )
    async def test_an_odd_id_is_a_404(self, client: httpx.AsyncClient, cast: Cast, spell: str) -> None:
        alice = await cast.member()
        session_id = (await current(client, alice.headers))["id"]
        before = await cast.contents()
        refused(await client.delete(one(spell.format(session_id)), headers=alice.headers), 404, "not_found")
        assert await cast.contents() == before

    async def test_ending_a_session_needs_a_session(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        session_id = (await current(client, alice.headers))["id"]
        before = await cast.contents()
        refused(await client.delete(one(session_id)), 401, "unauthenticated")
        assert await cast.contents() == before

    async def test_logging_out_everywhere_ends_what_is_listed(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, bob = await cast.member(), await cast.member()
        pairs = [await cast.pair(alice) for _ in range(3)]
        assert len(await listed(client, alice.headers)) == 4
        done(await client.post("/auth/token/logout/?all=true", headers=bearer(pairs[0].access)))
        for headers in (alice.headers, *[bearer(pair.access) for pair in pairs]):
            assert not await opens(client, headers)
        for pair in pairs:
            assert not await refreshes(client, pair.refresh)
        body = {"email": alice.email, "password": PASSWORD}
        token = (await client.post(LOGIN, json=body)).json()["auth_token"]
        assert len(await listed(client, {"Authorization": f"Token {token}"})) == 1
        assert len(await listed(client, bob.headers)) == 1


class TestMostSessions:
    async def test_a_login_beyond_100_sessions_ends_the_one_idle_longest(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        assert await opens(client, alice.headers)  # and is remembered
        for _ in range(99):
            await open_token_session(ctx.db, ctx, program_id=1, user_id=alice.id, origin=NOWHERE)
        answer = await client.post(LOGIN, json={"email": alice.email, "password": PASSWORD})
        newest = {"Authorization": f"Token {answer.json()['auth_token']}"}
        assert not await opens(client, alice.headers)
        assert await opens(client, newest)
        assert await opens(client, bob.headers)
        assert len(await listed(client, newest)) == 100
        assert [kind for kind, *_ in await events_of(ctx, alice.id)].count("session.evicted") == 1
        await client.post(CREATE, json={"email": alice.email, "password": PASSWORD})
        assert len(await listed(client, newest)) == 100

    async def test_64_logins_at_once_leave_100_sessions(self, cast: Cast, ctx: AppContext) -> None:
        alice = await cast.member()

        async def log_in() -> None:
            await open_token_session(ctx.db, ctx, program_id=1, user_id=alice.id, origin=NOWHERE)
            await evict_sessions(ctx, program_id=1, user_id=alice.id)

        for _ in range(3):
            await asyncio.gather(*(log_in() for _ in range(64)))
        count = await ctx.db.fetchval("SELECT count(*) FROM sessions WHERE user_id = $1", alice.id)
        evicted = [kind for kind, *_ in await events_of(ctx, alice.id)].count("session.evicted")
        assert (count, evicted) == (100, 1 + 3 * 64 - 100)

    async def test_the_list_has_pages(self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext) -> None:
        alice = await cast.member()
        for _ in range(6):
            await open_token_session(ctx.db, ctx, program_id=1, user_id=alice.id, origin=NOWHERE)
        everything, seen, path = await listed(client, alice.headers), [], f"{SESSIONS}?limit=3"
        for size in (3, 3, 1):
            answer = await client.get(path, headers=alice.headers)
            assert len(answer.json()) == size
            seen += answer.json()
            path = f"{SESSIONS}{answer.headers.get('link', '<>').partition('>')[0][1:]}"
        assert [session["id"] for session in seen] == [session["id"] for session in everything]
        assert path == SESSIONS
        for name in ("page", "offset"):
            answer = await client.get(SESSIONS, params={name: "2"}, headers=alice.headers)
            assert answer.status_code == 400
