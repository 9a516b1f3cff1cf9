"""Races under one Idempotency-Key: one effect, and one answer for everybody who gets any."""

import asyncio
from collections import Counter

import httpx
import pytest

from invitree.kit.resources import Resources
from tests.cast import PASSWORD, Cast, in_days, refused
from tests.races.conftest import RACERS


async def _race(client: httpx.AsyncClient, path: str, key: str, **request: object) -> bytes:
    """Ask the same 64 times at once, and once more for those who were told to wait; return the one answer."""
    named = {**dict(request.pop("headers", {})), "Idempotency-Key": key}  # type: ignore[call-overload]
    answers = await asyncio.gather(
        *(client.post(path, headers=named, **request) for _ in range(RACERS))  # type: ignore[arg-type]
    )
    seen = Counter(answer.status_code for answer in answers)
    assert set(seen) <= {201, 409}
    assert seen[201]
    for answer in answers:
        if answer.status_code == 409:
            refused(answer, 409, "idempotency_key_in_use")
    late = await client.post(path, headers=named, **request)  # type: ignore[arg-type]
    [body] = {answer.content for answer in (*answers, late) if answer.status_code == 201}
    return body


async def test_64_sign_ups_under_one_key_are_one(client: httpx.AsyncClient, here: Resources, cast: Cast) -> None:
    code = await cast.code(await cast.member())
    body = {"email": "once@example.com", "username": "once", "password": PASSWORD, "referral_code": code}
    assert b"once@example.com" in await _race(client, "/auth/users/", "one", json=body)
    counts = await here.db.fetchrow(
        """
        SELECT (SELECT count(*) FROM users WHERE email_key = 'once@example.com') AS users,
               (SELECT count(*) FROM referrals r JOIN codes c ON c.id = r.code_id WHERE c.code = $1) AS referrals
        """,
        code,
    )
    assert dict(counts) == {"users": 1, "referrals": 1}


@pytest.mark.usefixtures("round_number")
async def test_64_codes_under_one_key_are_one(client: httpx.AsyncClient, here: Resources, cast: Cast) -> None:
    alice = await cast.member()
    await cast.code(alice)
    body, path = {"expiration_date": in_days(9)}, "/api/referral_codes/?replace=true"
    shown = await _race(client, path, "one", json=body, headers=alice.headers)
    codes = await here.db.fetch("SELECT code, revoked_at FROM codes WHERE user_id = $1 ORDER BY id", alice.id)
    assert [row["revoked_at"] is None for row in codes] == [False, True]
    assert codes[1]["code"].encode() in shown
