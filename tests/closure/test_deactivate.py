"""What the operator does: keep a user out, and let a user in again."""

import httpx
import pytest

from invitree.base.problems import NotFound
from invitree.identity.audit.store import OPERATOR
from invitree.intake.closure.actions import deactivate_account, delete_account, reactivate_account
from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, refused
from tests.postbox import Postbox
from tests.steps import (
    ANOTHER,
    BAD_TOKEN,
    at,
    bearer,
    change_link,
    done,
    events_of,
    link_for,
    logs_in,
    opens,
    refreshes,
)

USERS = "/auth/users/"


async def out(ctx: AppContext, person: Person) -> bool:
    return await deactivate_account(ctx.db, program_id=person.program_id, user_id=person.id, actor=OPERATOR)


async def back(ctx: AppContext, person: Person) -> bool:
    return await reactivate_account(ctx.db, program_id=person.program_id, user_id=person.id, actor=OPERATOR)


class TestDeactivate:
    async def test_sessions_links_code_and_password_are_dead_and_the_name_stays(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        pair, code = await cast.pair(alice), await cast.code(alice)
        reset = await link_for(client, postbox, alice, "reset_password")
        change = await change_link(client, postbox, alice, f"new-{alice.email}")
        assert await out(ctx, alice)
        for headers in (alice.headers, bearer(pair.access)):
            assert not await opens(client, headers)
        assert not await refreshes(client, pair.refresh)
        for actor in ({"email": alice.email}, {"username": alice.username}):
            assert not await logs_in(client, **actor)
        answer = await client.post(at("reset_password_confirm"), json={**reset.body, "new_password": ANOTHER})
        refused(answer, 400, "invalid_input", token=[BAD_TOKEN])
        refused(await client.post(at("set_email_confirm"), json=change.body), 400, "invalid_input", token=[BAD_TOKEN])
        assert (await client.get(f"/api/referral_codes/check/{code}/")).json() == {"valid": False}
        form = {"email": alice.email, "username": "else", "password": PASSWORD}
        taken = ["A user with that email already exists."]
        refused(await client.post(USERS, json=form), 400, "invalid_input", email=taken)
        assert await opens(client, bob.headers)
        assert (await events_of(ctx, alice.id))[-1] == ("login.failed", "unknown", None)
        assert ("account.deactivated", "operator", None) in await events_of(ctx, alice.id)

    async def test_no_letter_lets_a_deactivated_user_in(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        done(await client.post(at("reset_password"), json={"email": alice.email}))  # not sent yet
        assert await out(ctx, alice)
        for route in ("reset_password", "reset_username"):
            done(await client.post(at(route), json={"email": alice.email}))
        assert await postbox.collect() == []

    async def test_a_link_followed_at_the_same_moment_does_not_let_in(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        link = await link_for(client, postbox, alice, "reset_password")
        # As where the deletion of links did not see this one, written in the same moment.
        await ctx.db.execute(
            "UPDATE users SET is_active = false, deactivated_at = clock_timestamp() WHERE id = $1", alice.id
        )
        before = await cast.contents()
        answer = await client.post(at("reset_password_confirm"), json={**link.body, "new_password": ANOTHER})
        refused(answer, 400, "invalid_input", token=[BAD_TOKEN])
        assert await cast.contents() == before

    async def test_a_second_deactivation_changes_nothing(self, cast: Cast, ctx: AppContext) -> None:
        alice = await cast.member()
        assert await out(ctx, alice) is True
        before = await cast.contents()
        assert await out(ctx, alice) is False
        assert await cast.contents() == before

    async def test_an_unknown_user_cannot_be_deactivated(self, cast: Cast, ctx: AppContext) -> None:
        alice, eve, gone = await cast.member(), await cast.stranger(), await cast.member()
        await delete_account(ctx, program_id=gone.program_id, user_id=gone.id, actor=OPERATOR)
        before = await cast.contents()
        for program_id, user_id in (
            (alice.program_id, 999999),
            (eve.program_id, alice.id),
            (alice.program_id, eve.id),
            (gone.program_id, gone.id),
        ):
            with pytest.raises(NotFound):
                await deactivate_account(ctx.db, program_id=program_id, user_id=user_id, actor=OPERATOR)
            with pytest.raises(NotFound):
                await delete_account(ctx, program_id=program_id, user_id=user_id, actor=OPERATOR)
            assert not await reactivate_account(ctx.db, program_id=program_id, user_id=user_id, actor=OPERATOR)
        assert await cast.contents() == before


class TestReactivate:
    async def test_the_user_logs_in_again_and_nothing_else_has_come_back(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice = await cast.member()
        pair, code = await cast.pair(alice), await cast.code(alice)
        assert await out(ctx, alice)
        assert await back(ctx, alice)
        assert not await opens(client, alice.headers)
        assert not await opens(client, bearer(pair.access))
        assert not await refreshes(client, pair.refresh)
        assert (await client.get(f"/api/referral_codes/check/{code}/")).json() == {"valid": False}
        answer = await client.post("/auth/token/login/", json={"email": alice.email, "password": PASSWORD})
        headers = {"Authorization": f"Token {answer.json()['auth_token']}"}
        refused(await client.get("/api/referral_codes/", headers=headers), 404, "code_not_found")
        again = Person(alice.id, alice.program_id, alice.email, alice.username, answer.json()["auth_token"])
        assert await cast.code(again) != code
        assert ("account.reactivated", "operator", None) in await events_of(ctx, alice.id)

    async def test_reactivating_an_active_user_changes_nothing(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, gone = await cast.member(), await cast.member()
        assert await out(ctx, gone)
        await delete_account(ctx, program_id=gone.program_id, user_id=gone.id, actor=OPERATOR)
        before = await cast.contents()
        for person in (alice, gone):
            assert await back(ctx, person) is False
        assert await cast.contents() == before
        assert await opens(client, alice.headers)

    async def test_a_deactivated_user_can_be_deleted_and_leaves_the_address_free(
        self, client: httpx.AsyncClient, cast: Cast
    ) -> None:
        alice, staff = await cast.member(), await cast.staff()
        await cast.deactivate(alice)
        body = {"current_password": PASSWORD}
        done(await client.request("DELETE", f"{USERS}{alice.id}/", json=body, headers=staff.headers))
        form = {"email": alice.email, "username": alice.username, "password": PASSWORD}
        assert (await client.post(USERS, json=form)).status_code == 201
