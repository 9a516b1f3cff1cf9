"""Races under one Idempotency-Key: one effect, and one answer for everybody who gets any."""

from collections import Counter

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, in_days, new_user, refused
from tests.races.stage import AtOnce

pytestmark = pytest.mark.usefixtures("round_number")


async def _race(client: httpx.AsyncClient, at_once: AtOnce, racers: int, path: str, **request: object) -> bytes:
    """Ask the same at once, and once more for those who were told to wait; return the one answer."""
    named = {**dict(request.pop("headers", {})), "Idempotency-Key": new_user().username}  # type: ignore[call-overload]
    answers = await at_once(
        *(client.post(path, headers=named, **request) for _ in range(racers))  # type: ignore[arg-type]
    )
    seen = Counter(answer.status_code for answer in answers)
    assert set(seen) <= {201, 409}
    assert seen[201]
    for answer in answers:
        if answer.status_code == 409:
            refused(answer, 409, "idempotency_key_in_use")
    late = await client.post(path, headers=named, **request)  # type: ignore[arg-type]
    assert {answer.content for answer in answers if answer.status_code == 201} == {late.content}
    return late.content


async def test_64_sign_ups_under_one_key_are_one(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, at_once: AtOnce, racers: int
) -> None:
    code, newcomer = await cast.code(await cast.member()), new_user()
    body = {"email": newcomer.email.typed, "username": newcomer.username, "password": PASSWORD, "referral_code": code}
    shown = await _race(client, at_once, racers, "/auth/users/", json=body)
    assert newcomer.email.typed.encode() in shown
    counts = await ctx.db.fetchrow(
        """
        SELECT (SELECT count(*) FROM users WHERE email_key = $1) AS users,
               (SELECT count(*) FROM referrals r JOIN codes c ON c.id = r.code_id WHERE c.code = $2) AS referrals
        """,
        newcomer.email.key,
        code,
    )
    assert dict(counts) == {"users": 1, "referrals": 1}


async def test_64_codes_under_one_key_are_one(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, at_once: AtOnce, racers: int
) -> None:
    alice = await cast.member()
    await cast.code(alice)
    body, path = {"expiration_date": in_days(9)}, "/api/referral_codes/?replace=true"
    shown = await _race(client, at_once, racers, path, json=body, headers=alice.headers)
    codes = await ctx.db.fetch("SELECT code, revoked_at FROM codes WHERE user_id = $1 ORDER BY id", alice.id)
    assert [row["revoked_at"] is None for row in codes] == [False, True]
    assert codes[1]["code"].encode() in shown
