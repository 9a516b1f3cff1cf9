"""The same races with every step in its place: who waits for whom, and what time it is after the wait."""

import asyncio

import pytest

from invitree.base.problems import InvalidInput
from invitree.identity.audit.store import OPERATOR
from invitree.identity.programs.actions import get_program
from invitree.kit.context import AppContext
from invitree.sharing.codes import store
from invitree.sharing.codes.actions import delete_code
from tests.cast import Cast, Person, new_user, sign_up
from tests.races.stage import until_it_waits


async def _code_row(ctx: AppContext, person: Person) -> tuple[int, str]:
    row = await ctx.db.fetchrow(
        "SELECT id, code FROM codes WHERE program_id = $1 AND user_id = $2 ORDER BY id DESC LIMIT 1",
        person.program_id,
        person.id,
    )
    return row["id"], row["code"]


async def test_a_sign_up_that_waits_for_a_delete_is_refused(ctx: AppContext, cast: Cast) -> None:
    alice = await cast.member()
    program = await get_program(ctx, alice.program_id)
    code = await cast.code(alice)
    async with ctx.db.transaction() as tx:
        assert await store.revoke(tx, program_id=alice.program_id, user_id=alice.id)
        waiting = asyncio.create_task(sign_up(ctx, program=program, new_user=new_user(), referral_code=code))
        await until_it_waits(ctx, waiting)
    with pytest.raises(InvalidInput):
        await waiting


async def test_a_delete_that_waits_for_a_sign_up_is_later_than_its_referral(ctx: AppContext, cast: Cast) -> None:
    alice = await cast.member()
    code = await cast.code(alice)
    code_id, _ = await _code_row(ctx, alice)
    async with ctx.db.transaction() as tx:
        assert await store.lock_code(tx, program_id=alice.program_id, code=code)
        waiting = asyncio.create_task(delete_code(ctx, program_id=alice.program_id, user_id=alice.id, actor=OPERATOR))
        await until_it_waits(ctx, waiting)
        used_at = await tx.fetchval("SELECT clock_timestamp()")
    await waiting
    revoked_at = await ctx.db.fetchval(
        "SELECT revoked_at FROM codes WHERE program_id = $1 AND id = $2", alice.program_id, code_id
    )
    assert revoked_at >= used_at


async def test_a_code_that_dies_while_a_sign_up_waits_for_it_is_refused(ctx: AppContext, cast: Cast) -> None:
    alice = await cast.member()
    program = await get_program(ctx, alice.program_id)
    code = await cast.code(alice)
    code_id, _ = await _code_row(ctx, alice)
    async with ctx.db.transaction() as tx:
        await tx.fetchval(
            "SELECT id FROM codes WHERE program_id = $1 AND id = $2 FOR UPDATE", alice.program_id, code_id
        )
        # Its transaction begins while the code lives, so that now() would still call it alive after the wait.
        waiting = asyncio.create_task(sign_up(ctx, program=program, new_user=new_user(), referral_code=code))
        await until_it_waits(ctx, waiting)
        await tx.execute(
            "UPDATE codes SET expires_at = clock_timestamp() WHERE program_id = $1 AND id = $2",
            alice.program_id,
            code_id,
        )
    with pytest.raises(InvalidInput):
        await waiting
