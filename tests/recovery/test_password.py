"""Changing a password, signed in: POST /auth/users/set_password/."""

import asyncio
import base64
import hashlib
from typing import Any

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, refused
from tests.postbox import Postbox, text_of
from tests.steps import (
    ANOTHER,
    BAD_PASSWORD,
    BAD_TOKEN,
    BLANK,
    IS_NULL,
    NULL,
    PASSWORDS_DIFFER,
    REQUIRED,
    WRONG_TYPE,
    at,
    bearer,
    change_link,
    contents_but,
    done,
    events_of,
    link_for,
    logs_in,
    opens,
    refreshes,
)

pytestmark = pytest.mark.usefixtures("empty_postbox")
SET = at("set_password")
TOO_SHORT = "This password is too short. It must contain at least 8 characters."
TOO_LONG = "This password is too long. It must contain at most 1024 characters."
TOO_COMMON = "This password is too common."
# (password, complaints), for somebody called `person<number>`
WEAK = [
    ("", [BLANK]),
    ("x7#Kq!z", [TOO_SHORT]),
    ("password", [TOO_COMMON, "Add another word or two. Uncommon words are better."]),
    ("x" * 1025, [TOO_LONG]),
]


def body_of(new: str = ANOTHER, *, current: str = PASSWORD, **more: object) -> dict[str, object]:
    return {"current_password": current, "new_password": new, **more}


class TestSetPassword:
    @pytest.mark.parametrize("path", [SET, SET.rstrip("/")])
    @pytest.mark.parametrize("again", [{}, {"re_new_password": ANOTHER}, {"re_new_password": None}], ids=str)
    async def test_the_new_password_opens_and_the_old_does_not(
        self, client: httpx.AsyncClient, cast: Cast, path: str, again: dict[str, Any]
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        done(await client.post(path, json=body_of(**again), headers=alice.headers))
        assert await logs_in(client, ANOTHER, email=alice.email)
        assert not await logs_in(client, PASSWORD, email=alice.email)
        assert await logs_in(client, PASSWORD, email=bob.email)

    async def test_other_sessions_die_and_this_one_lives(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, bob = await cast.member(), await cast.member()
        pair, bobs = await cast.pair(alice), await cast.pair(bob)
        done(await client.post(SET, json=body_of(), headers=alice.headers))
        assert await opens(client, alice.headers)
        assert not await opens(client, bearer(pair.access))
        assert not await refreshes(client, pair.refresh)
        assert await opens(client, bob.headers)
        assert await refreshes(client, bobs.refresh)

    async def test_a_session_of_jwts_lives_on_with_all_its_tokens(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        pair, other = await cast.pair(alice), await cast.pair(alice)
        done(await client.post(SET, json=body_of(), headers=bearer(pair.access)))
        assert await opens(client, bearer(pair.access))
        assert await refreshes(client, pair.refresh)
        assert not await opens(client, alice.headers)
        assert not await opens(client, bearer(other.access))
        assert not await refreshes(client, other.refresh)

    async def test_links_sent_before_are_dead(self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox) -> None:
        alice = await cast.member()
        reset = await link_for(client, postbox, alice, "reset_password")
        rename = await link_for(client, postbox, alice, "reset_username")
        change = await change_link(client, postbox, alice, f"new-{alice.email}")
        done(await client.post(SET, json=body_of(), headers=alice.headers))
        for route, more, link in (
            ("reset_password_confirm", {"new_password": "third battery horse"}, reset),
            ("reset_username_confirm", {"new_username": f"new-{alice.username}"}, rename),
            ("set_email_confirm", {}, change),
        ):
            answer = await client.post(at(route), json={**link.body, **more})
            refused(answer, 400, "invalid_input", token=[BAD_TOKEN])

    async def test_the_user_is_told_by_mail(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        done(await client.post(SET, json=body_of(), headers={**alice.headers, "Accept-Language": "ru"}))
        [letter] = await postbox.collect()
        assert (letter["to"], letter["content-language"]) == (alice.email, "ru")
        assert "/account/" not in text_of(letter)
        assert (await events_of(ctx, alice.id))[-1] == ("password.changed", "self", alice.id)

    async def test_a_wrong_password_changes_nothing_and_is_recorded(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        await postbox.collect()
        before = await contents_but(cast, "audit")
        for current in ("x", "wrong", PASSWORD.upper(), PASSWORD + ".", "x" * 4096):
            answer = await client.post(SET, json=body_of(current=current), headers=alice.headers)
            refused(answer, 400, "invalid_input", current_password=[BAD_PASSWORD])
        assert await contents_but(cast, "audit") == before
        assert (await events_of(ctx, alice.id))[-5:] == [("login.failed", "unknown", None)] * 5

    @pytest.mark.parametrize(("password", "complaints"), WEAK, ids=lambda value: str(value)[:20])
    async def test_a_weak_password_is_refused_with_every_reason(
        self, client: httpx.AsyncClient, cast: Cast, password: str, complaints: list[str]
    ) -> None:
        alice = await cast.member()
        before = await cast.contents()
        answer = await client.post(SET, json=body_of(password), headers=alice.headers)
        refused(answer, 400, "invalid_input", new_password=complaints)
        assert await cast.contents() == before

    async def test_a_password_like_the_address_or_the_name_is_refused(
        self, client: httpx.AsyncClient, cast: Cast
    ) -> None:
        alice = await cast.member()
        both = ["The password is too similar to the email.", "The password is too similar to the username."]
        easy = ["This password is too easy to guess.", "Add another word or two. Uncommon words are better."]
        answer = await client.post(SET, json=body_of(f"{alice.username}!"), headers=alice.headers)
        refused(answer, 400, "invalid_input", new_password=[*both, *easy])
        answer = await client.post(SET, json=body_of(alice.email), headers=alice.headers)
        refused(answer, 400, "invalid_input", new_password=[both[0], *easy])

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            ({}, {"current_password": [REQUIRED], "new_password": [REQUIRED]}),
            ({"current_password": PASSWORD}, {"new_password": [REQUIRED]}),
            ({"new_password": ANOTHER}, {"current_password": [REQUIRED]}),
            (body_of(re_new_password="another"), {"non_field_errors": [PASSWORDS_DIFFER]}),
            (body_of(re_new_password=""), {"non_field_errors": [PASSWORDS_DIFFER]}),
            (body_of("123", re_new_password="x"), {"non_field_errors": [PASSWORDS_DIFFER]}),
            (body_of(re_new_password=1), {"re_new_password": [WRONG_TYPE]}),
            ({**body_of(), "current_password": None}, {"current_password": [IS_NULL]}),
            ({**body_of(), "new_password": ["a"]}, {"new_password": [WRONG_TYPE]}),
            (body_of("correct\0horse battery"), {"new_password": [NULL]}),
            (body_of(current="\0"), {"current_password": [NULL]}),
            (
                body_of(current="x" * 4097),
                {"current_password": ["Ensure this field has no more than 4096 characters."]},
            ),
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

    async def test_changing_a_password_needs_a_session(self, client: httpx.AsyncClient, cast: Cast) -> None:
        gone = await cast.member()
        await cast.deactivate(gone)
        before = await cast.contents()
        for headers in ({}, {"Authorization": "Token nonsense"}, gone.headers):
            refused(await client.post(SET, json=body_of(), headers=headers), 401, "unauthenticated")
        assert await cast.contents() == before

    async def test_of_two_changes_at_once_one_wins(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        wishes = [f"{ANOTHER} {number}" for number in range(6)]
        asked = [client.post(SET, json=body_of(wish), headers=alice.headers) for wish in wishes]
        answers = await asyncio.gather(*asked)
        won = [wish for wish, answer in zip(wishes, answers, strict=True) if answer.status_code == 204]
        assert len(won) == 1
        for answer in answers:
            if answer.status_code != 204:
                refused(answer, 400, "invalid_input", current_password=[BAD_PASSWORD])
        assert await logs_in(client, won[0], email=alice.email)

    async def test_whoever_came_with_a_hash_from_elsewhere_can_change_it(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice = await cast.member()
        digest = base64.b64encode(hashlib.pbkdf2_hmac("sha256", b"old secret words", b"salt", 1000)).decode()
        foreign = f"pbkdf2_sha256$1000$salt${digest}"
        await ctx.db.execute("UPDATE users SET password_hash = $2 WHERE id = $1", alice.id, foreign)
        done(await client.post(SET, json=body_of(current="old secret words"), headers=alice.headers))
        assert await logs_in(client, ANOTHER, email=alice.email)
