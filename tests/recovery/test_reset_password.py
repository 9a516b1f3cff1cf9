"""Changing a password by a link in a mail: reset_password, reset_password_confirm."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from invitree.identity.recovery.actions import reset_password, resolve_link
from invitree.kit.context import AppContext
from invitree.kit.secrets.passwords import Hasher
from tests.cast import NOWHERE, PASSWORD, Cast, Person, refused
from tests.hashes import busy
from tests.postbox import Link, Postbox, link_in, text_of
from tests.recovery.test_password import WEAK
from tests.steps import (
    ANOTHER,
    BAD_EMAIL,
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
    done,
    events_of,
    expire_links,
    link_for,
    logs_in,
    opens,
    refreshes,
)

pytestmark = pytest.mark.usefixtures("empty_postbox")
Request = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]
RESET, CONFIRM = at("reset_password"), at("reset_password_confirm")


class TestResetPassword:
    @pytest.mark.parametrize("path", [RESET, RESET.rstrip("/")])
    async def test_whoever_has_the_address_is_mailed_a_link_and_nothing_else_changes(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox, path: str
    ) -> None:
        alice = await cast.member()
        pair = await cast.pair(alice)
        done(await client.post(path, json={"email": alice.email}))
        assert (await postbox.link(alice.email)).task == "password/reset/confirm"
        assert await logs_in(client, email=alice.email)
        assert await opens(client, alice.headers)
        assert await refreshes(client, pair.refresh)

    async def test_the_letter_goes_to_the_address_that_is_on_record(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        for email in (alice.email.upper(), f" {alice.email}", alice.email.replace("p", "ｐ", 1)):
            done(await client.post(RESET, json={"email": email}))
            assert [letter["to"] for letter in await postbox.collect()] == [alice.email]

    async def test_the_letter_is_in_the_language_of_the_request(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        for language, word in (("en", "somebody"), ("ru", "Здравствуйте")):
            done(await client.post(RESET, json={"email": alice.email}, headers={"Accept-Language": language}))
            [letter] = await postbox.collect()
            assert letter["content-language"] == language
            assert word in text_of(letter)

    async def test_everybody_gets_the_same_answer_to_the_byte_and_only_members_a_letter(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice, gone, deleted, eve = [*[await cast.member() for _ in range(3)], await cast.stranger()]
        await cast.deactivate(gone)
        body = {"current_password": PASSWORD}
        done(await client.request("DELETE", "/auth/users/me/", json=body, headers=deleted.headers))
        await postbox.collect()
        emails = [gone.email, deleted.email, eve.email, "nobody@example.com", alice.email]
        emails += [f"a+b{alice.email}", f"person+tag@{alice.email.partition('@')[2]}"]
        for route in ("reset_password", "reset_username"):
            for language in ("en", "ru"):
                headers = {"X-Request-Id": "same", "Accept-Language": language}
                answers = [await client.post(at(route), json={"email": one}, headers=headers) for one in emails]
                for answer in answers:
                    done(answer)
                assert len({tuple(answer.headers.raw) for answer in answers}) == 1
                assert [letter["to"] for letter in await postbox.collect()] == [alice.email]

    async def test_a_deleted_users_pseudonym_is_nobodys_address(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        body = {"current_password": PASSWORD}
        done(await client.request("DELETE", "/auth/users/me/", json=body, headers=alice.headers))
        await client.post(RESET, json={"email": f"deleted-{alice.id}@deleted.invalid"})
        assert await postbox.collect() == []

    async def test_another_programs_user_is_reached_by_naming_the_program(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        eve = await cast.stranger()
        slug = await ctx.db.fetchval("SELECT slug FROM programs WHERE id = $1", eve.program_id)
        done(await client.post(RESET, json={"email": eve.email}))
        assert await postbox.collect() == []
        done(await client.post(RESET, json={"email": eve.email}, headers={"X-Program": slug}))
        link = await postbox.link(eve.email)
        done(await client.post(CONFIRM, json={**link.body, "new_password": ANOTHER}))  # the token names its program
        answer = await client.post(
            "/auth/token/login/", json={"email": eve.email, "password": ANOTHER}, headers={"X-Program": slug}
        )
        assert answer.status_code == 200

    @pytest.mark.parametrize("route", ["reset_password", "reset_username"])
    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            ({}, {"email": [REQUIRED]}),
            ({"email": ""}, {"email": [BLANK]}),
            ({"email": "nonsense"}, {"email": [BAD_EMAIL]}),
            ({"email": "a@b.co, c@d.co"}, {"email": [BAD_EMAIL]}),
            ({"email": "a@b.co\nBcc: c@d.co"}, {"email": [BAD_EMAIL]}),
            ({"email": None}, {"email": [IS_NULL]}),
            ({"email": {"email": "a@b.co"}}, {"email": [WRONG_TYPE]}),
            ({"email": "\0"}, {"email": [NULL]}),
            ({"email": "a" * 250 + "@b.co"}, {"email": ["Ensure this field has no more than 254 characters."]}),
        ],
        ids=lambda value: str(value)[:40],
    )
    async def test_a_wrong_body_is_named_by_its_field(
        self, client: httpx.AsyncClient, cast: Cast, route: str, body: dict[str, object], fields: dict[str, list[str]]
    ) -> None:
        before = await cast.contents()
        refused(await client.post(at(route), json=body), 400, "invalid_input", **fields)
        assert await cast.contents() == before


class TestResetPasswordConfirm:
    async def link(self, client: httpx.AsyncClient, postbox: Postbox, person: Person) -> Link:
        return await link_for(client, postbox, person, "reset_password")

    @pytest.mark.parametrize("path", [CONFIRM, CONFIRM.rstrip("/")])
    @pytest.mark.parametrize("again", [{}, {"re_new_password": ANOTHER}, {"re_new_password": None}], ids=str)
    async def test_the_new_password_opens_and_every_session_is_dead(
        self,
        client: httpx.AsyncClient,
        cast: Cast,
        ctx: AppContext,
        postbox: Postbox,
        path: str,
        again: dict[str, str],
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        pair, link = await cast.pair(alice), await self.link(client, postbox, alice)
        # Signed in as they may be, this session dies too.
        done(await client.post(path, json={**link.body, "new_password": ANOTHER, **again}, headers=alice.headers))
        assert not await opens(client, alice.headers)
        assert not await opens(client, bearer(pair.access))
        assert not await refreshes(client, pair.refresh)
        refused(await client.post("/auth/jwt/verify/", json={"token": pair.access}), 401, "token_not_valid")
        assert await opens(client, bob.headers)
        assert await logs_in(client, ANOTHER, email=alice.email)
        assert not await logs_in(client, PASSWORD, email=alice.email)
        kinds = [kind for kind, _, _ in await events_of(ctx, alice.id)]
        assert "password.reset_requested" in kinds
        assert "password.reset" in kinds

    async def test_the_user_is_told_by_mail(self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox) -> None:
        alice = await cast.member()
        link = await self.link(client, postbox, alice)
        done(await client.post(CONFIRM, json={**link.body, "new_password": ANOTHER}))
        [letter] = await postbox.collect()
        assert (letter["to"], letter["subject"]) == (alice.email, "Your password at 127.0.0.1 was changed")

    async def test_every_other_link_and_pending_change_is_dead(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        older, newer = [await self.link(client, postbox, alice) for _ in range(2)]
        rename = await link_for(client, postbox, alice, "reset_username")
        change = await change_link(client, postbox, alice, f"new-{alice.email}")
        done(await client.post(CONFIRM, json={**older.body, "new_password": ANOTHER}))
        for route, more, link in (
            ("reset_password_confirm", {"new_password": "third battery horse"}, newer),
            ("reset_password_confirm", {"new_password": "third battery horse"}, older),
            ("reset_username_confirm", {"new_username": f"new-{alice.username}"}, rename),
            ("set_email_confirm", {}, change),
        ):
            answer = await client.post(at(route), json={**link.body, **more})
            refused(answer, 400, "invalid_input", token=[BAD_TOKEN])
        assert await ctx.db.fetchval("SELECT email FROM users WHERE id = $1", alice.id) == alice.email

    @pytest.mark.parametrize(("password", "complaints"), WEAK, ids=lambda value: str(value)[:20])
    async def test_a_weak_password_is_refused_and_the_link_still_works(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox, password: str, complaints: list[str]
    ) -> None:
        alice = await cast.member()
        link = await self.link(client, postbox, alice)
        before = await cast.contents()
        answer = await client.post(CONFIRM, json={**link.body, "new_password": password})
        refused(answer, 400, "invalid_input", new_password=complaints)
        answer = await client.post(CONFIRM, json={**link.body, "new_password": ANOTHER, "re_new_password": "other"})
        refused(answer, 400, "invalid_input", non_field_errors=[PASSWORDS_DIFFER])
        assert await cast.contents() == before
        done(await client.post(CONFIRM, json={**link.body, "new_password": ANOTHER}))

    async def test_a_password_like_its_users_address_is_refused(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        link = await self.link(client, postbox, alice)
        answer = await client.post(CONFIRM, json={**link.body, "new_password": alice.email})
        assert answer.json()["new_password"][0] == "The password is too similar to the email."

    async def test_a_link_lives_thirty_minutes_from_its_sending(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        link = await self.link(client, postbox, alice)
        life_s = await ctx.db.fetchval(
            "SELECT extract(epoch FROM expires_at - created_at)::int FROM one_time_tokens WHERE user_id = $1", alice.id
        )
        assert life_s == 30 * 60
        await expire_links(ctx, alice)
        answer = await client.post(CONFIRM, json={**link.body, "new_password": ANOTHER})
        refused(answer, 400, "invalid_input", token=[BAD_TOKEN])

    async def test_of_many_at_once_one_wins(self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox) -> None:
        alice = await cast.member()
        link = await self.link(client, postbox, alice)
        asked = [client.post(CONFIRM, json={**link.body, "new_password": f"{ANOTHER} {n}"}) for n in range(6)]
        answers = await asyncio.gather(*asked)
        assert sorted(answer.status_code for answer in answers) == [204] + [400] * 5
        for answer in answers:
            if answer.status_code == 400:
                refused(answer, 400, "invalid_input", token=[BAD_TOKEN])

    async def test_the_link_in_the_page_and_in_the_text_is_the_same(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        done(await client.post(RESET, json={"email": alice.email}))
        [letter] = await postbox.collect()
        part = letter.get_body(("html",))
        assert part is not None
        assert f'href="http://127.0.0.1:8000/account/#/password/reset/confirm/{link_in(letter).uid}/' in (
            part.get_content()
        )


class TestWhatIsUnderWay:
    """Requests with the old password, checked before the reset and written after it."""

    @asynccontextmanager
    async def while_hashing(
        self, client: httpx.AsyncClient, ctx: AppContext, postbox: Postbox, person: Person, asked: Request
    ) -> AsyncIterator[httpx.Response]:
        """Let a person's password be reset after `asked` has read the old one and before it has compared it."""
        link = await link_for(client, postbox, person, "reset_password")
        followed = await resolve_link(
            ctx, kind="password_reset", program_id=person.program_id, user_id=person.id, token=link.token
        )
        other = Hasher(threads=1)
        async with busy(ctx.hasher, waiting=0):
            answering = asyncio.ensure_future(asked(client))
            while ctx.hasher._waiting == 0:  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(0.01)
            new_hash = await other.hash(ANOTHER)
            async with ctx.db.transaction() as tx:
                await reset_password(tx, followed, new_hash=new_hash, origin=NOWHERE)
        other.close()
        yield await answering

    @pytest.mark.parametrize("path", ["/auth/token/login/", "/auth/jwt/create/"])
    async def test_a_login_that_was_under_way_leaves_no_session(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, path: str
    ) -> None:
        alice = await cast.member()
        body = {"email": alice.email, "password": PASSWORD}
        async with self.while_hashing(client, ctx, postbox, alice, lambda c: c.post(path, json=body)) as answer:
            got = answer.json()
        if "auth_token" in got:
            assert not await opens(client, {"Authorization": f"Token {got['auth_token']}"})
        if "access" in got:
            assert not await opens(client, bearer(got["access"]))
            assert not await refreshes(client, got["refresh"])
        assert await ctx.db.fetchval("SELECT count(*) FROM sessions WHERE user_id = $1", alice.id) == 0

    async def test_a_change_of_address_that_was_under_way_is_not_pending(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        body = {"new_email": f"attacker-{alice.email}", "current_password": PASSWORD}

        def asked(c: httpx.AsyncClient) -> Awaitable[httpx.Response]:
            return c.post(at("set_email"), json=body, headers=alice.headers)

        async with self.while_hashing(client, ctx, postbox, alice, asked):
            letters = [letter for letter in await postbox.collect() if letter["to"] == body["new_email"]]
        for letter in letters:
            answer = await client.post(at("set_email_confirm"), json=link_in(letter).body)
            assert answer.status_code == 400
            refused(answer, 400, "invalid_input", token=[BAD_TOKEN])
        assert await ctx.db.fetchval("SELECT email FROM users WHERE id = $1", alice.id) == alice.email

    async def test_a_deletion_that_was_under_way_deletes_nothing(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()

        def asked(c: httpx.AsyncClient) -> Awaitable[httpx.Response]:
            body = {"current_password": PASSWORD}
            return c.request("DELETE", "/auth/users/me/", json=body, headers=alice.headers)

        async with self.while_hashing(client, ctx, postbox, alice, asked) as answer:
            assert answer.status_code in (400, 401)
        assert await logs_in(client, ANOTHER, email=alice.email)
