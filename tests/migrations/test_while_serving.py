"""Migrating a filled database of every earlier revision while it is used: nobody notices, and nothing is lost."""

import asyncio

from invitree.migrations import HEAD
from invitree.migrations.upgrade import upgrade
from tests.conftest import New
from tests.databases import broken_invariants, contents, execute, schema
from tests.migrations.load import in_use

_FILES = """
    SELECT array_agg(concat_ws(' ', oid, pg_relation_filenode(oid))) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


async def test_no_statement_fails_and_the_schema_is_that_of_a_new_database(old: str, new_database: New) -> None:
    async with in_use(old) as load:
        await asyncio.to_thread(upgrade, old)
    assert load.failures == []
    assert load.done > 20
    assert load.longest_s < 2
    fresh = await new_database()
    await asyncio.to_thread(upgrade, fresh)
    assert schema(old) == schema(fresh)
    assert await execute(old, "SELECT version_num FROM alembic_version") == HEAD
    assert await broken_invariants(old) == []


async def test_no_table_is_rewritten_and_no_row_is_lost(old: str) -> None:
    files, before = await execute(old, _FILES), await contents(old)
    await asyncio.to_thread(upgrade, old)
    assert set(files) <= set(await execute(old, _FILES))
    after = dict(await contents(old))
    after["events"] = after["audit"]  # from 0009 on
    counts = {name: was[0] for name, was in before.items() if isinstance(was, tuple)}
    assert {name: after[name][0] for name in counts} == counts


async def test_whoever_was_kept_out_is_still(oldest: str) -> None:
    await asyncio.to_thread(upgrade, oldest)
    query = "SELECT count(*) FROM users WHERE NOT is_active AND deactivated_at IS NOT NULL"
    assert await execute(oldest, query) == 10
    assert await execute(oldest, "SELECT count(*) FROM users WHERE is_active AND deactivated_at IS NULL") == 990


async def test_a_session_was_last_seen_when_it_was_migrated_or_begun(oldest: str) -> None:
    await asyncio.to_thread(upgrade, oldest)
    assert await execute(oldest, "SELECT count(DISTINCT last_seen_at) FROM sessions") == 1
    await execute(
        oldest,
        "INSERT INTO sessions (program_id, user_id) SELECT program_id, id FROM users ORDER BY id LIMIT 2",
    )
    assert await execute(oldest, "SELECT count(DISTINCT last_seen_at) FROM sessions") == 3
