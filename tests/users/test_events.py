"""GET /auth/users/me/events/, and the record behind it: what is written, in which transaction, and what never is."""

import re
from typing import Any

import asyncpg
import httpx
import pytest

from invitree.identity.audit.store import OPERATOR
from invitree.identity.programs.actions import set_policy
from invitree.intake.closure.actions import deactivate_account, reactivate_account
from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, in_days, refused
from tests.postbox import Postbox
from tests.steps import (
    ANOTHER,
    LOGIN,
    REFRESH,
    at,
    bearer,
    change_link,
    default_program,
    done,
    events_of,
    link_for,
    require_activation,
    sign_up,
)

pytestmark = pytest.mark.usefixtures("empty_postbox")
EVENTS, ME, CREATE = "/auth/users/me/events/", "/auth/users/me/", "/api/referral_codes/create/"


async def listed(client: httpx.AsyncClient, person: Person, query: str = "") -> list[dict[str, Any]]:
    answer = await client.get(EVENTS + query, headers=person.headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    found: list[dict[str, Any]] = answer.json()
    return found


async def news(client: httpx.AsyncClient, person: Person, since: int = 2) -> list[tuple[str, str]]:
    """Return what happened to a person's account since it was made, oldest first: what, and who did it."""
    found = [(event["kind"], event["actor"]) for event in await listed(client, person)]
    return found[::-1][since:]


class TestOwnEvents:
    @pytest.mark.parametrize("path", [EVENTS, EVENTS.rstrip("/")])
    async def test_an_event_has_what_tells_its_owner_whether_to_worry(
        self, client: httpx.AsyncClient, cast: Cast, path: str
    ) -> None:
        alice = await cast.member()
        assert (await client.post(LOGIN, json={"email": alice.email, "password": PASSWORD})).status_code == 200
        found = (await client.get(path, headers=alice.headers)).json()
        assert [(event["kind"], event["actor"], event["ip_prefix"]) for event in found] == [
            ("login.succeeded", "self", "127.0.0.0/24"),
            ("login.succeeded", "self", ""),
            ("account.created", "operator", ""),
        ]
        assert all(set(event) == {"id", "kind", "actor", "ip_prefix", "created_at"} for event in found)
        assert [event["id"] for event in found] == sorted((event["id"] for event in found), reverse=True)

    async def test_failed_logins_are_recorded_by_address_and_by_name(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        nobodys = len(await events_of(ctx, None))
        for path in (LOGIN, "/auth/jwt/create/"):
            for actor in ({"email": alice.email.upper()}, {"username": alice.username}):
                await client.post(path, json={**actor, "password": "wrong"})
        await client.post(LOGIN, json={"email": "nobody@example.com", "password": "wrong"})
        assert await news(client, alice) == [("login.failed", "unknown")] * 4
        assert await news(client, bob) == []
        assert (await events_of(ctx, None))[nobodys:] == [("login.failed", "unknown", None)]

    async def test_changes_of_credentials_are_recorded(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        reset = await link_for(client, postbox, alice, "reset_username")
        done(await client.post(at("reset_username_confirm"), json={**reset.body, "new_username": f"a{alice.username}"}))
        change = await change_link(client, postbox, alice, f"new-{alice.email}")
        done(await client.post(at("set_email_confirm"), json=change.body))
        body = {"current_password": PASSWORD, "new_username": f"b{alice.username}"}
        done(await client.post(at("set_username"), json=body, headers=alice.headers))
        body = {"current_password": PASSWORD, "new_password": ANOTHER}
        done(await client.post(at("set_password"), json=body, headers=alice.headers))
        assert await news(client, alice) == [
            ("username.reset_requested", "unknown"),
            ("username.changed", "self"),
            ("email.change_requested", "self"),
            ("email.changed", "self"),
            ("username.changed", "self"),
            ("password.changed", "self"),
        ]

    async def test_a_reset_is_recorded_when_asked_for_and_when_done(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        link = await link_for(client, postbox, alice, "reset_password")
        done(await client.post(at("reset_password_confirm"), json={**link.body, "new_password": ANOTHER}))
        token = (await client.post(LOGIN, json={"email": alice.email, "password": ANOTHER})).json()["auth_token"]
        again = Person(alice.id, alice.program_id, alice.email, alice.username, token)
        assert await news(client, again) == [
            ("password.reset_requested", "unknown"),
            ("password.reset", "self"),
            ("login.succeeded", "self"),
        ]
        prefixes = await ctx.db.fetch("SELECT ip_prefix FROM audit WHERE user_id = $1 ORDER BY id", alice.id)
        assert [row["ip_prefix"] for row in prefixes][2:] == ["127.0.0.0/24"] * 3

    async def test_sessions_are_recorded_and_a_stolen_token_too(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        first, other = await cast.pair(alice), await cast.pair(alice)
        second = (await client.post(REFRESH, json={"refresh": first.refresh})).json()
        await client.post(REFRESH, json={"refresh": second["refresh"]})
        refused(await client.post(REFRESH, json={"refresh": first.refresh}), 401, "token_not_valid")
        done(await client.post("/auth/token/logout/", headers=bearer(other.access)))
        kinds = [("login.succeeded", "self")] * 2 + [("refresh_token.reused", "unknown"), ("session.ended", "self")]
        assert await news(client, alice) == kinds

    async def test_codes_are_recorded(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        await cast.code(alice)
        await cast.code(alice, replace=True)
        await cast.delete_code(alice)
        await cast.code(alice, replace=True)  # there is none to replace
        kinds = ["code.created", "code.replaced", "code.deleted", "code.created"]
        assert await news(client, alice) == [(kind, "self") for kind in kinds]

    async def test_audit_rows_name_staff_and_the_operator(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, staff = await cast.member(), await cast.staff()
        path = f"/auth/users/{alice.id}/"
        assert (
            await client.patch(path, json={"username": f"x{alice.username}"}, headers=staff.headers)
        ).status_code == 200
        program_id = alice.program_id
        assert await deactivate_account(ctx.db, program_id=program_id, user_id=alice.id, actor=OPERATOR)
        assert await reactivate_account(ctx.db, program_id=program_id, user_id=alice.id, actor=OPERATOR)
        token = (await client.post(LOGIN, json={"email": alice.email, "password": PASSWORD})).json()["auth_token"]
        again = Person(alice.id, program_id, alice.email, alice.username, token)
        assert await news(client, again) == [
            ("username.changed", "staff"),
            ("account.deactivated", "operator"),
            ("account.reactivated", "operator"),
            ("login.succeeded", "self"),
        ]
        assert await news(client, staff) == []
        assert ("username.changed", "staff", staff.id) in await events_of(ctx, alice.id)
        assert "actor_id" not in (await listed(client, again))[0]

    async def test_only_ones_own_are_seen_even_by_staff(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, staff, eve = await cast.member(), await cast.staff(), await cast.stranger(staff=True)
        await cast.code(alice)
        for other in (staff, eve):
            assert await news(client, other) == []

    async def test_pages_hold_each_event_once_newest_first(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, bob = await cast.member(), await cast.member()
        for _ in range(3):
            for person in (alice, bob):
                await cast.code(person, replace=True)
        whole = await listed(client, alice)
        assert len(whole) == 5
        query, seen = "?limit=2", []
        while query:
            answer = await client.get(EVENTS + query, headers=alice.headers)
            seen += answer.json()
            link = answer.headers.get("link", "")
            match = re.fullmatch(r'<(\?limit=2&after=\d+)>; rel="next"', link)
            assert bool(match) == bool(link)
            query = match[1] if match else ""
        assert seen == whole
        assert await listed(client, alice, f"?after={whole[0]['id']}&limit=1") == whole[1:2]

    @pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "after=0", "after=-1", "after=" + "9" * 30])
    async def test_a_page_that_cannot_be_is_refused(self, client: httpx.AsyncClient, cast: Cast, query: str) -> None:
        alice = await cast.member()
        answer = await client.get(f"{EVENTS}?{query}", headers=alice.headers)
        lists = {query.partition("=")[0]: ["This value is not allowed here."]}
        refused(answer, 400, "invalid_input", **lists)

    async def test_listing_events_needs_a_session(self, client: httpx.AsyncClient) -> None:
        for headers in ({}, {"Authorization": "Token nonsense"}):
            refused(await client.get(EVENTS, headers=headers), 401, "unauthenticated")


class TestTheRecord:
    async def test_audit_rows_are_append_only(self, cast: Cast, ctx: AppContext) -> None:
        await cast.member()
        before = (await cast.contents())["audit"]
        for statement in (
            "UPDATE audit SET kind = 'a.b'",
            "UPDATE audit SET user_id = NULL",
            "DELETE FROM audit",
            "TRUNCATE audit",
            "INSERT INTO audit SELECT * FROM audit ON CONFLICT (program_id, id, created_at) DO UPDATE SET kind = 'a.b'",
            "DELETE FROM audit_oldest",
            "DELETE FROM events",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await ctx.db.execute(statement)
        assert (await cast.contents())["audit"] == before

    async def test_audit_rows_hold_no_personal_data(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        canary, forwarded = "canary-Secret-Words-7", "203.0.113.77"
        headers = {"User-Agent": "canary-agent", "X-Forwarded-For": forwarded}
        alice = await sign_up(client, email="canary-mail@canary.example.com", username="canary-name")
        token = (await client.post(LOGIN, json={"email": alice.email, "password": PASSWORD}, headers=headers)).json()[
            "auth_token"
        ]
        alice = Person(alice.id, alice.program_id, alice.email, alice.username, token)
        for body in ({"email": alice.email}, {"username": alice.username}, {"username": "canary-nobody"}):
            await client.post(LOGIN, json={**body, "password": canary}, headers=headers)
        code, pair = await cast.code(alice), await cast.pair(alice)
        change = await change_link(client, postbox, alice, "canary-next@canary.example.com")
        done(await client.post(at("set_email_confirm"), json=change.body, headers=headers))
        body = {"current_password": PASSWORD, "new_password": canary}
        done(await client.post(at("set_password"), json=body, headers={**alice.headers, **headers}))
        await cast.delete_code(alice)
        rows = "\n".join(row for (row,) in await ctx.db.fetch("SELECT e::text FROM audit e"))
        secrets = [PASSWORD, canary, token, pair.refresh, pair.access, change.token, code, "canary", "example.com"]
        for secret in [*secrets, forwarded, "127.0.0.1", "203.0.113", *(one.partition(".")[2] for one in secrets[2:6])]:
            assert not secret or secret not in rows
        columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'audit' ORDER BY 1"
        names = [row["column_name"] for row in await ctx.db.fetch(columns)]
        assert names == ["actor", "actor_id", "created_at", "id", "ip_prefix", "kind", "program_id", "user_id"]

    async def test_refused_requests_leave_no_audit_row(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        await cast.code(alice)
        before = (await cast.contents())["audit"]
        form = {"email": "none@example.com", "username": "none", "password": PASSWORD}
        refusals = [
            await client.post(CREATE, json={"expiration_date": in_days(5)}, headers=alice.headers),
            await client.post(CREATE, json={"expiration_date": in_days(0)}, headers=bob.headers),
            await client.delete("/api/referral_codes/delete/", headers=bob.headers),
            await client.patch(ME, json={"username": bob.username}, headers=alice.headers),
            await client.post(
                at("set_email"), json={"new_email": bob.email, "current_password": PASSWORD}, headers=alice.headers
            ),
            await client.post("/auth/users/", json={**form, "referral_code": "ZZZZZZZZZZ"}),
            await client.post("/auth/users/", json={**form, "username": bob.username}),
            await client.delete("/auth/token/sessions/999999/", headers=alice.headers),
            await client.post(at("activation"), json={"uid": "MQ", "token": "1.x"}),
        ]
        assert {answer.status_code for answer in refusals} <= {400, 404}
        assert (await cast.contents())["audit"] == before


KINDS = ["account.created", "account.activated", "account.deleted", "code.created", "code.replaced", "code.deleted",
         "email.change_requested", "email.changed", "login.succeeded", "password.changed", "password.reset",
         "refresh_token.reused", "session.ended", "username.changed"]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_a_failed_audit_insert_undoes_the_action(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, kind: str
) -> None:
    """The event is in the transaction of what it tells of."""
    if kind == "account.activated":
        await require_activation(ctx)
    asked = await act(client, cast, postbox, kind)
    await set_policy(ctx.db, program_id=(await default_program(ctx)).id, activation="off")
    ctx.caches["programs"].clear()
    before = await cast.contents()
    await ctx.db.execute(f"ALTER TABLE audit ADD CONSTRAINT shut CHECK (kind <> '{kind}') NOT VALID")
    try:
        answer = await client.request(asked.pop("method", "POST"), **asked)
        refused(answer, 500, "internal")
        assert await cast.contents() == before
    finally:
        await ctx.db.execute("ALTER TABLE audit DROP CONSTRAINT shut")


async def act(client: httpx.AsyncClient, cast: Cast, postbox: Postbox, kind: str) -> dict[str, Any]:
    """Prepare what an event of this kind tells of, and return the request that would do it."""
    alice = await cast.member() if kind != "account.activated" else await sign_up(client)
    current, expires = {"current_password": PASSWORD}, {"expiration_date": in_days(5)}
    form = {"email": "shut@example.com", "username": "shut", "password": PASSWORD}
    by_link: dict[str, dict[str, Any]] = {
        "account.created": {"url": "/auth/users/", "json": form},
        "account.deleted": {"method": "DELETE", "url": ME, "json": current},
        "code.created": {"url": CREATE, "json": expires},
        "code.replaced": {"url": f"{CREATE}?replace=true", "json": expires},
        "code.deleted": {"method": "DELETE", "url": "/api/referral_codes/"},
        "email.change_requested": {"url": at("set_email"), "json": {**current, "new_email": "shut@example.com"}},
        "login.succeeded": {"url": LOGIN, "json": {"email": alice.email, "password": PASSWORD}},
        "password.changed": {"url": at("set_password"), "json": {**current, "new_password": ANOTHER}},
        "session.ended": {"url": "/auth/token/logout/"},
        "username.changed": {"method": "PATCH", "url": ME, "json": {"username": "shut"}},
    }
    match kind:
        case "code.replaced" | "code.deleted":
            await cast.code(alice)
        case "account.activated":
            return {"url": at("activation"), "json": (await postbox.link(alice.email)).body}
        case "email.changed":
            return {
                "url": at("set_email_confirm"),
                "json": (await change_link(client, postbox, alice, "shut@example.com")).body,
            }
        case "password.reset":
            link = await link_for(client, postbox, alice, "reset_password")
            return {"url": at("reset_password_confirm"), "json": {**link.body, "new_password": ANOTHER}}
        case "refresh_token.reused":
            first = await cast.pair(alice)
            second = (await client.post(REFRESH, json={"refresh": first.refresh})).json()
            await client.post(REFRESH, json={"refresh": second["refresh"]})
            return {"url": REFRESH, "json": {"refresh": first.refresh}}
    return {**by_link[kind], "headers": alice.headers if kind not in ("account.created", "login.succeeded") else {}}
