"""POST /api/referral_codes/create/, or /api/referral_codes/."""

from typing import Any

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import Cast, in_days, refused

PATH = "/api/referral_codes/create/"


async def test_a_member_gets_a_code_good_through_the_end_of_the_day(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    answer = await client.post(PATH, json={"expiration_date": in_days(30)}, headers=alice.headers)
    assert answer.status_code == 201
    code = answer.json()["code"]
    assert answer.json() == {
        "code": code,
        "expiration_date": in_days(30),
        "expires_at": f"{in_days(31)}T00:00:00Z",
    }
    assert len(code) == 10
    assert code == code.upper()
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-type"] == "application/json"


async def test_a_member_gets_a_code_good_until_an_instant(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    answer = await client.post(PATH, json={"expires_at": f"{in_days(30)}T23:30:00-02:00"}, headers=alice.headers)
    assert answer.status_code == 201
    assert answer.json()["expires_at"] == f"{in_days(31)}T01:30:00Z"
    assert answer.json()["expiration_date"] == in_days(31)


@pytest.mark.parametrize("path", [PATH, PATH.rstrip("/"), "/api/referral_codes/", "/api/referral_codes"])
async def test_every_spelling_of_the_address_answers(client: httpx.AsyncClient, cast: Cast, path: str) -> None:
    alice = await cast.member()
    answer = await client.post(path, json={"expiration_date": in_days(30)}, headers=alice.headers)
    assert answer.status_code == 201


async def test_a_second_code_is_refused_while_the_first_lives(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    code = await cast.code(alice)
    before = await cast.contents()
    body = {"expiration_date": in_days(30)}
    answer = await client.post(PATH, json=body, headers=alice.headers)
    assert refused(answer, 400, "code_active")["error"] == "You already have an active referral code."
    assert refused(
        await client.post(PATH, json=body, params={"replace": "false"}, headers=alice.headers), 400, "code_active"
    )
    assert await cast.contents() == before
    assert (await client.get("/api/referral_codes/", headers=alice.headers)).json()["code"] == code


async def test_the_refusal_is_told_in_russian(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    await cast.code(alice)
    headers = {**alice.headers, "Accept-Language": "ru-RU,ru;q=0.9,en;q=0.5"}
    answer = await client.post(PATH, json={"expiration_date": in_days(30)}, headers=headers)
    assert refused(answer, 400, "code_active")["detail"] == "У вас уже есть действующий реферальный код."
    assert answer.headers["content-language"] == "ru"
    assert answer.headers["vary"] == "Accept, Accept-Language"


async def test_replace_kills_the_old_code(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, bob = await cast.member(), await cast.member()
    old = await cast.code(alice)
    new = await cast.code(alice, replace=True, expiration_date=in_days(9))
    assert new != old
    assert (await client.get(f"/api/referral_codes/check/{old}/")).json() == {"valid": False}
    found = await client.get(f"/api/referral_codes/get/{alice.email}/", headers=bob.headers)
    assert found.json() == {"code": new, "expiration_date": in_days(9), "expires_at": f"{in_days(10)}T00:00:00Z"}


async def test_replace_without_a_live_code_just_makes_one(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    assert await cast.code(alice, replace=True)


async def test_a_refused_replacement_leaves_the_old_code_alive(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    old = await cast.code(alice)
    answer = await client.post(f"{PATH}?replace=true", json={"expiration_date": in_days(0)}, headers=alice.headers)
    refused(answer, 400, "invalid_input", expiration_date=["It must be later than today."])
    assert (await client.get(f"/api/referral_codes/check/{old}/")).json()["valid"] is True


@pytest.mark.parametrize("replace", ["maybe", "", "2", "null"])
async def test_replace_is_true_or_false(client: httpx.AsyncClient, cast: Cast, replace: str) -> None:
    alice = await cast.member()
    await cast.code(alice)
    answer = await client.post(
        PATH, json={"expiration_date": in_days(1)}, params={"replace": replace}, headers=alice.headers
    )
    refused(answer, 400, "invalid_input", replace=["This value is not allowed here."])


async def test_an_expired_code_never_blocks(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    old = await cast.code(alice)
    await cast.expire_code(alice)
    assert await cast.code(alice) != old


async def test_a_deleted_code_never_blocks(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    old = await cast.code(alice)
    await cast.delete_code(alice)
    assert await cast.code(alice) != old


async def test_two_members_have_a_code_each(client: httpx.AsyncClient, cast: Cast) -> None:
    assert await cast.code(await cast.member()) != await cast.code(await cast.member())


async def test_a_code_that_is_taken_is_minted_again(
    client: httpx.AsyncClient, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = await cast.code(await cast.member())
    monkeypatch.setattr("invitree.sharing.codes.actions.candidates", lambda _length: iter([taken, taken, "FRESHNEW00"]))
    assert await cast.code(await cast.member()) == "FRESHNEW00"


async def test_the_same_text_may_be_a_code_in_two_programs(
    client: httpx.AsyncClient, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = await cast.code(await cast.member())
    monkeypatch.setattr("invitree.sharing.codes.actions.candidates", lambda _length: iter([taken]))
    assert await cast.code(await cast.stranger()) == taken


@pytest.mark.parametrize("query", ["user_id=1", "program_id=1", "code=AAAAAAAAAA"])
async def test_a_query_cannot_make_the_code_somebody_elses(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, query: str
) -> None:
    alice = await cast.member()
    answer = await client.post(f"{PATH}?{query}", json={"expiration_date": in_days(1)}, headers=alice.headers)
    owner: Any = await ctx.db.fetchrow("SELECT user_id FROM codes WHERE code = $1", answer.json()["code"])
    assert owner["user_id"] == alice.id
