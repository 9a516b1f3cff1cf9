"""All transactions of a block are one."""

from contextlib import suppress

import pytest

from invitree.kit.context import AppContext
from invitree.kit.data.db import Queryable, Transaction

INSERT = "INSERT INTO programs (slug) VALUES ($1)"


async def nothing(_: Transaction) -> None:
    """Begin with nothing in particular."""


async def slugs(db: Queryable) -> set[str]:
    """Return which of the programs below are there."""
    return {row["slug"] for row in await db.fetch("SELECT slug FROM programs WHERE slug LIKE 'joined-%'")}


async def test_they_are_committed_together(ctx: AppContext) -> None:
    async with ctx.db.joined(first=nothing) as db:
        for slug in ("joined-a", "joined-b"):
            async with db.transaction() as tx:
                await tx.execute(INSERT, slug)
        async with db.transaction() as tx:
            assert await slugs(tx) == {"joined-a", "joined-b"}
        assert await slugs(ctx.db) == set()
    assert await slugs(ctx.db) == {"joined-a", "joined-b"}


async def test_an_error_after_one_of_them_takes_it_back(ctx: AppContext) -> None:
    there = await slugs(ctx.db)

    async def fail() -> None:
        async with ctx.db.joined(first=nothing) as db:
            async with db.transaction() as tx:
                await tx.execute(INSERT, "joined-c")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await slugs(ctx.db) == there


async def test_an_error_in_one_of_them_cannot_be_passed_over(ctx: AppContext) -> None:
    there = await slugs(ctx.db)

    async def pass_over() -> None:
        async with ctx.db.joined(first=nothing) as db:
            with suppress(ZeroDivisionError):
                async with db.transaction() as tx:
                    await tx.execute(INSERT, "joined-d")
                    raise ZeroDivisionError

    with pytest.raises(AssertionError, match="has failed"):
        await pass_over()
    assert await slugs(ctx.db) == there


async def test_what_comes_first_is_part_of_it_and_can_refuse(ctx: AppContext) -> None:
    there = await slugs(ctx.db)

    async def refuse(tx: Transaction) -> None:
        await tx.execute(INSERT, "joined-e")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with ctx.db.joined(first=refuse) as db, db.transaction():
            raise AssertionError("never reached")
    assert await slugs(ctx.db) == there
