"""Races for an address and for a refresh token."""

import asyncio
from collections import Counter
from itertools import product

import httpx
import pytest

from invitree.base.emails import parse_email
from invitree.base.problems import InvalidInput
from invitree.identity.programs.actions import get_program
from invitree.identity.users.actions import NewUser
from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, new_user, sign_up
from tests.races.stage import AtOnce

REFRESH = "/auth/jwt/refresh/"


def _spellings(name: str) -> list[str]:
    """Return 64 ways to type one address: each of six letters large or small."""
    return [f"{''.join(letters)}{name[6:]}@Example.com" for letters in product(*((c, c.upper()) for c in name[:6]))]


@pytest.mark.usefixtures("round_number")
async def test_one_of_64_sign_ups_with_one_address_wins(
    ctx: AppContext, cast: Cast, at_once: AtOnce, racers: int
) -> None:
    program = await get_program(ctx, (await cast.member()).program_id)
    name = f"racers-{new_user().username}"

    async def register(email: str) -> str:
        address = parse_email(email)
        assert address is not None
        one = new_user()
        racer = NewUser(email=address, username=one.username, password_hash=one.password_hash)
        try:
            await sign_up(ctx, program=program, new_user=racer, referral_code=None)
        except InvalidInput as problem:
            return " ".join(problem.fields)
        return "won"

    outcomes = await at_once(*map(register, _spellings(name)[:racers]))
    assert Counter(outcomes) == {"won": 1, "email": racers - 1}
    count = await ctx.db.fetchval("SELECT count(*) FROM users WHERE email_key = $1", f"{name}@example.com")
    assert count == 1


@pytest.mark.usefixtures("round_number")
async def test_the_public_door_lets_one_of_64_in(client: httpx.AsyncClient, at_once: AtOnce, racers: int) -> None:
    bodies = [
        {"email": email, "username": new_user().username, "password": PASSWORD}
        for email in _spellings(f"newcomer-{new_user().username}")[:racers]
    ]
    answers = await at_once(*(client.post("/auth/users/", json=body) for body in bodies))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 400: racers - 1}
    assert all("email" in answer.json() for answer in answers if answer.status_code == 400)


async def _pair(client: httpx.AsyncClient, person: Person) -> dict[str, str]:
    answer = await client.post("/auth/jwt/create/", json={"email": person.email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    pair: dict[str, str] = answer.json()
    return pair


@pytest.mark.usefixtures("round_number")
async def test_32_refreshes_of_one_token_get_one_successor(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, at_once: AtOnce, racers: int
) -> None:
    alice = await cast.member()
    pair = await _pair(client, alice)
    answers = await at_once(*(client.post(REFRESH, json={"refresh": pair["refresh"]}) for _ in range(racers // 2)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["refresh"] for answer in answers}) == 1
    unused = await ctx.db.fetchval(
        """
        SELECT count(*) FROM refresh_tokens t JOIN sessions s ON s.program_id = t.program_id AND s.id = t.session_id
        WHERE s.program_id = $1 AND s.user_id = $2 AND t.used_at IS NULL
        """,
        alice.program_id,
        alice.id,
    )
    assert unused == 1


@pytest.mark.usefixtures("round_number")
async def test_nothing_is_alive_after_a_logout_among_32_refreshes(
    client: httpx.AsyncClient, cast: Cast, at_once: AtOnce, racers: int
) -> None:
    alice = await cast.member()
    pair = await _pair(client, alice)
    body = {"refresh": pair["refresh"]}

    async def log_out() -> httpx.Response:
        await asyncio.sleep(0.01)
        return await client.post("/auth/jwt/logout/", json=body)

    *refreshed, ended = await at_once(*(client.post(REFRESH, json=body) for _ in range(racers // 2)), log_out())
    assert ended.status_code == 204
    assert {answer.status_code for answer in refreshed} <= {200, 401}
    given = [answer.json() for answer in refreshed if answer.status_code == 200] + [pair]
    for token in {one[kind] for one in given for kind in ("refresh", "access")}:
        assert (await client.post("/auth/jwt/verify/", json={"token": token})).status_code == 401
    for refresh in {one["refresh"] for one in given}:
        assert (await client.post(REFRESH, json={"refresh": refresh})).status_code == 401
