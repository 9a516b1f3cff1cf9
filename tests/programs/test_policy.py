"""What a program's policy changes, and that a running service follows."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest

from invitree.identity.programs.actions import BadPolicy, create_program, set_policy
from invitree.identity.programs.rules import policy_error
from invitree.identity.programs.store import Program, find_program
from invitree.kit.context import AppContext
from tests.cast import Cast, Person, in_days, refused

CREATE = "/api/referral_codes/create/"


async def program_of(ctx: AppContext, person: Person) -> Program:
    program = await find_program(ctx.db, program_id=person.program_id)
    assert program is not None
    return program


async def within_a_second(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(50):
        if await holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("not within a second")


async def warmed(client: httpx.AsyncClient, cast: Cast) -> Person:
    """Return a member of a program that this process has in memory."""
    eve = await cast.stranger()
    assert (await client.get("/api/referral_codes/check/A/", headers=eve.headers)).status_code == 200
    return eve


async def test_a_changed_list_policy_is_followed_within_a_second(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    eve = await warmed(client, cast)
    program = await program_of(ctx, eve)
    other, boss = await cast.member(program=program), await cast.member(program=program, staff=True)
    path = f"/api/users/{eve.id}/"
    assert (await client.get(path, headers=other.headers)).status_code == 200
    await set_policy(ctx.db, program_id=program.id, referral_list="owner_only")

    async def hidden() -> bool:
        return (await client.get(path, headers=other.headers)).status_code == 404

    await within_a_second(hidden)
    refused(await client.get(path, headers=other.headers), 404, "not_found")
    refused(await client.get("/api/users/999999/", headers=other.headers), 404, "not_found")
    for person in (eve, boss):
        assert (await client.get(path, headers=person.headers)).json() == []


async def test_a_changed_code_length_is_followed_within_a_second(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    eve = await warmed(client, cast)
    await set_policy(ctx.db, program_id=eve.program_id, code_length=20)

    async def longer() -> bool:
        return len(await cast.code(eve, replace=True)) == 20

    await within_a_second(longer)


async def test_a_changed_longest_life_is_followed_within_a_second(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    eve = await warmed(client, cast)
    await set_policy(ctx.db, program_id=eve.program_id, longest_code_life_days=3)
    too_far = {"expiration_date": ["A code lives 3 days at most."]}

    async def shorter() -> bool:
        answer = await client.post(f"{CREATE}?replace=true", json={"expiration_date": in_days(9)}, headers=eve.headers)
        return answer.status_code == 400

    await within_a_second(shorter)
    answer = await client.post(CREATE, json={"expiration_date": in_days(4)}, headers=eve.headers)
    refused(answer, 400, "invalid_input", **too_far)
    answer = await client.post(f"{CREATE}?replace=true", json={"expiration_date": in_days(2)}, headers=eve.headers)
    assert answer.status_code == 201


async def test_a_changed_time_zone_is_followed_within_a_second(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    eve = await warmed(client, cast)
    zone = "Pacific/Kiritimati"
    await set_policy(ctx.db, program_id=eve.program_id, time_zone=zone)
    day = datetime.now(ZoneInfo(zone)).date() + timedelta(days=2)
    midnight = datetime(day.year, day.month, day.day, 10)
    body = {"expiration_date": day.isoformat()}

    async def moved() -> bool:
        answer = await client.post(f"{CREATE}?replace=true", json=body, headers=eve.headers)
        return bool(answer.json()["expires_at"] == f"{midnight.isoformat()}Z")

    await within_a_second(moved)


async def test_the_default_programs_policy_reaches_those_who_name_no_program(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice = await cast.member()
    await client.get("/api/referral_codes/check/A/")
    key = ("host", "invitree.test")
    assert ctx.caches["programs"].get(key, now=ctx.clock.seconds()) is not None
    program = await program_of(ctx, alice)
    await set_policy(ctx.db, program_id=program.id, code_length=12)

    async def followed() -> bool:
        return len(await cast.code(alice, replace=True)) == 12

    await within_a_second(followed)
    assert ctx.caches["programs"].get(key, now=ctx.clock.seconds()) is None
    await set_policy(ctx.db, program_id=program.id, code_length=10)


async def test_programs_do_not_share_a_policy(client: httpx.AsyncClient, cast: Cast, ctx: AppContext) -> None:
    eve, mallory = await warmed(client, cast), await warmed(client, cast)
    await set_policy(ctx.db, program_id=eve.program_id, code_length=8)
    await asyncio.sleep(0.1)
    assert (len(await cast.code(eve)), len(await cast.code(mallory))) == (8, 10)


GOOD: dict[str, Any] = {
    "time_zone": "UTC",
    "code_length": 10,
    "longest_code_life_days": 366,
    "referral_list": "masked",
    "activation": "off",
    "host": None,
    "origins": [],
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, None),
        ({"time_zone": "Europe/Riga"}, None),
        ({"time_zone": "europe/riga"}, "time zone"),
        ({"time_zone": "+03:00"}, "time zone"),
        ({"time_zone": "../../etc/passwd"}, "time zone"),
        ({"time_zone": ""}, "time zone"),
        ({"code_length": 8}, None),
        ({"code_length": 20}, None),
        ({"code_length": 7}, "code length"),
        ({"code_length": 21}, "code length"),
        ({"longest_code_life_days": 1}, None),
        ({"longest_code_life_days": 3660}, None),
        ({"longest_code_life_days": 0}, "longest code life"),
        ({"longest_code_life_days": 3661}, "longest code life"),
        ({"referral_list": "owner_only"}, None),
        ({"referral_list": "open"}, "referral list"),
        ({"activation": "required"}, None),
        ({"activation": "on"}, "activation"),
        ({"host": "invite.example.com"}, None),
        ({"host": None}, None),
        ({"host": "Invite.example.com"}, "'Invite.example.com' is not a host name"),
        ({"host": "*"}, "'\\*' is not a host name"),
        ({"host": "*.example.com"}, "'\\*.example.com' is not a host name"),
        ({"host": "example.com:8000"}, "'example.com:8000' is not a host name"),
        ({"origins": ["https://app.example.com", "http://localhost:3000"]}, None),
        ({"origins": ["HTTPS://App.example.com:443", "https://app.example.com"]}, None),
        ({"origins": ["*"]}, "'\\*' is a wildcard"),
        ({"origins": [f"https://app{number}.example.com" for number in range(51)]}, "51 origins are too many"),
    ],
)
async def test_a_policy_is_within_its_limits(
    cast: Cast, ctx: AppContext, change: dict[str, Any], why: str | None
) -> None:
    assert re.match(why or "", policy_error(**{**GOOD, **change}) or "")
    eve = await cast.stranger()
    program = await program_of(ctx, eve)
    if why is None:
        assert await set_policy(ctx.db, program_id=program.id, **change) == await program_of(ctx, eve)
    else:
        with pytest.raises(BadPolicy, match=why):
            await set_policy(ctx.db, program_id=program.id, **change)
        assert await program_of(ctx, eve) == program


async def test_a_host_is_claimed_by_one_program(cast: Cast, ctx: AppContext) -> None:
    eve, mallory = await cast.stranger(), await cast.stranger()
    await set_policy(ctx.db, program_id=eve.program_id, host="claimed.example.com")
    with pytest.raises(BadPolicy, match="another program claims"):
        await set_policy(ctx.db, program_id=mallory.program_id, host="claimed.example.com")


async def test_a_new_program_has_the_default_policy_and_a_name_of_its_own(ctx: AppContext) -> None:
    made = await create_program(ctx.db, slug="acme-2")
    assert {name: getattr(made, name) for name in GOOD} == GOOD
    for slug in ("acme-2", "", "Acme", "a b", "-a", "a" * 64, "default"):
        with pytest.raises(BadPolicy):
            await create_program(ctx.db, slug=slug)
