"""Confirming an address, where the program asks for it: sign-up, activation, resending, and what it protects from."""

import httpx
import pytest

from invitree.identity.audit.store import OPERATOR
from invitree.identity.programs.actions import set_policy
from invitree.intake.closure.actions import reactivate_account
from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, in_days, refused
from tests.postbox import Link, Postbox, link_in, text_of
from tests.steps import (
    ANOTHER,
    BAD_EMAIL,
    BAD_TOKEN,
    BAD_UID,
    BLANK,
    IS_NULL,
    LOGIN,
    NULL,
    REQUIRED,
    WRONG_TYPE,
    at,
    bearer,
    default_program,
    done,
    events_of,
    expire_links,
    link_for,
    logs_in,
    opens,
    refreshes,
    require_activation,
    sign_up,
)

pytestmark = pytest.mark.usefixtures("activation_required")
ACTIVATE, RESEND, CREATE = at("activation"), at("resend_activation"), "/api/referral_codes/create/"
STALE = "Stale token for given user."


async def confirmed(client: httpx.AsyncClient, postbox: Postbox) -> Person:
    """Return somebody who signed up and followed the link."""
    person = await sign_up(client)
    done(await client.post(ACTIVATE, json=(await postbox.link(person.email)).body))
    return person


async def signed_in(client: httpx.AsyncClient, person: Person, password: str = PASSWORD) -> dict[str, str]:
    answer = await client.post(LOGIN, json={"email": person.email, "password": password})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Token {answer.json()['auth_token']}"}


class TestSignUp:
    async def test_a_newcomer_is_mailed_a_link_and_cannot_log_in_before(
        self, client: httpx.AsyncClient, postbox: Postbox
    ) -> None:
        person = await sign_up(client, email="Newcomer.One@example.com")
        [letter] = [letter for letter in await postbox.collect() if letter["to"] == person.email]
        assert link_in(letter).task == "activate"
        assert letter["subject"] == "Confirm your address for 127.0.0.1"
        for path, status, code in (
            (LOGIN, 400, "invalid_credentials"),
            ("/auth/jwt/create/", 401, "no_active_account"),
        ):
            lists = {"non_field_errors": ["Unable to log in with provided credentials."]} if status == 400 else {}
            for actor in ({"email": person.email}, {"username": person.username}):
                refused(await client.post(path, json={**actor, "password": PASSWORD}), status, code, **lists)

    async def test_the_letter_is_in_the_language_of_the_request(
        self, client: httpx.AsyncClient, postbox: Postbox
    ) -> None:
        body = {"email": "ru1@example.com", "username": "ru1", "password": PASSWORD}
        answer = await client.post("/auth/users/", json=body, headers={"Accept-Language": "ru"})
        assert answer.status_code == 201
        [letter] = [letter for letter in await postbox.collect() if letter["to"] == "ru1@example.com"]
        assert letter["content-language"] == "ru"
        assert "Подтвердите" in text_of(letter)

    async def test_a_refused_sign_up_sends_nothing(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        before = await cast.contents()
        body = {"email": "nocode@example.com", "username": "nocode", "password": PASSWORD, "referral_code": "ZZZZZZZZ"}
        assert (await client.post("/auth/users/", json=body)).status_code == 400
        assert await cast.contents() == before
        assert await postbox.collect() == []

    async def test_the_referral_is_written_at_once(self, client: httpx.AsyncClient, postbox: Postbox) -> None:
        alice = await confirmed(client, postbox)
        headers = await signed_in(client, alice)
        code = (await client.post(CREATE, json={"expiration_date": in_days(5)}, headers=headers)).json()["code"]
        bob = await sign_up(client, referral_code=code)
        listed = (await client.get(f"/api/users/{alice.id}/", headers=headers)).json()
        assert [person["id"] for person in listed] == [bob.id]


class TestActivation:
    @pytest.mark.parametrize("path", [ACTIVATE, ACTIVATE.rstrip("/")])
    async def test_following_the_link_lets_the_account_act(
        self, client: httpx.AsyncClient, ctx: AppContext, postbox: Postbox, path: str
    ) -> None:
        person = await sign_up(client)
        link = await postbox.link(person.email)
        done(await client.post(path, json=link.body))
        headers = await signed_in(client, person)
        answer = await client.post(CREATE, json={"expiration_date": in_days(5)}, headers=headers)
        assert answer.status_code == 201, answer.text
        kinds = [("account.created", "self", None), ("account.activated", "self", person.id)]
        assert (await events_of(ctx, person.id))[:2] == kinds

    async def test_a_second_activation_is_stale(self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox) -> None:
        person = await sign_up(client)
        first = await postbox.link(person.email)
        second = await link_for(client, postbox, person, "resend_activation")
        assert first != second
        done(await client.post(ACTIVATE, json=first.body))
        before = await cast.contents()
        for link in (first, second, first):
            answer = await client.post(ACTIVATE, json=link.body)
            assert refused(answer, 403, "stale_token")["detail"] == STALE
        answer = await client.post(ACTIVATE, json=first.body, headers={"Accept-Language": "ru"})
        assert refused(answer, 403, "stale_token")["detail"] == "Этот пользователь уже активирован."
        assert await cast.contents() == before

    async def test_the_older_link_and_the_newer_both_work_once(
        self, client: httpx.AsyncClient, postbox: Postbox
    ) -> None:
        """Whoever knows an address could keep its owner out otherwise, by asking again and again."""
        person = await sign_up(client)
        await postbox.collect()
        links = [await link_for(client, postbox, person, "resend_activation") for _ in range(2)]
        done(await client.post(ACTIVATE, json=links[0].body))
        refused(await client.post(ACTIVATE, json=links[1].body), 403, "stale_token")

    @pytest.mark.parametrize("again", [False, True])
    async def test_a_deactivated_newcomer_is_not_let_in_by_the_link(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, again: bool
    ) -> None:
        person = await sign_up(client)
        link = await postbox.link(person.email)
        await cast.deactivate(person)
        before = await cast.contents()
        refused(await client.post(ACTIVATE, json=link.body), 400, "invalid_input", token=[BAD_TOKEN])
        assert await cast.contents() == before
        assert not await logs_in(client, email=person.email)
        if again:
            assert await reactivate_account(ctx.db, program_id=person.program_id, user_id=person.id, actor=OPERATOR)
            refused(await client.post(ACTIVATE, json=link.body), 400, "invalid_input", token=[BAD_TOKEN])

    async def test_a_newcomer_let_in_again_by_the_operator_still_has_an_address_to_confirm(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        person = await sign_up(client)
        await cast.deactivate(person)
        assert await reactivate_account(ctx.db, program_id=person.program_id, user_id=person.id, actor=OPERATOR)
        await postbox.collect()
        assert not await logs_in(client, email=person.email)
        done(await client.post(ACTIVATE, json=(await link_for(client, postbox, person, "resend_activation")).body))
        assert await logs_in(client, email=person.email)

    async def test_an_expired_link_is_refused_and_another_works(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        person = await sign_up(client)
        link = await postbox.link(person.email)
        await expire_links(ctx, person)
        before = await cast.contents()
        refused(await client.post(ACTIVATE, json=link.body), 400, "invalid_input", token=[BAD_TOKEN])
        assert await cast.contents() == before
        done(await client.post(ACTIVATE, json=(await link_for(client, postbox, person, "resend_activation")).body))

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            ({}, {"uid": [REQUIRED], "token": [REQUIRED]}),
            ({"uid": "MQ"}, {"token": [REQUIRED]}),
            ({"token": "x"}, {"uid": [REQUIRED]}),
            ({"uid": 1, "token": "x"}, {"uid": [WRONG_TYPE]}),
            ({"uid": "MQ", "token": None}, {"token": [IS_NULL]}),
            ({"uid": "MQ\0", "token": "x"}, {"uid": [NULL]}),
            ({"uid": "MQ", "token": "x\0"}, {"token": [NULL]}),
            ({"uid": "M" * 201, "token": "x"}, {"uid": ["Ensure this field has no more than 200 characters."]}),
            ({"uid": "MQ", "token": "x" * 201}, {"token": ["Ensure this field has no more than 200 characters."]}),
            ({"uid": "", "token": " "}, {"uid": [BLANK], "token": [BLANK]}),
            ({"uid": "OTk5OTk5", "token": "1.x"}, {"uid": [BAD_UID]}),
        ],
        ids=str,
    )
    async def test_a_wrong_body_is_named_by_its_field(
        self, client: httpx.AsyncClient, cast: Cast, body: dict[str, object], fields: dict[str, list[str]]
    ) -> None:
        before = await cast.contents()
        refused(await client.post(ACTIVATE, json=body), 400, "invalid_input", **fields)
        assert await cast.contents() == before


class TestResendActivation:
    async def test_a_newcomer_is_mailed_another_link(self, client: httpx.AsyncClient, postbox: Postbox) -> None:
        person = await sign_up(client)
        await postbox.collect()
        for path, email in ((RESEND, person.email), (RESEND.rstrip("/"), f" {person.email.upper()} ")):
            done(await client.post(path, json={"email": email}))
            assert (await postbox.link(person.email)).task == "activate"
        done(await client.post(ACTIVATE, json=(await link_for(client, postbox, person, "resend_activation")).body))

    async def test_everybody_else_gets_the_same_answer_and_no_letter(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        ready, newcomer, gone = await confirmed(client, postbox), await sign_up(client), await cast.member()
        await cast.deactivate(gone)
        await postbox.collect()
        seen = set()
        for email in (ready.email, gone.email, "nobody@example.com", newcomer.email):
            answer = await client.post(RESEND, json={"email": email}, headers={"X-Request-Id": "same"})
            done(answer)
            seen.add(tuple(answer.headers.raw))
        assert len(seen) == 1
        assert [letter["to"] for letter in await postbox.collect()] == [newcomer.email]

    async def test_a_program_without_activation_says_so(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        eve = await cast.stranger()
        before = await cast.contents()
        answer = await client.post(RESEND, json={"email": eve.email}, headers=eve.headers)
        off = ["Addresses are not confirmed here."]
        assert refused(answer, 400, "invalid_input", non_field_errors=off)["detail"] == off[0]
        assert await cast.contents() == before

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            ({}, {"email": [REQUIRED]}),
            ({"email": None}, {"email": [IS_NULL]}),
            ({"email": ""}, {"email": [BLANK]}),
            ({"email": "nonsense"}, {"email": [BAD_EMAIL]}),
            ({"email": "a@b.co,c@d.co"}, {"email": [BAD_EMAIL]}),
            ({"email": "a@b.co\r\nBcc: c@d.co"}, {"email": [BAD_EMAIL]}),
            ({"email": "a@b.co\0"}, {"email": [NULL]}),
            ({"email": "a" * 250 + "@b.co"}, {"email": ["Ensure this field has no more than 254 characters."]}),
            ({"email": ["a@b.co"]}, {"email": [WRONG_TYPE]}),
        ],
        ids=str,
    )
    async def test_a_wrong_body_is_named_by_its_field(
        self, client: httpx.AsyncClient, cast: Cast, body: dict[str, object], fields: dict[str, list[str]]
    ) -> None:
        before = await cast.contents()
        refused(await client.post(RESEND, json=body), 400, "invalid_input", **fields)
        assert await cast.contents() == before


class TestHijackBeforehand:
    """Somebody signs up with the address of somebody else, and waits (Sudhodanan and Paverd, 2022)."""

    async def test_with_activation_the_attacker_gets_nowhere_and_the_victim_gets_all(
        self, client: httpx.AsyncClient, postbox: Postbox
    ) -> None:
        person = await sign_up(client, email="victim1@example.com", username="attacker1")
        waiting = await postbox.link(person.email)  # which the attacker never sees
        assert not await logs_in(client, email=person.email)
        reset = await link_for(client, postbox, person, "reset_password")
        done(await client.post(at("reset_password_confirm"), json={**reset.body, "new_password": ANOTHER}))
        assert not await logs_in(client, email=person.email)
        headers = await signed_in(client, person, ANOTHER)  # a reset confirms the address
        answer = await client.post(CREATE, json={"expiration_date": in_days(5)}, headers=headers)
        assert answer.status_code == 201
        refused(await client.post(ACTIVATE, json=waiting.body), 400, "invalid_input", token=[BAD_TOKEN])

    async def test_an_unconfirmed_account_makes_no_code_even_where_it_is_let_in(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        """It signed up before the program began to ask for confirmation."""
        eve = await cast.member()
        assert await opens(client, eve.headers)
        before = await cast.contents()
        for path in (CREATE, f"{CREATE}?replace=true", "/api/referral_codes/"):
            answer = await client.post(path, json={"expiration_date": in_days(5)}, headers=eve.headers)
            assert refused(answer, 403, "email_not_confirmed")["detail"] == "Confirm your e-mail address first."
        assert await cast.contents() == before

    async def test_without_activation_a_reset_ends_all_that_the_attacker_has_prepared(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        program = await default_program(ctx)
        await set_policy(ctx.db, program_id=program.id, activation="off")
        ctx.caches["programs"].clear()
        try:
            mallory = await cast.member()  # with the victim's address
            pair, pending = await cast.pair(mallory), await self._pending(client, postbox, mallory)
        finally:
            await require_activation(ctx)
        reset = await link_for(client, postbox, mallory, "reset_password")
        done(await client.post(at("reset_password_confirm"), json={**reset.body, "new_password": ANOTHER}))
        for headers in (mallory.headers, bearer(pair.access)):
            assert not await opens(client, headers)
        assert not await refreshes(client, pair.refresh)
        refused(await client.post(at("set_email_confirm"), json=pending.body), 400, "invalid_input", token=[BAD_TOKEN])
        assert not await logs_in(client, email=mallory.email)
        assert await logs_in(client, ANOTHER, email=mallory.email)
        assert await ctx.db.fetchval("SELECT email FROM users WHERE id = $1", mallory.id) == mallory.email

    async def test_a_change_asked_for_and_not_yet_mailed_dies_as_well(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        mallory = await cast.member()
        reset = await link_for(client, postbox, mallory, "reset_password")
        body = {"new_email": "late@example.com", "current_password": PASSWORD}
        done(await client.post(at("set_email"), json=body, headers=mallory.headers))
        done(await client.post(at("reset_password_confirm"), json={**reset.body, "new_password": ANOTHER}))
        assert [letter["to"] for letter in await postbox.collect()] == [mallory.email]  # the notice alone

    async def _pending(self, client: httpx.AsyncClient, postbox: Postbox, mallory: Person) -> Link:
        body = {"new_email": f"own-{mallory.username}@example.com", "current_password": PASSWORD}
        done(await client.post(at("set_email"), json=body, headers=mallory.headers))
        return await postbox.link(body["new_email"])
