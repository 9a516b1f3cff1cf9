"""`invitree restore`: what it replaces, and that it does all of it or nothing."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from invitree.migrations import HEAD
from invitree.migrations.upgrade import upgrade
from tests.backup.conftest import at
from tests.conftest import New
from tests.databases import contents, execute, fill, schema
from tests.process import INVITREE, run
from tests.waiting import eventually


async def test_a_database_that_was_only_started_counts_as_empty(backup: Path, filled: str, empty: str) -> None:
    run("migrate", env=at(empty))
    run("program", "set", "--host", "invite.example.com", env=at(empty))
    done = run("restore", str(backup), env=at(empty))
    assert done.returncode == 0, done.stderr
    assert await contents(empty) == {**await contents(filled), "throttles": (0, None)}


@pytest.mark.parametrize("revision", ["0001", "0002"])
async def test_an_older_backup_is_brought_up_to_date(revision: str, new_database: New, tmp_path: Path) -> None:
    old, new, fresh = await new_database(), await new_database(), await new_database()
    await asyncio.to_thread(upgrade, old, to=revision)
    await fill(old, users=500, at=revision)
    assert run("backup", str(tmp_path / "file"), env=at(old)).returncode == 0
    was = await contents(old)
    assert await execute(old, "SELECT version_num FROM alembic_version") == revision
    await asyncio.to_thread(upgrade, new)
    await asyncio.to_thread(upgrade, fresh)
    await fill(new, users=10, at=HEAD)
    for flags in ((), ("--force",)):
        target = new if flags else await new_database()
        done = run("restore", str(tmp_path / "file"), *flags, env=at(target))
        assert done.returncode == 0, done.stderr
        assert f"with the schema {revision}" in done.stdout
        assert "BROKEN" not in done.stdout
        assert schema(target) == schema(fresh)
        found = await contents(target)
        kept = ("codes", "referrals", "refresh_tokens")
        assert {table: found[table] for table in kept} == {table: was[table] for table in kept}
        assert found["users"][0] == 500


async def test_what_a_newer_version_has_left_can_be_replaced_by_force(
    backup: Path, filled: str, new_database: New
) -> None:
    url = await new_database()
    await asyncio.to_thread(upgrade, url)
    await fill(url, users=10, at=HEAD)
    await execute(url, "CREATE TYPE mood AS ENUM ('good', 'bad')")
    await execute(url, "CREATE TABLE rewards (program_id bigint, user_id bigint, how mood)")
    await execute(url, "ALTER TABLE rewards ADD FOREIGN KEY (program_id, user_id) REFERENCES users (program_id, id)")
    await execute(url, "CREATE VIEW friends AS SELECT * FROM referrals")
    await execute(url, "CREATE FUNCTION later() RETURNS mood LANGUAGE sql AS $$ SELECT 'good'::mood $$")
    await execute(url, "UPDATE alembic_version SET version_num = '9999'")
    done = run("restore", str(backup), "--force", env=at(url))
    assert (done.returncode, done.stderr) == (0, "")
    assert await contents(url) == {**await contents(filled), "throttles": (0, None)}
    assert schema(url) == schema(filled)


async def test_what_belongs_to_an_extension_stays(backup: Path, filled: str, empty: str) -> None:
    await execute(empty, "CREATE EXTENSION vector", admin=True)
    for flags in ((), ("--force",)):
        done = run("restore", str(backup), *flags, env=at(empty))
        assert (done.returncode, done.stderr) == (0, "")
    assert await execute(empty, "SELECT '[1,2]'::vector::text") == "[1,2]"
    assert await contents(empty) == {**await contents(filled), "throttles": (0, None)}
    assert run("backup", str(backup.parent / "again"), env=at(empty)).returncode == 0


@pytest.fixture
async def slow(new_database: New, tmp_path: Path) -> Path:
    """A backup whose last table takes ten seconds to restore."""
    url = await new_database()
    await asyncio.to_thread(upgrade, url)
    await fill(url, users=100, at=HEAD)
    await execute(url, "CREATE TABLE zzz AS SELECT repeat('x', 50000) AS wide FROM generate_series(1, 200)")
    await execute(url, "ALTER TABLE zzz ADD CONSTRAINT slow CHECK (pg_sleep(0.05)::text = '') NOT VALID")
    # Else it would be added after the rows.
    await execute(url, "UPDATE pg_constraint SET convalidated = true WHERE conname = 'slow'", admin=True)
    assert run("backup", str(tmp_path / "slow"), env=at(url)).returncode == 0
    return tmp_path / "slow"


async def test_the_limits_of_a_role_do_not_end_what_takes_long(slow: Path, empty: str) -> None:
    name = empty.partition("?")[0].rpartition("/")[2]
    for limit in ("statement_timeout", "transaction_timeout"):
        await execute(empty, f"ALTER DATABASE {name} SET {limit} = '4s'")
    done = await asyncio.to_thread(run, "restore", str(slow), env=at(empty))
    assert (done.returncode, done.stderr) == (0, "")
    assert (await contents(empty))["zzz"][0] == 200


@pytest.fixture
async def half_done(slow: Path, filled: str) -> AsyncIterator[subprocess.Popen[str]]:
    """A restore that has dropped everything, and has the last table to go."""
    looking = await asyncpg.connect(filled)
    process = subprocess.Popen(
        [INVITREE, "restore", str(slow), "--force"],
        env={**os.environ, **at(filled)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    copying = """
        SELECT count(*) > 0 FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'COPY public.zzz%' AND state = 'active'
    """
    await eventually(lambda: looking.fetchval(copying))
    yield process
    process.kill()
    process.communicate()
    await looking.close()


@pytest.mark.parametrize("killed", ["invitree", "psql", "pg_restore", "the connection"])
async def test_a_restore_that_is_killed_has_changed_nothing(
    half_done: subprocess.Popen[str], filled: str, killed: str
) -> None:
    ours = psutil.Process(half_done.pid)
    processes = {process.name(): process for process in ours.children()} | {"invitree": ours}
    assert set(processes) == {"invitree", "psql", "pg_restore"}
    if killed in processes:
        processes[killed].kill()
    else:
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'COPY public.zzz%'"
        await execute(filled, end, admin=True)
    said, complaint = await asyncio.to_thread(half_done.communicate, timeout=30)
    if killed != "invitree":
        assert (half_done.returncode, said) == (1, "")
        assert complaint.count("\n") == 1
        assert complaint.endswith("; nothing was changed\n")
    _, alive = psutil.wait_procs(list(processes.values()), timeout=20)
    assert alive == []
    now = await asyncio.wait_for(contents(filled), timeout=20)  # which waits for the locks
    assert now["users"][0] == now["audit"][0] == 2000
    assert "zzz" not in now
