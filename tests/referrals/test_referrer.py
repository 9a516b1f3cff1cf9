"""GET /api/users/{id}/referrer/: who brought a user."""

import httpx
import pytest

from tests.cast import Cast, refused


def path(user_id: int) -> str:
    return f"/api/users/{user_id}/referrer/"


@pytest.mark.parametrize("slash", ["/", ""])
async def test_a_referee_sees_the_referrer_with_the_address_masked(
    client: httpx.AsyncClient, cast: Cast, slash: str
) -> None:
    alice = await cast.member()
    bob = await cast.member(referral_code=await cast.code(alice))
    answer = await client.get(path(bob.id).rstrip("/") + slash, headers=bob.headers)
    assert answer.status_code == 200
    body = answer.json()
    assert body == {"email": "p***@e***.com", "id": alice.id, "registered_at": body["registered_at"]}
    assert alice.email not in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_staff_see_the_address(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, boss = await cast.member(), await cast.staff()
    bob = await cast.member(referral_code=await cast.code(alice))
    answer = await client.get(path(bob.id), headers=boss.headers)
    assert (answer.json()["id"], answer.json()["email"]) == (alice.id, alice.email)


async def test_nobody_else_learns_of_it_not_even_the_referrer(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, carol = await cast.member(), await cast.member()
    bob = await cast.member(referral_code=await cast.code(alice))
    for person in (alice, carol, await cast.stranger(), await cast.stranger(staff=True)):
        answer = await client.get(path(bob.id), headers=person.headers)
        assert refused(answer, 404, "not_found")["detail"] == "Not found."


async def test_a_user_without_a_code_has_no_referrer(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, boss = await cast.member(), await cast.staff()
    for person in (alice, boss):
        refused(await client.get(path(alice.id), headers=person.headers), 404, "not_found")


async def test_a_404_is_told_in_russian(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    answer = await client.get(path(alice.id), headers={**alice.headers, "Accept-Language": "en;q=0.4,ru;q=0.5"})
    assert refused(answer, 404, "not_found")["detail"] == "Не найдено."
    assert answer.headers["content-language"] == "ru"
