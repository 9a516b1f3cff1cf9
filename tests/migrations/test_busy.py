"""Migrations that somebody is in the way of: they wait at a distance, say so, and can be begun again."""

import asyncio
import functools

import asyncpg
import pytest

from invitree.migrations import HEAD, LOCK
from invitree.migrations import upgrade as upgrading
from invitree.migrations.upgrade import SchemaBusy, upgrade
from tests.conftest import New
from tests.databases import execute, schema
from tests.migrations.load import in_use
from tests.process import run


@pytest.fixture
def told() -> list[str]:
    """What a migration has said."""
    return []


async def revision(url: str) -> object:
    return await execute(url, "SELECT version_num FROM alembic_version")


@pytest.mark.parametrize("table", ["sessions", "users", "programs"])
async def test_a_long_transaction_is_not_queued_behind(oldest: str, table: str, told: list[str]) -> None:
    somebody = await asyncpg.connect(oldest, server_settings={"application_name": "a report"})
    async with in_use(oldest) as load:
        async with somebody.transaction():
            await somebody.fetchval(f"SELECT count(*) FROM {table}")
            migrating = asyncio.create_task(asyncio.to_thread(upgrade, oldest, report=told.append))
            await asyncio.sleep(2.5)
            assert not migrating.done()
        await migrating
    pid = somebody.get_server_pid()
    await somebody.close()
    assert load.failures == []
    assert load.longest_s < 1.5
    assert await revision(oldest) == HEAD
    who = f"the oldest transaction is one of invitree (a report, process {pid}), "
    assert any(f"the schema cannot be changed while its tables are in use; {who}" in line for line in told)
    assert told[0].endswith(" s old; trying again in 0.2 s")


async def test_a_migration_gives_up_on_locks_and_can_be_repeated(
    oldest: str, new_database: New, monkeypatch: pytest.MonkeyPatch
) -> None:
    somebody = await asyncpg.connect(oldest)
    with monkeypatch.context() as patched:
        patched.setattr(upgrading, "_PAUSES_S", (0.1,))
        async with somebody.transaction():
            await somebody.execute("LOCK TABLE users IN ACCESS SHARE MODE")  # the second that is changed
            with pytest.raises(SchemaBusy, match=f"process {somebody.get_server_pid()}"):
                await asyncio.to_thread(upgrade, oldest)
    await somebody.close()
    assert await revision(oldest) == "0001"
    await asyncio.to_thread(upgrade, oldest)
    fresh = await new_database()
    await asyncio.to_thread(upgrade, fresh)
    assert schema(oldest) == schema(fresh)


async def test_an_index_that_was_left_half_built_is_built_anew(oldest: str) -> None:
    await execute(oldest, "CREATE INDEX refresh_tokens_by_end ON refresh_tokens (program_id, expires_at)")
    half = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'refresh_tokens_by_end'::regclass"
    await execute(oldest, half, admin=True)
    await asyncio.to_thread(upgrade, oldest)
    assert await execute(oldest, "SELECT bool_and(indisvalid) FROM pg_index") is True


async def test_of_several_processes_one_migrates_and_the_others_wait(oldest: str) -> None:
    migrate = functools.partial(run, "migrate", env={"INVITREE_DATABASE_URL": oldest})
    done = await asyncio.gather(*(asyncio.to_thread(migrate) for _ in range(3)))
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 3
    assert await revision(oldest) == HEAD


async def test_a_process_that_never_ends_is_not_waited_for(oldest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrading, "TURN_S", 0.6)
    other = await asyncpg.connect(oldest)
    await other.execute(f"SELECT pg_advisory_lock({LOCK})")
    with pytest.raises(SchemaBusy, match="another process has been changing the schema"):
        await asyncio.to_thread(upgrade, oldest)
    await other.close()
    assert await revision(oldest) == "0001"


async def test_a_statement_that_takes_too_long_is_ended_and_undone(oldest: str) -> None:
    await execute(
        oldest,
        "CREATE FUNCTION slow() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(9); END'",
        admin=True,
    )
    await execute(
        oldest,
        "CREATE EVENT TRIGGER slow ON ddl_command_start WHEN tag IN ('CREATE FUNCTION') EXECUTE FUNCTION slow()",
        admin=True,
    )
    with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
        await asyncio.to_thread(upgrade, oldest)
    assert await revision(oldest) == "0001"
    assert await execute(oldest, "SELECT to_regclass('events')") is None
