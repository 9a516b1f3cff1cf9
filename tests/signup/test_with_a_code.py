"""POST /auth/users/ with a referral code."""

from typing import Any

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, refused

PATH = "/auth/users/"
DEAD = "This referral code is not valid."


def form(name: str, code: Any) -> dict[str, Any]:
    return {"email": f"{name}@example.com", "username": name, "password": PASSWORD, "referral_code": code}


async def test_a_code_brings_its_owner_a_referral(client: httpx.AsyncClient, cast: Cast, ctx: AppContext) -> None:
    alice = await cast.member()
    code = await cast.code(alice)
    answer = await client.post(PATH, json=form("bob", code))
    assert answer.status_code == 201
    bob = answer.json()["id"]
    row = await ctx.db.fetchrow("SELECT r.*, c.code FROM referrals r JOIN codes c ON c.id = r.code_id")
    assert (row["referrer_id"], row["referee_id"], row["code"]) == (alice.id, bob, code)
    listed = (await client.get(f"/api/users/{alice.id}/", headers=alice.headers)).json()
    assert [(person["id"], person["email"]) for person in listed] == [(bob, "bob@example.com")]
    login = await client.post("/auth/token/login/", json={"username": "bob", "password": PASSWORD})
    headers = {"Authorization": f"Token {login.json()['auth_token']}"}
    assert (await client.get(f"/api/users/{bob}/referrer/", headers=headers)).json()["id"] == alice.id


async def test_a_code_serves_many(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    code = await cast.code(alice)
    friends = [(await cast.member(referral_code=code)).id for _ in range(3)]
    listed = (await client.get(f"/api/users/{alice.id}/", headers=alice.headers)).json()
    assert [person["id"] for person in listed] == friends[::-1]


async def test_a_code_may_be_typed_as_people_type(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("invitree.sharing.codes.actions.candidates", lambda _length: iter(["01ABCDEF01"]))
    alice = await cast.member()
    await cast.code(alice)
    for number, typed in enumerate(["01ABCDEF01", "oiabcdefol", " \u201eOLabc\u2013DEF0i\u201c.\n"]):
        assert (await client.post(PATH, json=form(f"typist{number}", typed))).status_code == 201
    found = await ctx.db.fetchval("SELECT count(*) FROM referrals WHERE referrer_id = $1", alice.id)
    assert found == 3


@pytest.mark.parametrize("code", [None, ""])
async def test_no_code_is_no_referral(client: httpx.AsyncClient, ctx: AppContext, code: str | None) -> None:
    answer = await client.post(PATH, json=form(f"alone{code}", code))
    assert answer.status_code == 201
    assert not await ctx.db.fetchval("SELECT count(*) FROM referrals WHERE referee_id = $1", answer.json()["id"])


@pytest.mark.parametrize(
    "state", ["unknown", "expired", "deleted", "replaced", "deactivated", "another program's", "malformed"]
)
async def test_a_dead_code_is_refused_and_nobody_is_made(client: httpx.AsyncClient, cast: Cast, state: str) -> None:
    alice, eve = await cast.member(), await cast.stranger()
    code = await cast.code(alice)
    match state:
        case "expired":
            await cast.expire_code(alice)
        case "deleted":
            await cast.delete_code(alice)
        case "replaced":
            await cast.code(alice, replace=True)
        case "deactivated":
            await cast.deactivate(alice)
        case "another program's":
            code = await cast.code(eve)
        case "unknown" | "malformed":
            code = {"unknown": "ZZZZZZZZZZ", "malformed": "ü/%00'--"}[state]
    name = f"friend{state[:4]}".replace(" ", "")
    before = await cast.contents()
    refused(await client.post(PATH, json=form(name, code)), 400, "invalid_input", referral_code=[DEAD])
    assert await cast.contents() == before
    assert (await client.post(PATH, json=form(name, None))).status_code == 201


async def test_the_refusal_is_told_in_russian(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json=form("ru", "ZZZZZZZZZZ"), headers={"Accept-Language": "ru"})
    refused(answer, 400, "invalid_input", referral_code=["Этот реферальный код недействителен."])


async def test_a_taken_address_with_a_good_code_makes_no_referral(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, bob = await cast.member(), await cast.member()
    code = await cast.code(alice)
    before = await cast.contents()
    body = {**form("again", code), "email": bob.email}
    complaint = "A user with that email already exists."
    refused(await client.post(PATH, json=body), 400, "invalid_input", email=[complaint])
    assert await cast.contents() == before


async def test_the_sign_up_does_not_trust_the_cache(client: httpx.AsyncClient, cast: Cast, ctx: AppContext) -> None:
    """A code that died in the database a moment ago, of which no process has heard."""
    alice = await cast.member()
    code = await cast.code(alice)
    await client.get(f"/api/referral_codes/get/{alice.email}/", headers=alice.headers)
    await ctx.db.execute("UPDATE codes SET revoked_at = clock_timestamp() WHERE code = $1", code)
    refused(await client.post(PATH, json=form("late", code)), 400, "invalid_input", referral_code=[DEAD])


async def test_the_referral_outlives_the_code(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    bob = await cast.member(referral_code=await cast.code(alice))
    await cast.delete_code(alice)
    listed = (await client.get(f"/api/users/{alice.id}/", headers=alice.headers)).json()
    assert [person["id"] for person in listed] == [bob.id]
    assert (await client.get(f"/api/users/{bob.id}/referrer/", headers=bob.headers)).json()["id"] == alice.id


async def test_a_chain_of_referrals_is_kept_apart(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    bob = await cast.member(referral_code=await cast.code(alice))
    carol = await cast.member(referral_code=await cast.code(bob))
    for above, below in [(alice, bob), (bob, carol)]:
        listed = (await client.get(f"/api/users/{above.id}/", headers=above.headers)).json()
        assert [person["id"] for person in listed] == [below.id]
