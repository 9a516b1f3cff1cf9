"""DELETE /auth/users/me/ and /auth/users/{id}/: who may, and what is dead and gone when it answers."""

import asyncio
from typing import Any

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, in_days, refused
from tests.postbox import Postbox
from tests.steps import (
    ANOTHER,
    BAD_PASSWORD,
    BAD_TOKEN,
    BAD_UID,
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
    refreshes,
    sign_up,
    traces,
)

pytestmark = pytest.mark.usefixtures("empty_postbox")
ME, USERS = "/auth/users/me/", "/auth/users/"
DEAD_CODE = "This referral code is not valid."


def one(person: Person) -> str:
    return f"{USERS}{person.id}/"


async def delete(client: httpx.AsyncClient, actor: Person, path: str = ME, password: str = PASSWORD) -> httpx.Response:
    return await client.request("DELETE", path, json={"current_password": password}, headers=actor.headers)


async def signed_up(client: httpx.AsyncClient, name: str, **more: Any) -> Person:
    """Return somebody whose address and name are words that nothing else has in it, signed in."""
    person = await sign_up(client, email=f"{name}@{name}.example.org", username=f"{name}-name", **more)
    token = (await client.post(LOGIN, json={"email": person.email, "password": PASSWORD})).json()["auth_token"]
    return Person(person.id, person.program_id, person.email, person.username, token)


class TestWhoMay:
    @pytest.mark.parametrize("slash", ["/", ""])
    @pytest.mark.parametrize("by", ["me", "id"])
    async def test_the_user_may_with_the_password(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, slash: str, by: str
    ) -> None:
        alice, bob = await cast.member(), await cast.member()
        path = (ME if by == "me" else one(alice)).rstrip("/") + slash
        done(await delete(client, alice, path))
        row = await ctx.db.fetchrow("SELECT * FROM users WHERE id = $1", alice.id)
        assert (row["email"], row["username"]) == (f"deleted-{alice.id}@deleted.invalid", f"deleted {alice.id}")
        assert (row["is_active"], row["is_staff"], row["password_hash"]) == (False, False, "!")
        assert row["deleted_at"] is not None
        assert (await events_of(ctx, alice.id))[-1] == ("account.deleted", "self", alice.id)
        assert await opens(client, bob.headers)

    async def test_staff_may_with_their_own_password(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        staff, alice, boss = await cast.staff(), await cast.member(), await cast.staff()
        for person in (alice, boss):
            done(await delete(client, staff, one(person)))
            assert not await opens(client, person.headers)
            assert (await events_of(ctx, person.id))[-1] == ("account.deleted", "staff", staff.id)
        assert await opens(client, staff.headers)

    async def test_staff_need_their_own_password_and_not_the_members(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        staff, alice = await cast.staff(), await cast.member()
        body = {"current_password": PASSWORD, "new_password": ANOTHER}
        done(await client.post(at("set_password"), json=body, headers=staff.headers))
        refused(await delete(client, staff, one(alice)), 400, "invalid_input", current_password=[BAD_PASSWORD])
        assert await opens(client, alice.headers)
        done(await delete(client, staff, one(alice), ANOTHER))

    async def test_anybody_else_gets_a_404_and_nothing_is_told(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, bob, staff = await cast.member(), await cast.member(), await cast.staff()
        eve, boss, gone = await cast.stranger(), await cast.stranger(staff=True), await cast.member()
        done(await delete(client, gone))
        before = await cast.contents()
        for asking, wanted in [
            *((alice, person) for person in (bob, staff, eve, gone)),
            *((boss, person) for person in (alice, staff, eve, gone)),
        ]:
            refused(await delete(client, asking, one(wanted)), 404, "not_found")
        for wanted in (eve, gone):
            refused(await delete(client, staff, one(wanted)), 404, "not_found")
            refused(await delete(client, alice, one(wanted), "wrong"), 404, "not_found")
        assert await cast.contents() == before
        for person in (alice, bob, staff, eve, boss):
            assert await opens(client, person.headers)

    @pytest.mark.parametrize("password", ["wrong", PASSWORD.upper(), PASSWORD + ".", "x" * 5000])
    async def test_a_wrong_password_ends_nothing_and_is_recorded(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, password: str
    ) -> None:
        alice, staff = await cast.member(), await cast.staff()
        before = await contents_but(cast, "audit")
        for asking, path in ((alice, ME), (alice, one(alice)), (staff, one(alice))):
            answer = await delete(client, asking, path, password)
            refused(answer, 400, "invalid_input", current_password=[BAD_PASSWORD])
            assert (await events_of(ctx, asking.id))[-1] == ("login.failed", "unknown", None)
        assert await contents_but(cast, "audit") == before

    @pytest.mark.parametrize(
        ("body", "fields"),
        [
            ({}, {"current_password": [REQUIRED]}),
            ({"current_password": None}, {"current_password": [IS_NULL]}),
            ({"current_password": True}, {"current_password": [WRONG_TYPE]}),
            ({"current_password": "\0"}, {"current_password": [NULL]}),
            ({"password": PASSWORD}, {"current_password": [REQUIRED]}),
            ([], {"non_field_errors": [WRONG_TYPE]}),
        ],
        ids=str,
    )
    async def test_a_wrong_body_is_named_by_its_field(
        self, client: httpx.AsyncClient, cast: Cast, body: object, fields: dict[str, list[str]]
    ) -> None:
        alice = await cast.member()
        before = await cast.contents()
        for path in (ME, one(alice)):
            answer = await client.request("DELETE", path, json=body, headers=alice.headers)
            refused(answer, 400, "invalid_input", **fields)
        refused(await client.delete(ME, headers=alice.headers), 400, "invalid_input", current_password=[REQUIRED])
        assert await cast.contents() == before

    async def test_nobody_deletes_an_account_without_a_session(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        before = await cast.contents()
        for path in (ME, one(alice)):
            for headers in ({}, {"Authorization": "Token nonsense"}):
                answer = await client.request("DELETE", path, json={"current_password": PASSWORD}, headers=headers)
                refused(answer, 401, "unauthenticated")
        assert await cast.contents() == before

    async def test_an_account_is_deleted_once(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, staff = await cast.member(), await cast.staff()
        done(await delete(client, alice))
        before = await cast.contents()
        refused(await delete(client, alice), 401, "unauthenticated")
        refused(await delete(client, alice, one(alice)), 401, "unauthenticated")
        refused(await delete(client, staff, one(alice)), 404, "not_found")
        assert await cast.contents() == before

    async def test_of_many_who_delete_at_once_one_does(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, staff = await cast.member(), await cast.staff()
        asked = [delete(client, who, one(alice)) for who in (alice, staff, alice, staff)]
        answers = await asyncio.gather(*asked)
        assert [answer.status_code for answer in answers].count(204) == 1
        for answer in answers:
            if answer.status_code == 400:  # the password was asked when there was none any more
                refused(answer, 400, "invalid_input", current_password=[BAD_PASSWORD])
            elif answer.status_code != 204:
                refused(answer, answer.status_code, {401: "unauthenticated", 404: "not_found"}[answer.status_code])
        kinds = [kind for kind, _, _ in await events_of(ctx, alice.id)]
        assert kinds.count("account.deleted") == 1


class TestWhatIsDead:
    @pytest.mark.parametrize("who", ["self", "staff"])
    async def test_every_session_is(self, client: httpx.AsyncClient, cast: Cast, who: str) -> None:
        alice, staff = await cast.member(), await cast.staff()
        pair = await cast.pair(alice)
        done(await delete(client, alice if who == "self" else staff, one(alice)))
        for headers in (alice.headers, bearer(pair.access)):
            assert not await opens(client, headers)
        assert not await refreshes(client, pair.refresh)
        for token in (pair.access, pair.refresh):
            refused(await client.post("/auth/jwt/verify/", json={"token": token}), 401, "token_not_valid")

    async def test_the_password_is(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        done(await delete(client, alice))
        names = [{"email": alice.email}, {"username": alice.username}]
        names += [{"email": f"deleted-{alice.id}@deleted.invalid"}, {"username": f"deleted {alice.id}"}]
        for actor in names:
            for password in (PASSWORD, "!", ""):
                assert not await logs_in(client, password, **actor)

    async def test_the_code_is(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, bob = await cast.member(), await cast.member()
        code = await cast.code(alice)
        assert (await client.get(lookup(alice.email), headers=bob.headers)).json()["code"] == code
        done(await delete(client, alice))
        assert (await client.get(f"/api/referral_codes/check/{code}/")).json() == {"valid": False}
        for email in (alice.email, f"deleted-{alice.id}@deleted.invalid"):
            refused(await client.get(lookup(email), headers=bob.headers), 404, "code_not_found")
        form = {"email": "late@example.com", "username": "late", "password": PASSWORD, "referral_code": code}
        before = await cast.contents()
        refused(await client.post(USERS, json=form), 400, "invalid_input", referral_code=[DEAD_CODE])
        assert await cast.contents() == before

    async def test_this_process_forgets_the_code_before_it_answers(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        """The news of the commit may still be on its way."""
        alice, witness = await cast.member(), await cast.member()
        for person in (alice, witness):
            await cast.code(person)
            await client.get(lookup(person.email), headers=alice.headers)
        kept = (witness.program_id, witness.email)
        async with news_withheld(ctx):
            done(await delete(client, alice))
            answer = await client.get(lookup(alice.email), headers=witness.headers)
            assert ctx.caches["codes"].get(kept, now=ctx.clock.seconds()) is not None  # the cache is open
        refused(answer, 404, "code_not_found")

    async def test_every_link_and_pending_change_is(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        reset = await link_for(client, postbox, alice, "reset_password")
        change = await change_link(client, postbox, alice, f"new-{alice.email}")
        done(await client.post(at("reset_username"), json={"email": alice.email}))  # not sent yet
        body = {"new_email": f"late-{alice.email}", "current_password": PASSWORD}
        done(await client.post(at("set_email"), json=body, headers=alice.headers))
        done(await delete(client, alice))
        for link, route, more in (
            (reset, "reset_password_confirm", {"new_password": ANOTHER}),
            (change, "set_email_confirm", {}),
        ):
            answer = await client.post(at(route), json={**link.body, **more})
            refused(answer, 400, "invalid_input", uid=[BAD_UID])
        assert await postbox.collect() == []
        bob = await cast.member()  # whose uid does not help
        theirs = await link_for(client, postbox, bob, "reset_password")
        answer = await client.post(
            at("reset_password_confirm"), json={"uid": theirs.uid, "token": reset.token, "new_password": ANOTHER}
        )
        refused(answer, 400, "invalid_input", token=[BAD_TOKEN])


class TestWhatStays:
    async def test_referrals_stay_under_a_pseudonym(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, staff, other = await cast.member(), await cast.staff(), await cast.member()
        code = await cast.code(alice)
        bob, carol = [await cast.member(referral_code=code) for _ in range(2)]
        path = f"/api/users/{alice.id}/"
        before = (await client.get(path, headers=alice.headers)).json()
        done(await delete(client, bob))
        pseudonym = f"deleted-{bob.id}@deleted.invalid"
        for asking, bobs, carols in (
            (alice, pseudonym, carol.email),
            (staff, pseudonym, carol.email),
            (other, "d***@d***.invalid", "p***@e***.com"),
        ):
            listed = (await client.get(path, headers=asking.headers)).json()
            assert listed == [{**before[0], "email": carols}, {**before[1], "email": bobs}]
        answer = await client.get(f"/api/users/{bob.id}/referrer/", headers=staff.headers)
        assert answer.json()["email"] == alice.email

    async def test_whom_a_deleted_user_brought_stays_brought(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, staff = await cast.member(), await cast.staff()
        bob = await cast.member(referral_code=await cast.code(alice))
        done(await delete(client, alice))
        referrer = (await client.get(f"/api/users/{bob.id}/referrer/", headers=bob.headers)).json()
        assert (referrer["id"], referrer["email"]) == (alice.id, "d***@d***.invalid")
        referrer = (await client.get(f"/api/users/{bob.id}/referrer/", headers=staff.headers)).json()
        assert referrer["email"] == f"deleted-{alice.id}@deleted.invalid"
        listed = (await client.get(f"/api/users/{alice.id}/", headers=staff.headers)).json()
        assert [person["id"] for person in listed] == [bob.id]


class TestWhatIsGone:
    async def lived(self, client: httpx.AsyncClient, postbox: Postbox, name: str) -> list[str]:
        """Have somebody do all that one can do, and leave; return what must not be found any more."""
        person = await signed_up(client, name)
        for actor in ({"email": person.email}, {"username": person.username}):
            assert not await logs_in(client, "wrong", **actor)
        await client.post(at("reset_password"), json={"email": person.email})
        await client.post(at("reset_username"), json={"email": person.email})
        change = await change_link(client, postbox, person, f"{name}-two@{name}.example.org")
        done(await client.post(at("set_email_confirm"), json=change.body))
        renamed = {"username": f"{name}-renamed"}
        assert (await client.patch(ME, json=renamed, headers=person.headers)).status_code == 200
        body = {"new_email": f"{name}-three@{name}.example.org", "current_password": PASSWORD}
        done(await client.post(at("set_email"), json=body, headers=person.headers))
        expires = {"expiration_date": in_days(5)}
        assert (await client.post("/api/referral_codes/", json=expires, headers=person.headers)).status_code == 201
        await client.get(lookup(f"{name}-two@{name}.example.org"), headers=person.headers)
        done(await delete(client, person))
        return [name]

    async def test_no_column_of_any_table_tells_who_it_was(
        self, client: httpx.AsyncClient, ctx: AppContext, postbox: Postbox
    ) -> None:
        words = await self.lived(client, postbox, "zebrafinch")
        await postbox.collect()  # letters that wait hold where they go until they are sent
        assert await traces(ctx, *words) == []

    async def test_nor_does_what_waits_to_be_mailed(
        self, client: httpx.AsyncClient, ctx: AppContext, postbox: Postbox
    ) -> None:
        words = await self.lived(client, postbox, "quaggabird")
        assert await traces(ctx, *words) == []

    async def test_the_address_and_the_name_are_free_and_the_newcomer_has_nothing_of_the_old(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice = await signed_up(client, "kestrel", referral_code=await cast.code(await cast.member()))
        code = await cast.code(alice)
        await cast.member(referral_code=code)
        done(await delete(client, alice))
        again = await signed_up(client, "kestrel")
        assert (again.email, again.username) == (alice.email, alice.username)
        assert again.id != alice.id
        assert not await opens(client, alice.headers)
        for path, empty in ((f"/api/users/{again.id}/", []), ("/auth/users/", [one_of(again)])):
            assert (await client.get(path, headers=again.headers)).json() == empty
        refused(await client.get(f"/api/users/{again.id}/referrer/", headers=again.headers), 404, "not_found")
        refused(await client.get("/api/referral_codes/", headers=again.headers), 404, "code_not_found")
        refused(await client.get(lookup(again.email), headers=again.headers), 404, "code_not_found")
        assert len((await client.get("/auth/token/sessions/", headers=again.headers)).json()) == 1
        kinds = [event["kind"] for event in (await client.get(f"{ME}events/", headers=again.headers)).json()]
        assert kinds == ["login.succeeded", "account.created"]
        assert (await client.get(lookup(again.email), headers=again.headers)).status_code == 404
        assert await cast.code(again) != code


async def test_a_sign_up_that_races_with_the_deletion_comes_first_or_is_refused(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    outcomes = set()
    for _ in range(12):
        alice = await cast.member()
        code = await cast.code(alice)
        forms = [
            {"email": f"racer{alice.id}-{n}@example.com", "username": f"racer{alice.id}-{n}", "password": PASSWORD}
            for n in range(4)
        ]
        signing = [client.post(USERS, json={**form, "referral_code": code}) for form in forms]
        gone, *answers = await asyncio.gather(delete(client, alice), *signing)
        done(gone)
        for answer in answers:
            if answer.status_code != 201:
                refused(answer, 400, "invalid_input", referral_code=[DEAD_CODE])
        came = [answer.json()["id"] for answer in answers if answer.status_code == 201]
        outcomes.add(len(came))
        rows = await ctx.db.fetch("SELECT referee_id FROM referrals WHERE referrer_id = $1", alice.id)
        assert sorted(row["referee_id"] for row in rows) == sorted(came)
    assert outcomes  # that each came before the revocation is I3, which is checked at the module's end


def one_of(person: Person) -> dict[str, Any]:
    return {"email": person.email, "id": person.id, "username": person.username}
