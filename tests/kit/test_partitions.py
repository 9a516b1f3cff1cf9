"""kit/data/partitions.py: the months of the audit log."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from invitree.kit.data.db import Database
from invitree.kit.data.partitions import keep_months
from invitree.migrations import HEAD
from tests.databases import broken_invariants, database, fill

_MONTHS = """
    SELECT array_agg(inhrelid::regclass::text ORDER BY inhrelid::regclass::text)
    FROM pg_inherits WHERE inhparent = 'audit'::regclass
"""
_YEAR = timedelta(days=365)


async def keep(db: Database, older_than: timedelta = 9 * _YEAR) -> Any:
    async with db.transaction() as tx:
        return await keep_months(tx, table="audit", older_than=older_than)


@pytest.fixture
async def url(postgres: str) -> AsyncIterator[str]:
    """The URL of a migrated database."""
    async with database(postgres, migrated=True) as made:
        yield made


@pytest.fixture
async def db(url: str) -> AsyncIterator[Database]:
    """That database."""
    opened = Database.at(url, size=2)
    yield opened
    await opened.close()


@pytest.fixture
async def oldest_age(db: Database) -> timedelta:
    """How long ago the oldest partition ended; it ends in a month or two, so less than nothing."""
    ends = "SELECT substring(pg_get_expr(relpartbound, oid) FROM 'TO .''([^'']+)')::timestamptz FROM pg_class"
    age: timedelta = await db.fetchval(f"SELECT now() - ({ends} WHERE relname = 'audit_oldest')")
    return age


async def test_there_is_always_a_partition_for_the_next_three_months(db: Database) -> None:
    before = await drop_all_but_the_oldest(db)
    assert await keep(db) == []
    for months in range(4):
        await db.execute(
            """
            INSERT INTO audit (program_id, actor, kind, created_at)
            SELECT id, 'self', 'a.b', now() + make_interval(months => $1) FROM programs
            """,
            months,
        )
    after = await db.fetchval(_MONTHS)
    assert set(after) <= set(before)
    await keep(db)
    assert await db.fetchval(_MONTHS) == after


async def test_a_new_month_has_what_the_others_have_and_nobody_can_change_it(db: Database) -> None:
    month = (await db.fetchval(_MONTHS))[0]
    described = """
        SELECT array_agg(regexp_replace(definition, '\\d{4}_\\d\\d', 'month', 'g') ORDER BY definition) FROM (
            SELECT pg_get_indexdef(indexrelid) AS definition FROM pg_index WHERE indrelid = $1::text::regclass
            UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = $1::text::regclass
        ) it
    """
    before = await db.fetchval(described, month)
    await drop_all_but_the_oldest(db)
    await keep(db)
    assert await db.fetchval(described, month) == before
    for statement in (f"DELETE FROM {month}", f"UPDATE {month} SET kind = 'a.c'", f"TRUNCATE {month}"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.execute(statement)


async def test_a_month_that_ended_long_enough_ago_is_dropped_with_what_is_in_it(
    db: Database, oldest_age: timedelta
) -> None:
    await db.execute("INSERT INTO audit (program_id, actor, kind) SELECT id, 'self', 'a.b' FROM programs")
    assert await keep(db, oldest_age + timedelta(hours=1)) == []
    assert await db.fetchval("SELECT count(*) FROM audit") == 1
    assert await keep(db, oldest_age) == ["audit_oldest"]
    assert await db.fetchval("SELECT count(*) FROM audit") == 0


async def test_users_of_a_month_that_was_dropped_break_no_invariant(
    db: Database, url: str, oldest_age: timedelta
) -> None:
    await fill(url, users=20, at=HEAD)
    await keep(db, oldest_age)
    program, user = await db.fetchrow("SELECT program_id, min(id) FROM users GROUP BY program_id")
    coming = """
        INSERT INTO audit (program_id, user_id, actor, kind, created_at)
        VALUES ($1, $2, 'self', 'account.created', now() + $3::interval)
    """
    await db.execute(coming, program, user, -oldest_age + timedelta(hours=1))
    assert await broken_invariants(url) == []


async def test_whoever_uses_the_table_for_long_is_not_waited_for(db: Database, oldest_age: timedelta) -> None:
    async with db.transaction() as reader:
        await reader.fetchval("SELECT count(*) FROM audit")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await keep(db, oldest_age)
    assert await keep(db, oldest_age) == ["audit_oldest"]


async def drop_all_but_the_oldest(db: Database) -> list[str]:
    """Return the partitions that there were."""
    before: list[str] = await db.fetchval(_MONTHS)
    for month in set(before) - {"audit_oldest"}:
        await db.execute(f"DROP TABLE {month}")
    return before
