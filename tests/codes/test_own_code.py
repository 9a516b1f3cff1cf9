"""GET /api/referral_codes/ and DELETE /api/referral_codes/delete/, or /api/referral_codes/."""

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import Cast, in_days, refused
from tests.steps import news_withheld

OWN = "/api/referral_codes/"
DELETE = ["/api/referral_codes/delete/", "/api/referral_codes/delete", "/api/referral_codes/", "/api/referral_codes"]
NONE = "No active referral code was found."


@pytest.mark.parametrize("path", [OWN, OWN.rstrip("/")])
async def test_a_member_sees_their_live_code(client: httpx.AsyncClient, cast: Cast, path: str) -> None:
    alice = await cast.member()
    code = await cast.code(alice, expiration_date=in_days(3))
    answer = await client.get(path, headers=alice.headers)
    assert answer.status_code == 200
    assert answer.json() == {
        "code": code,
        "expiration_date": in_days(3),
        "expires_at": f"{in_days(4)}T00:00:00Z",
    }
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("state", ["none", "expired", "deleted", "another's"])
async def test_there_is_nothing_to_see_or_delete_without_a_live_code(
    client: httpx.AsyncClient, cast: Cast, state: str
) -> None:
    alice, bob = await cast.member(), await cast.member()
    if state != "none":
        await cast.code(bob if state == "another's" else alice)
    if state == "expired":
        await cast.expire_code(alice)
    if state == "deleted":
        await cast.delete_code(alice)
    assert refused(await client.get(OWN, headers=alice.headers), 404, "code_not_found")["detail"] == NONE
    before = await cast.contents()
    for path in DELETE:
        refused(await client.delete(path, headers=alice.headers), 404, "code_not_found")
    assert await cast.contents() == before


@pytest.mark.parametrize("path", DELETE)
async def test_a_deleted_code_is_dead_at_once_everywhere(client: httpx.AsyncClient, cast: Cast, path: str) -> None:
    alice, bob = await cast.member(), await cast.member()
    code = await cast.code(alice)
    lookup = f"/api/referral_codes/get/{alice.email}/"
    assert (await client.get(lookup, headers=bob.headers)).status_code == 200
    answer = await client.delete(path, headers=alice.headers)
    assert (answer.status_code, answer.content) == (204, b"")
    refused(await client.get(lookup, headers=bob.headers), 404, "code_not_found")
    refused(await client.get(OWN, headers=alice.headers), 404, "code_not_found")
    assert (await client.get(f"/api/referral_codes/check/{code}/")).json() == {"valid": False}


async def test_deleting_touches_no_other_members_code(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, bob, eve = await cast.member(), await cast.member(), await cast.stranger()
    codes = {person: await cast.code(person) for person in (alice, bob, eve)}
    await cast.delete_code(alice)
    for person in (bob, eve):
        assert (await client.get(OWN, headers=person.headers)).json()["code"] == codes[person]


@pytest.mark.parametrize("end", ["delete", "replace"])
async def test_this_process_needs_no_news_to_stop_showing_what_it_ended(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, end: str
) -> None:
    alice = await cast.member()
    old = await cast.code(alice)
    lookup = f"/api/referral_codes/get/{alice.email}/"
    assert (await client.get(lookup, headers=alice.headers)).json()["code"] == old
    async with news_withheld(ctx):
        if end == "delete":
            await cast.delete_code(alice)
            refused(await client.get(lookup, headers=alice.headers), 404, "code_not_found")
        else:
            new = await cast.code(alice, replace=True)
            assert (await client.get(lookup, headers=alice.headers)).json()["code"] == new
