"""GET, PUT and PATCH of /auth/users/, /auth/users/me/ and /auth/users/{id}/."""

import re
from typing import Any

import httpx
import pytest

from invitree.identity.programs.store import find_program
from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, refused
from tests.steps import (
    BAD_NAME,
    NAME_TAKEN,
    NULL,
    WRONG_TYPE,
    bearer,
    done,
    events_of,
    logs_in,
)

USERS, ME = "/auth/users/", "/auth/users/me/"
IS_NULL = "This field may not be null."
BLANK, TOO_LONG = "This field may not be blank.", "Ensure this field has no more than 150 characters."
BAD_NAMES = [
    ("", BLANK),
    ("a b", BAD_NAME),
    ("anna/..", BAD_NAME),
    ("<b>", BAD_NAME),
    ("an\u200bna", BAD_NAME),
    ("deleted 1", BAD_NAME),
    ("x" * 151, TOO_LONG),
    ("㍍" * 50, BAD_NAME),  # in NFKC, over 150
]
ODD_IDS = [
    *("0", "-1", "+{}", "0{}", "{}_0", " {}", "{} ", "{}.0", "1e0", "٣", "x", "Me", "null", "{}%00", "%2B{}"),
    *("9007199254740992", "9" * 30, "9" * 5000),
]


def one(user_id: Any) -> str:
    return f"{USERS}{user_id}/"


def shown(person: Person, **changes: str) -> dict[str, Any]:
    return {"email": person.email, "id": person.id, "username": person.username, **changes}


async def delete(client: httpx.AsyncClient, person: Person) -> None:
    done(await client.request("DELETE", ME, json={"current_password": PASSWORD}, headers=person.headers))


async def join(cast: Cast, ctx: AppContext, person: Person) -> Person:
    """Return a new member of somebody's program."""
    return await cast.member(program=await find_program(ctx.db, program_id=person.program_id))


class TestListUsers:
    @pytest.mark.parametrize("path", [USERS, USERS.rstrip("/"), f"{USERS}?limit=1", f"{USERS}?after=1"])
    async def test_a_member_sees_an_array_of_themselves(self, client: httpx.AsyncClient, cast: Cast, path: str) -> None:
        for person in (await cast.member(), await cast.stranger()):
            answer = await client.get(path, headers=person.headers)
            assert (answer.status_code, answer.json()) == (200, [shown(person)])
            assert "link" not in answer.headers

    async def test_staff_see_everybody_page_by_page_by_id(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        eve = await cast.stranger(staff=True)
        people = [eve]
        for _ in range(6):
            await cast.member()  # of another program, in between
            people.append(await join(cast, ctx, eve))
        path, seen, pages = f"{USERS}?limit=3", [], 0
        while path:
            answer = await client.get(path, headers=eve.headers)
            assert answer.status_code == 200
            seen += answer.json()
            pages += 1
            link = answer.headers.get("link", "")
            match = re.fullmatch(r'<(\?limit=3&after=\d+)>; rel="next"', link)
            assert bool(match) == bool(link)
            path = f"{USERS}{match[1]}" if match else ""
        assert seen == [shown(person) for person in people]
        assert pages == 3  # of seven; and no empty one at the end

    async def test_a_full_last_page_leads_nowhere(self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext) -> None:
        eve = await cast.stranger(staff=True)
        for _ in range(2):
            await join(cast, ctx, eve)
        answer = await client.get(f"{USERS}?limit=3", headers=eve.headers)
        assert len(answer.json()) == 3
        assert "link" not in answer.headers

    async def test_the_deactivated_are_listed_and_the_deleted_are_not(
        self, client: httpx.AsyncClient, cast: Cast
    ) -> None:
        staff, out, gone = await cast.staff(), await cast.member(), await cast.member()
        await cast.deactivate(out)
        await delete(client, gone)
        listed = (await client.get(f"{USERS}?limit=100", headers=staff.headers)).json()
        assert shown(out) in listed
        assert gone.id not in {user["id"] for user in listed}

    @pytest.mark.parametrize("name", ["limit", "after"])
    @pytest.mark.parametrize("value", ["0", "-1", "x", "", "1.5", "9" * 30, "+"])
    async def test_a_page_that_cannot_be_is_refused(
        self, client: httpx.AsyncClient, cast: Cast, name: str, value: str
    ) -> None:
        staff = await cast.staff()
        answer = await client.get(USERS, params={name: value}, headers=staff.headers)
        refused(answer, 400, "invalid_input", **{name: ["This value is not allowed here."]})

    @pytest.mark.parametrize("name", ["page", "offset"])
    async def test_pages_by_number_are_refused(self, client: httpx.AsyncClient, cast: Cast, name: str) -> None:
        member = await cast.member()
        for path in (USERS, f"{ME}events/", f"/api/users/{member.id}/"):
            answer = await client.get(path, params={name: "2"}, headers=member.headers)
            refused(answer, 400, "invalid_input", **{name: ["Pages go by `after` here: follow the Link header."]})

    async def test_a_page_has_a_hundred_rows_at_most(self, client: httpx.AsyncClient, cast: Cast) -> None:
        staff = await cast.staff()
        assert (await client.get(f"{USERS}?limit=100", headers=staff.headers)).status_code == 200
        answer = await client.get(f"{USERS}?limit=101", headers=staff.headers)
        refused(answer, 400, "invalid_input", limit=["This value is not allowed here."])

    async def test_listing_users_needs_a_session(self, client: httpx.AsyncClient) -> None:
        for headers in ({}, {"Authorization": "Token nonsense"}):
            refused(await client.get(USERS, headers=headers), 401, "unauthenticated")


class TestGetUser:
    @pytest.mark.parametrize("slash", ["/", ""])
    async def test_a_member_sees_themselves_by_id(self, client: httpx.AsyncClient, cast: Cast, slash: str) -> None:
        alice = await cast.member()
        access = (await cast.pair(alice)).access
        for headers in (alice.headers, bearer(access)):
            for path in (f"{USERS}{alice.id}{slash}", f"{USERS}me{slash}"):
                answer = await client.get(path, headers=headers)
                assert (answer.status_code, answer.json()) == (200, shown(alice))
                assert answer.headers["cache-control"] == "no-store"

    async def test_staff_see_any_of_their_program(self, client: httpx.AsyncClient, cast: Cast) -> None:
        staff, alice, out = await cast.staff(), await cast.member(), await cast.member()
        await cast.deactivate(out)
        for person in (alice, out, staff):
            assert (await client.get(one(person.id), headers=staff.headers)).json() == shown(person)

    async def test_everybody_else_is_a_404_whether_there_or_not(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice, bob, staff, gone = await cast.member(), await cast.member(), await cast.staff(), await cast.member()
        eve, boss = await cast.stranger(), await cast.stranger(staff=True)
        await delete(client, gone)
        for asking, wanted in [
            *((alice, person) for person in (bob, staff, gone, eve, boss)),
            *((boss, person) for person in (alice, staff, gone, eve)),
            *((staff, person) for person in (gone, eve, boss)),
        ]:
            refused(await client.get(one(wanted.id), headers=asking.headers), 404, "not_found")
            for method in ("PUT", "PATCH"):
                answer = await client.request(method, one(wanted.id), json={"username": "x"}, headers=asking.headers)
                refused(answer, 404, "not_found")
        for asking in (alice, staff):
            refused(await client.get(one(99999999), headers=asking.headers), 404, "not_found")

    @pytest.mark.parametrize("spell", ODD_IDS, ids=lambda value: ascii(value)[:20])
    async def test_an_odd_id_is_a_404(self, client: httpx.AsyncClient, cast: Cast, spell: str) -> None:
        alice, staff = await cast.member(), await cast.staff()
        before = await cast.contents()
        for asking, wanted in ((alice, alice), (staff, alice), (staff, staff)):
            path = one(spell.format(wanted.id))
            refused(await client.get(path, headers=asking.headers), 404, "not_found")
            for method in ("PUT", "PATCH", "DELETE"):
                body = {"current_password": PASSWORD} if method == "DELETE" else {"username": "odd"}
                answer = await client.request(method, path, json=body, headers=asking.headers)
                refused(answer, 404, "not_found")
        assert await cast.contents() == before

    async def test_reading_a_user_needs_a_session(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        for path in (ME, one(alice.id), one(999999), one("+1")):
            refused(await client.get(path), 401, "unauthenticated")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
class TestWriteUser:
    @pytest.mark.parametrize("by", ["me", "id"])
    @pytest.mark.parametrize("slash", ["/", ""])
    async def test_a_member_takes_another_name(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, method: str, by: str, slash: str
    ) -> None:
        alice = await cast.member()
        new, path = f"new-{alice.username}", f"{USERS}{'me' if by == 'me' else alice.id}{slash}"
        answer = await client.request(method, path, json={"username": new}, headers=alice.headers)
        assert (answer.status_code, answer.json()) == (200, shown(alice, username=new))
        assert (await client.get(ME, headers=alice.headers)).json() == shown(alice, username=new)
        assert await logs_in(client, username=new)
        assert not await logs_in(client, username=alice.username)
        assert ("username.changed", "self", alice.id) in await events_of(ctx, alice.id)

    async def test_staff_rename_any_of_their_program_and_it_is_recorded_as_theirs(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, method: str
    ) -> None:
        staff, alice = await cast.staff(), await cast.member()
        new = f"new-{alice.username}"
        answer = await client.request(method, one(alice.id), json={"username": new}, headers=staff.headers)
        assert (answer.status_code, answer.json()) == (200, shown(alice, username=new))
        assert (await events_of(ctx, alice.id))[-1] == ("username.changed", "staff", staff.id)

    async def test_a_name_is_kept_in_its_usual_form(self, client: httpx.AsyncClient, cast: Cast, method: str) -> None:
        alice, bob = await cast.member(), await cast.member()
        wide = f"{alice.username}.ﬁ"
        answer = await client.request(method, ME, json={"username": wide}, headers=alice.headers)
        assert answer.json()["username"] == f"{alice.username}.fi"
        before = await cast.contents()
        answer = await client.request(method, ME, json={"username": wide}, headers=bob.headers)
        refused(answer, 400, "invalid_input", username=[NAME_TAKEN])
        assert await cast.contents() == before

    @pytest.mark.parametrize(("name", "complaint"), BAD_NAMES, ids=lambda value: ascii(value)[:20])
    async def test_invalid_usernames_are_refused(
        self, client: httpx.AsyncClient, cast: Cast, method: str, name: str, complaint: str
    ) -> None:
        alice, staff = await cast.member(), await cast.staff()
        before = await cast.contents()
        for path, asking in ((ME, alice), (one(alice.id), alice), (one(alice.id), staff)):
            answer = await client.request(method, path, json={"username": name}, headers=asking.headers)
            refused(answer, 400, "invalid_input", username=[complaint])
        assert await cast.contents() == before

    async def test_anothers_name_is_taken_and_ones_own_is_not(
        self, client: httpx.AsyncClient, cast: Cast, method: str
    ) -> None:
        alice, bob, staff = await cast.member(), await cast.member(), await cast.staff()
        before = await cast.contents()
        for path, asking in ((ME, alice), (one(alice.id), staff)):
            answer = await client.request(method, path, json={"username": bob.username}, headers=asking.headers)
            refused(answer, 400, "invalid_input", username=[NAME_TAKEN])
        assert await cast.contents() == before
        answer = await client.request(method, ME, json={"username": alice.username}, headers=alice.headers)
        assert (answer.status_code, answer.json()) == (200, shown(alice))

    @pytest.mark.parametrize(
        ("more", "fields"),
        [
            ({"email": "new@example.com"}, {"email": ["Change the address with POST /auth/users/set_email/."]}),
            ({"email": None}, {"email": [IS_NULL]}),
            ({"id": 1}, {"id": ["This cannot be changed."]}),
            ({"username": 1}, {"username": [WRONG_TYPE]}),
            ({"username": ["x"]}, {"username": [WRONG_TYPE]}),
            ({"username": None}, {"username": [IS_NULL]}),
            ({"username": " "}, {"username": ["This field may not be blank."]}),
            ({"username": "x\0"}, {"username": [NULL]}),
        ],
        ids=str,
    )
    async def test_only_the_username_can_be_written(
        self,
        client: httpx.AsyncClient,
        cast: Cast,
        method: str,
        more: dict[str, object],
        fields: dict[str, list[str]],
    ) -> None:
        alice, staff = await cast.member(), await cast.staff()
        before = await cast.contents()
        for path, asking in ((ME, alice), (one(alice.id), alice), (one(alice.id), staff)):
            answer = await client.request(method, path, json={"username": "x", **more}, headers=asking.headers)
            refused(answer, 400, "invalid_input", **fields)
        assert await cast.contents() == before

    async def test_a_user_can_be_put_back_as_read(self, client: httpx.AsyncClient, cast: Cast, method: str) -> None:
        alice, bob, staff = await cast.member(), await cast.member(), await cast.staff()
        before = await cast.contents()
        for path, asking in ((ME, alice), (one(alice.id), alice), (one(alice.id), staff)):
            loaded = (await client.get(path, headers=asking.headers)).json()
            for body in (loaded, {**loaded, "first_name": "Alice", "is_staff": True}, {}):
                answer = await client.request(method, path, json=body, headers=asking.headers)
                assert (answer.status_code, answer.json()) == (200, shown(alice))
            answer = await client.request(method, path, headers=asking.headers)
            assert (answer.status_code, answer.json()) == (200, shown(alice))
        refused(await client.request(method, one(bob.id), json={}, headers=alice.headers), 404, "not_found")
        assert await cast.contents() == before

    async def test_writing_a_user_needs_a_session(self, client: httpx.AsyncClient, cast: Cast, method: str) -> None:
        alice = await cast.member()
        before = await cast.contents()
        for path in (ME, one(alice.id), one(999999)):
            refused(await client.request(method, path, json={"username": "x"}), 401, "unauthenticated")
        assert await cast.contents() == before
