"""Changing a username, signed in or by a link in a mail."""

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, refused
from tests.postbox import Postbox, text_of
from tests.steps import (
    ANOTHER,
    BAD_NAME,
    BAD_PASSWORD,
    BAD_TOKEN,
    BLANK,
    IS_NULL,
    NAME_TAKEN,
    NAMES_DIFFER,
    NULL,
    REQUIRED,
    WRONG_TYPE,
    at,
    contents_but,
    done,
    events_of,
    link_for,
    logs_in,
    opens,
)

pytestmark = pytest.mark.usefixtures("empty_postbox")
SET, RESET, CONFIRM = at("set_username"), at("reset_username"), at("reset_username_confirm")
TOO_LONG = "Ensure this field has no more than 150 characters."
# (username, complaints)
BAD_NAMES = [
    ("", [BLANK]),
    (" ", [BLANK]),
    ("a b", [BAD_NAME]),
    ("anna<b>", [BAD_NAME]),
    ("an\u200bna", [BAD_NAME]),
    ("\u202eanna", [BAD_NAME]),
    ("deleted 5", [BAD_NAME]),
    ("\u00a0", [BLANK]),
    ("x" * 151, [TOO_LONG]),
    ("\ufdfa" * 10, [BAD_NAME]),  # in NFKC, 18 characters each, with spaces
    ("㍍" * 50, [BAD_NAME]),  # in NFKC, over 150
]


def body_of(new: str, *, current: str = PASSWORD, **more: object) -> dict[str, object]:
    return {"current_password": current, "new_username": new, **more}


async def name_of(client: httpx.AsyncClient, person: Person) -> str:
    name: str = (await client.get("/auth/users/me/", headers=person.headers)).json()["username"]
    return name


class TestSetUsername:
    @pytest.mark.parametrize("path", [SET, SET.rstrip("/")])
    async def test_the_new_name_opens_and_the_old_does_not(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, path: str
    ) -> None:
        alice = await cast.member()
        new = f"new-{alice.username}"
        done(await client.post(path, json=body_of(new, re_new_username=new), headers=alice.headers))
        assert await name_of(client, alice) == new  # in a session that lives on
        assert await logs_in(client, username=new)
        assert not await logs_in(client, username=alice.username)
        assert ("username.changed", "self", alice.id) in await events_of(ctx, alice.id)

    async def test_a_name_is_kept_in_its_usual_form(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, bob = await cast.member(), await cast.member()
        wide = alice.username.replace("p", "ｐ", 1) + ".Ⅳ"
        done(await client.post(SET, json=body_of(wide), headers=alice.headers))
        assert await name_of(client, alice) == f"{alice.username}.IV"
        assert await logs_in(client, username=wide)
        answer = await client.post(SET, json=body_of(f"{alice.username}.Ⅳ"), headers=bob.headers)
        refused(answer, 400, "invalid_input", new_username=[NAME_TAKEN])

    @pytest.mark.parametrize(("name", "complaints"), BAD_NAMES, ids=lambda value: ascii(value)[:20])
    async def test_a_reset_to_an_invalid_username_is_refused(
        self, client: httpx.AsyncClient, cast: Cast, name: str, complaints: list[str]
    ) -> None:
        alice = await cast.member()
        before = await cast.contents()
        answer = await client.post(SET, json=body_of(name), headers=alice.headers)
        refused(answer, 400, "invalid_input", new_username=complaints)
        assert await cast.contents() == before

    async def test_anothers_name_is_refused_and_ones_own_is_not(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, bob, eve = await cast.member(), await cast.member(), await cast.stranger()
        before = await cast.contents()
        answer = await client.post(SET, json=body_of(bob.username), headers=alice.headers)
        refused(answer, 400, "invalid_input", new_username=[NAME_TAKEN])
        assert await cast.contents() == before
        done(await client.post(SET, json=body_of(alice.username), headers=alice.headers))
        done(await client.post(SET, json=body_of(eve.username), headers=alice.headers))  # of another program

    async def test_a_deactivated_users_name_is_taken_and_a_deleted_users_is_free(
        self, client: httpx.AsyncClient, cast: Cast
    ) -> None:
        alice, out, gone = [await cast.member() for _ in range(3)]
        await cast.deactivate(out)
        body = {"current_password": PASSWORD}
        done(await client.request("DELETE", "/auth/users/me/", json=body, headers=gone.headers))
        answer = await client.post(SET, json=body_of(out.username), headers=alice.headers)
        refused(answer, 400, "invalid_input", new_username=[NAME_TAKEN])
        done(await client.post(SET, json=body_of(gone.username), headers=alice.headers))

    async def test_a_wrong_password_changes_nothing_and_is_recorded(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        before = await contents_but(cast, "audit")
        for current, new in (
            (PASSWORD + ".", "new"),
            ("wrong", "new"),
            (PASSWORD.upper(), "new"),
            ("wrong", bob.username),
        ):
            answer = await client.post(SET, json=body_of(new, current=current), headers=alice.headers)
            refused(answer, 400, "invalid_input", current_password=[BAD_PASSWORD])
        assert await contents_but(cast, "audit") == before
        assert (await events_of(ctx, alice.id))[-4:] == [("login.failed", "unknown", None)] * 4

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            ({}, {"current_password": [REQUIRED], "new_username": [REQUIRED]}),
            ({"current_password": PASSWORD}, {"new_username": [REQUIRED]}),
            ({"new_username": "new"}, {"current_password": [REQUIRED]}),
            (body_of("new", re_new_username="another"), {"non_field_errors": [NAMES_DIFFER]}),
            (body_of("new", re_new_username=""), {"non_field_errors": [NAMES_DIFFER]}),
            ({**body_of(""), "new_username": None}, {"new_username": [IS_NULL]}),
            (body_of("new", re_new_username=["new"]), {"re_new_username": [WRONG_TYPE]}),
            (body_of("new\0"), {"new_username": [NULL]}),
        ],
        ids=lambda value: str(value)[:60],
    )
    async def test_a_wrong_body_is_named_by_its_field(
        self, client: httpx.AsyncClient, cast: Cast, body: dict[str, object], fields: dict[str, list[str]]
    ) -> None:
        alice = await cast.member()
        before = await cast.contents()
        refused(await client.post(SET, json=body, headers=alice.headers), 400, "invalid_input", **fields)
        assert await cast.contents() == before

    async def test_changing_a_username_needs_a_session(self, client: httpx.AsyncClient, cast: Cast) -> None:
        before = await cast.contents()
        for headers in ({}, {"Authorization": "Token nonsense"}):
            refused(await client.post(SET, json=body_of("new"), headers=headers), 401, "unauthenticated")
        assert await cast.contents() == before


class TestResetUsername:
    @pytest.mark.parametrize("path", [RESET, RESET.rstrip("/")])
    async def test_whoever_has_the_address_is_mailed_a_link_and_the_name(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, path: str
    ) -> None:
        alice = await cast.member()
        done(await client.post(path, json={"email": alice.email}))
        [letter] = await postbox.collect()
        assert letter["to"] == alice.email
        assert f"Hello {alice.username}," in text_of(letter)
        assert (await events_of(ctx, alice.id))[-1] == ("username.reset_requested", "unknown", None)
        assert await name_of(client, alice) == alice.username


class TestResetUsernameConfirm:
    @pytest.mark.parametrize("path", [CONFIRM, CONFIRM.rstrip("/")])
    async def test_the_new_name_opens_and_sessions_live_on(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, path: str
    ) -> None:
        alice = await cast.member()
        link = await link_for(client, postbox, alice, "reset_username")
        assert link.task == "username/reset/confirm"
        new = f"new-{alice.username}"
        done(await client.post(path, json={**link.body, "new_username": new, "re_new_username": new}))
        assert await opens(client, alice.headers)
        assert await name_of(client, alice) == new
        assert await logs_in(client, username=new)
        assert not await logs_in(client, username=alice.username)
        assert (await events_of(ctx, alice.id))[-2][0] == "username.changed"
        answer = await client.post(path, json={**link.body, "new_username": "third"})
        refused(answer, 400, "invalid_input", token=[BAD_TOKEN])

    async def test_a_name_that_cannot_be_is_refused_and_the_link_still_works(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        link = await link_for(client, postbox, alice, "reset_username")
        before = await cast.contents()
        for name, complaints in [*BAD_NAMES, (bob.username, [NAME_TAKEN])]:
            answer = await client.post(CONFIRM, json={**link.body, "new_username": name})
            refused(answer, 400, "invalid_input", new_username=complaints)
        answer = await client.post(CONFIRM, json={**link.body, "new_username": "new", "re_new_username": "other"})
        refused(answer, 400, "invalid_input", non_field_errors=[NAMES_DIFFER])
        assert await cast.contents() == before
        done(await client.post(CONFIRM, json={**link.body, "new_username": f"new-{alice.username}"}))

    async def test_a_username_reset_leaves_the_password_and_other_links(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        reset = await link_for(client, postbox, alice, "reset_password")
        link = await link_for(client, postbox, alice, "reset_username")
        done(await client.post(CONFIRM, json={**link.body, "new_username": f"new-{alice.username}"}))
        assert await logs_in(client, email=alice.email)
        done(await client.post(at("reset_password_confirm"), json={**reset.body, "new_password": ANOTHER}))
