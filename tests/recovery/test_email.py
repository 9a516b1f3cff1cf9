"""Changing an address: asked for with the password, done by whoever reads the new address's mail."""

import asyncio

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, refused
from tests.postbox import Postbox, text_of
from tests.steps import (
    ANOTHER,
    BAD_EMAIL,
    BAD_PASSWORD,
    BAD_TOKEN,
    BLANK,
    EMAIL_TAKEN,
    IS_NULL,
    LOGIN,
    NULL,
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
    lookup,
    news_withheld,
    opens,
    traces,
)

pytestmark = pytest.mark.usefixtures("empty_postbox")
SET, CONFIRM, RESET = at("set_email"), at("set_email_confirm"), at("reset_password")


def body_of(new: str, *, current: str = PASSWORD, **more: object) -> dict[str, object]:
    return {"new_email": new, "current_password": current, **more}


async def email_of(client: httpx.AsyncClient, person: Person) -> str:
    email: str = (await client.get("/auth/users/me/", headers=person.headers)).json()["email"]
    return email


class TestSetEmail:
    @pytest.mark.parametrize("path", [SET, SET.rstrip("/")])
    async def test_the_new_address_is_mailed_a_link_and_nothing_changes_before(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, path: str
    ) -> None:
        alice = await cast.member()
        done(await client.post(path, json=body_of(f"New-{alice.email}"), headers=alice.headers))
        [letter] = await postbox.collect()
        assert letter["to"] == f"New-{alice.email}"
        assert "/account/#/email/change/confirm/" in text_of(letter)
        assert alice.email not in text_of(letter).replace(letter["to"], "")
        assert await email_of(client, alice) == alice.email
        assert await logs_in(client, email=alice.email)
        assert not await logs_in(client, email=letter["to"])
        assert (await events_of(ctx, alice.id))[-2][0] == "email.change_requested"

    async def test_the_address_is_not_taken_before_it_is_confirmed(self, client: httpx.AsyncClient, cast: Cast) -> None:
        """Or anybody could keep anybody out by asking for their address."""
        alice, wanted = await cast.member(), "wanted@example.com"
        done(await client.post(SET, json=body_of(wanted), headers=alice.headers))
        form = {"email": wanted, "username": "wanted", "password": PASSWORD}
        assert (await client.post("/auth/users/", json=form)).status_code == 201

    @pytest.mark.parametrize("spell", [str, str.upper, lambda email: f" {email} ", lambda e: e.replace("p", "ｐ")])
    async def test_anothers_address_is_refused_however_it_is_written(
        self, client: httpx.AsyncClient, cast: Cast, spell: type[str]
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        before = await cast.contents()
        answer = await client.post(SET, json=body_of(spell(bob.email)), headers=alice.headers)
        refused(answer, 400, "invalid_input", new_email=[EMAIL_TAKEN])
        assert await cast.contents() == before

    async def test_ones_own_address_may_be_written_in_another_way(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        await cast.code(alice)
        new = alice.email.capitalize()
        link = await change_link(client, postbox, alice, new)
        done(await client.post(CONFIRM, json=link.body))
        assert await email_of(client, alice) == new
        assert (await client.get(lookup(alice.email), headers=alice.headers)).status_code == 200

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            ({}, {"current_password": [REQUIRED], "new_email": [REQUIRED]}),
            ({"new_email": "a@b.co"}, {"current_password": [REQUIRED]}),
            ({"current_password": PASSWORD}, {"new_email": [REQUIRED]}),
            (body_of(""), {"new_email": [BLANK]}),
            (body_of("nonsense"), {"new_email": [BAD_EMAIL]}),
            (body_of("a@b.co, c@d.co"), {"new_email": [BAD_EMAIL]}),
            (body_of("a@b.co\r\nBcc: c@d.co"), {"new_email": [BAD_EMAIL]}),
            (body_of("<a@b.co>"), {"new_email": [BAD_EMAIL]}),
            (body_of("deleted-5@deleted.invalid"), {"new_email": [BAD_EMAIL]}),
            (body_of("a" * 250 + "@b.co"), {"new_email": ["Ensure this field has no more than 254 characters."]}),
            (body_of("a@b.co\0"), {"new_email": [NULL]}),
            ({**body_of(""), "new_email": None}, {"new_email": [IS_NULL]}),
            ({**body_of("a@b.co"), "current_password": 1}, {"current_password": [WRONG_TYPE]}),
        ],
        ids=lambda value: ascii(value)[:60],
    )
    async def test_a_wrong_body_is_named_by_its_field(
        self, client: httpx.AsyncClient, cast: Cast, body: dict[str, object], fields: dict[str, list[str]]
    ) -> None:
        alice = await cast.member()
        before = await cast.contents()
        refused(await client.post(SET, json=body, headers=alice.headers), 400, "invalid_input", **fields)
        assert await cast.contents() == before

    async def test_a_wrong_password_says_nothing_of_the_address(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        before = await contents_but(cast, "audit")
        for current in ("x", "wrong", PASSWORD.upper()):
            for new in (bob.email, "free@example.com", "nonsense"):
                answer = await client.post(SET, json=body_of(new, current=current), headers=alice.headers)
                refused(answer, 400, "invalid_input", current_password=[BAD_PASSWORD])
        assert await contents_but(cast, "audit") == before
        assert (await events_of(ctx, alice.id))[-9:] == [("login.failed", "unknown", None)] * 9

    async def test_changing_an_email_needs_a_session(self, client: httpx.AsyncClient, cast: Cast) -> None:
        before = await cast.contents()
        for headers in ({}, {"Authorization": "Token nonsense"}):
            refused(await client.post(SET, json=body_of("a@b.co"), headers=headers), 401, "unauthenticated")
        assert await cast.contents() == before


class TestSetEmailConfirm:
    @pytest.mark.parametrize("path", [CONFIRM, CONFIRM.rstrip("/")])
    async def test_the_new_address_opens_and_the_old_does_not(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, path: str
    ) -> None:
        alice = await cast.member()
        new = f"new-{alice.email}"
        pair, link = await cast.pair(alice), await change_link(client, postbox, alice, new)
        done(await client.post(path, json=link.body))
        assert await email_of(client, alice) == new
        assert await opens(client, bearer(pair.access))
        assert await logs_in(client, email=new)
        assert not await logs_in(client, email=alice.email)
        assert ("email.changed", "self", alice.id) in await events_of(ctx, alice.id)
        answer = await client.post(path, json=link.body)
        refused(answer, 400, "invalid_input", token=[BAD_TOKEN])

    async def test_the_old_address_is_told_with_the_new_one_masked(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        new = f"somewhere-{alice.username}@elsewhere.org"
        link = await change_link(client, postbox, alice, new)
        done(await client.post(CONFIRM, json=link.body))
        [letter] = await postbox.collect()
        text = text_of(letter)
        assert letter["to"] == alice.email
        assert "s***@e***.org" in text.replace("\u2060", "")
        assert new not in text
        assert "elsewhere" not in bytes(letter).decode()

    async def test_the_code_is_found_under_the_new_address_at_once_and_no_more_under_the_old(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        code, new = await cast.code(alice), f"new-{alice.email}"
        link = await change_link(client, postbox, alice, new)
        assert (await client.get(lookup(alice.email), headers=bob.headers)).json()["code"] == code  # and now cached
        refused(await client.get(lookup(new), headers=bob.headers), 404, "code_not_found")
        done(await client.post(CONFIRM, json=link.body))
        refused(await client.get(lookup(alice.email), headers=bob.headers), 404, "code_not_found")
        assert (await client.get(lookup(new), headers=bob.headers)).json()["code"] == code

    async def test_this_process_forgets_the_old_address_before_it_answers(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        """The news of the commit may still be on its way."""
        alice, witness = await cast.member(), await cast.member()
        link = await change_link(client, postbox, alice, f"new-{alice.email}")
        for person in (alice, witness):
            await cast.code(person)
            await client.get(lookup(person.email), headers=alice.headers)
        kept = (witness.program_id, witness.email)
        async with news_withheld(ctx):
            done(await client.post(CONFIRM, json=link.body))
            answer = await client.get(lookup(alice.email), headers=witness.headers)
            assert ctx.caches["codes"].get(kept, now=ctx.clock.seconds()) is not None  # the cache is open
        refused(answer, 404, "code_not_found")

    async def test_the_freed_address_is_somebody_elses_to_take(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        await cast.code(alice)
        await client.get(lookup(alice.email), headers=alice.headers)
        done(await client.post(CONFIRM, json=(await change_link(client, postbox, alice, f"new-{alice.email}")).body))
        form = {"email": alice.email, "username": f"next-{alice.username}", "password": ANOTHER}
        assert (await client.post("/auth/users/", json=form)).status_code == 201
        token = (await client.post(LOGIN, json={"email": alice.email, "password": ANOTHER})).json()["auth_token"]
        refused(await client.get(lookup(alice.email), headers=alice.headers), 404, "code_not_found")
        bob = Person(0, alice.program_id, alice.email, form["username"], token)
        code = await cast.code(bob)
        assert (await client.get(lookup(alice.email), headers=alice.headers)).json()["code"] == code

    async def test_an_address_taken_meanwhile_is_refused_and_the_link_works_once_it_is_free(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        wanted = f"wanted-{alice.email}"
        alices = await change_link(client, postbox, alice, wanted)
        bobs = await change_link(client, postbox, bob, wanted)
        done(await client.post(CONFIRM, json=bobs.body))
        before = await cast.contents()
        answer = await client.post(CONFIRM, json=alices.body)
        refused(answer, 400, "invalid_input", new_email=[EMAIL_TAKEN])
        assert await cast.contents() == before
        body = {"current_password": PASSWORD}
        done(await client.request("DELETE", "/auth/users/me/", json=body, headers=bob.headers))
        done(await client.post(CONFIRM, json=alices.body))
        assert await email_of(client, alice) == wanted

    async def test_of_two_who_confirm_one_address_at_once_one_has_it(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        people = [await cast.member() for _ in range(4)]
        links = [await change_link(client, postbox, person, "contested@example.com") for person in people]
        answers = await asyncio.gather(*[client.post(CONFIRM, json=link.body) for link in links])
        assert sorted(answer.status_code for answer in answers) == [204, 400, 400, 400]
        for answer in answers:
            if answer.status_code == 400:
                refused(answer, 400, "invalid_input", new_email=[EMAIL_TAKEN])
        assert await ctx.db.fetchval("SELECT count(*) FROM users WHERE email_key = 'contested@example.com'") == 1

    async def test_links_sent_to_the_old_address_are_dead(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        reset = await link_for(client, postbox, alice, "reset_password")
        other = await change_link(client, postbox, alice, f"other-{alice.email}")
        link = await change_link(client, postbox, alice, f"new-{alice.email}")
        done(await client.post(RESET, json={"email": alice.email}))  # and one that is not sent yet
        done(await client.post(CONFIRM, json=link.body))
        answer = await client.post(at("reset_password_confirm"), json={**reset.body, "new_password": ANOTHER})
        refused(answer, 400, "invalid_input", token=[BAD_TOKEN])
        refused(await client.post(CONFIRM, json=other.body), 400, "invalid_input", token=[BAD_TOKEN])
        [letter] = await postbox.collect()
        assert letter["subject"] == "Your address at 127.0.0.1 was changed"

    async def test_an_address_that_was_given_up_leaves_no_trace_once_its_letters_are_sent(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        link = await change_link(client, postbox, alice, f"moved-{alice.username}@elsewhere.org")
        done(await client.post(CONFIRM, json=link.body))
        await postbox.collect()
        assert await traces(ctx, alice.email) == []
