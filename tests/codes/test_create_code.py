"""POST /api/referral_codes/create/."""

import httpx
import pytest

from tests.cast import Cast

PATH = "/api/referral_codes/create/"


async def test_a_member_gets_a_code_good_through_the_end_of_the_day(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    answer = await client.post(PATH, json={"expiration_date": "2027-06-01"}, headers=alice.headers)
    assert answer.status_code == 201
    body = answer.json()
    assert body["expiration_date"] == "2027-06-01"
    assert body["expires_at"] == "2027-06-02T00:00:00Z"
    assert len(body["code"]) == 10


@pytest.mark.parametrize("path", [PATH, PATH.rstrip("/"), "/api/referral_codes/", "/api/referral_codes"])
async def test_every_spelling_of_the_address_answers(client: httpx.AsyncClient, cast: Cast, path: str) -> None:
    alice = await cast.member()
    answer = await client.post(path, json={"expiration_date": "2027-06-01"}, headers=alice.headers)
    assert answer.status_code == 201
