"""Races for a code: the database settles each."""

import asyncio
from collections import Counter

import httpx
import pytest

from invitree.base.problems import InvalidInput
from invitree.identity.audit.store import OPERATOR
from invitree.identity.programs.actions import get_program
from invitree.identity.users.actions import NewUser
from invitree.kit.context import AppContext
from invitree.sharing.codes.actions import delete_code
from tests.cast import Cast, Person, in_days, new_user, sign_up
from tests.races.stage import AtOnce

CREATE = "/api/referral_codes/create/"
pytestmark = pytest.mark.usefixtures("round_number")


async def _live_codes(ctx: AppContext, person: Person) -> list[str]:
    rows = await ctx.db.fetch(
        "SELECT code FROM codes WHERE program_id = $1 AND user_id = $2 AND revoked_at IS NULL",
        person.program_id,
        person.id,
    )
    return [row["code"] for row in rows]


async def _create(client: httpx.AsyncClient, person: Person, **params: bool) -> httpx.Response:
    return await client.post(CREATE, json={"expiration_date": in_days(30)}, params=params, headers=person.headers)


async def test_one_of_64_creates_wins_and_the_others_are_told(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, at_once: AtOnce, racers: int
) -> None:
    alice = await cast.member()
    answers = await at_once(*(_create(client, alice) for _ in range(racers)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 400: racers - 1}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 400} == {"code_active"}
    won = next(answer.json()["code"] for answer in answers if answer.status_code == 201)
    assert await _live_codes(ctx, alice) == [won]


async def test_64_replacements_leave_one_live_code_which_everybody_is_shown(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, at_once: AtOnce, racers: int
) -> None:
    alice = await cast.member()
    answers = await at_once(*(_create(client, alice, replace=True) for _ in range(racers)))
    assert {answer.status_code for answer in answers} == {201}
    [live] = await _live_codes(ctx, alice)
    assert live in {answer.json()["code"] for answer in answers}
    shown = await client.get(f"/api/referral_codes/get/{alice.email}/", headers=alice.headers)
    assert shown.json()["code"] == live


async def test_a_code_is_deleted_once(client: httpx.AsyncClient, cast: Cast, at_once: AtOnce, racers: int) -> None:
    alice = await cast.member()
    await cast.code(alice)
    answers = await at_once(*(client.delete("/api/referral_codes/", headers=alice.headers) for _ in range(racers)))
    assert Counter(answer.status_code for answer in answers) == {204: 1, 404: racers - 1}


async def test_a_sign_up_counts_only_if_it_came_before_the_delete(
    ctx: AppContext, cast: Cast, at_once: AtOnce, racers: int, round_number: int
) -> None:
    alice = await cast.member()
    program = await get_program(ctx, alice.program_id)
    code = await cast.code(alice)
    friends = [new_user() for _ in range(racers // 2)]

    async def register(friend: NewUser) -> int | None:
        try:
            user = await sign_up(ctx, program=program, new_user=friend, referral_code=code)
        except InvalidInput as problem:
            assert list(problem.fields) == ["referral_code"]  # noqa: PT017
            return None
        return user.id

    async def delete() -> None:
        await asyncio.sleep(round_number / 400)  # from before them all to after most
        await delete_code(ctx, program_id=alice.program_id, user_id=alice.id, actor=OPERATOR)

    *registered, _ = await at_once(*map(register, friends), delete())
    rows = await ctx.db.fetch(
        """
        SELECT r.referee_id, r.created_at <= c.revoked_at AS in_time
        FROM referrals r JOIN codes c ON c.program_id = r.program_id AND c.id = r.code_id
        WHERE r.program_id = $1 AND r.referrer_id = $2
        """,
        alice.program_id,
        alice.id,
    )
    assert all(row["in_time"] for row in rows)
    assert {row["referee_id"] for row in rows} == {number for number in registered if number}
    users = await ctx.db.fetchval(
        "SELECT count(*) FROM users WHERE email_key = ANY($1)", [friend.email.key for friend in friends]
    )
    assert users == len(rows), "a refused sign-up leaves no user"
