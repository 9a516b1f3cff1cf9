"""`invitree backup` and what comes back of it: everything, as it was at one moment."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from invitree.invariants import INVARIANTS
from invitree.kit.postgres.programs import bundled_programs
from invitree.migrations import HEAD
from invitree.migrations.upgrade import upgrade
from invitree.run.backups import back_up, restore
from tests.backup.conftest import at
from tests.conftest import New
from tests.databases import contents, execute, fill, schema
from tests.process import INVITREE, run
from tests.waiting import eventually


async def test_what_is_restored_is_what_was_backed_up(filled: str, backup: Path, empty: str) -> None:
    done = run("restore", str(backup), env=at(empty))
    assert done.returncode == 0, done.stderr
    before, after = await contents(filled), await contents(empty)
    assert after == {**before, "throttles": (0, None)}
    assert all(before[table][0] for table in before if isinstance(before[table], tuple) and not table.startswith("pgq"))
    assert schema(empty) == schema(filled)
    assert f"with the schema {HEAD}" in done.stdout
    assert done.stdout.count("ok ") == len(INVARIANTS)
    assert "INVITREE_SECRET_KEY is the secret key of that time" in done.stdout
    assert run("verify", env=at(empty)).returncode == 0
    assert "Nothing to do" in run("migrate", env=at(empty)).stdout


def test_a_backup_is_for_its_owner_alone_and_readable_for_pg_restore(backup: Path) -> None:
    assert backup.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in backup.parent.iterdir()] == [backup.name]
    program = bundled_programs() / "pg_restore"
    listed = subprocess.run([program, "--list", backup], capture_output=True, text=True, check=True).stdout
    assert "TABLE DATA public users" in listed
    assert "TABLE DATA public throttles" not in listed
    subprocess.run([program, "--file=/dev/null", backup], check=True)


def test_how_far_it_is_can_be_watched_on_a_terminal(filled: str, backup: Path, tmp_path: Path) -> None:
    for words, command in (("Backing up", ["backup", str(tmp_path / "new")]), ("Restoring", ["restore", str(backup)])):
        ours, terminal = os.openpty()
        environment = {**os.environ, **at(filled), "TERM": "xterm"}
        subprocess.run([INVITREE, *command, "--force"], env=environment, stdout=subprocess.DEVNULL, stderr=terminal)
        os.close(terminal)
        with os.fdopen(ours, "rb", buffering=0) as screen:
            seen = screen.read(4000).decode()
        assert words in seen


async def test_every_table_is_told_of(filled: str, backup: Path, empty: str, tmp_path: Path) -> None:
    names = "SELECT array_agg(tablename) FROM pg_tables WHERE schemaname = 'public'"
    tables = sorted(set(await execute(filled, names)) - {"throttles", "audit"})  # audit has its partitions
    expected = [(number, len(tables), name) for number, name in enumerate(tables)]
    thrice = [(number, 3 * len(tables), name) for number, name in enumerate(3 * tables)]  # written, counted, read back
    told: list[tuple[int, int, str]] = []

    def advance(done: int, of: int, doing: str) -> None:
        told.append((done, of, doing))

    await asyncio.to_thread(back_up, filled, tmp_path / "new", force=False, advance=advance)
    assert told == thrice
    told.clear()
    await asyncio.to_thread(restore, empty, backup, force=False, advance=advance)
    assert told == expected


def test_a_file_that_is_there_is_replaced_only_by_force(filled: str, tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_text("something else")
    done = run("backup", str(file), env=at(filled))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"invitree: {file} is there already; --force replaces it\n"
    assert file.read_text() == "something else"
    assert run("backup", str(file), "--force", env=at(filled)).returncode == 0
    assert file.read_bytes().startswith(b"PGDMP")
    assert file.stat().st_mode & 0o777 == 0o600
    for special in (str(tmp_path), "/dev/null"):
        assert "is not a file" in run("backup", special, "--force", env=at(filled)).stderr
    assert Path("/dev/null").is_char_device()


def test_what_cannot_be_backed_up_is_one_line_and_leaves_nothing(filled: str, empty: str, tmp_path: Path) -> None:
    file = tmp_path / "new"
    for args, env, expected in (
        ([str(file)], at(empty), "holds no data of Invitree"),
        ([str(file), "--data-dir", str(tmp_path / "nowhere")], {}, "there is no database in"),
        ([str(tmp_path / "no" / "folder")], at(filled), "cannot be written: No such file or directory"),
        ([str(file)], at("postgresql://u:secret@127.0.0.1:1/x"), "cannot be reached"),
    ):
        done = run("backup", *args, env=env)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("invitree: ")
        assert done.stderr.count("\n") == 1
        assert expected in done.stderr
        assert list(tmp_path.iterdir()) == []


# In a file system of its own, which is gone with the process.
_ON_A_SMALL_DISK = 'mount -t tmpfs -o size=64k none "$0" && "$@"; code=$?; ls -A "$0"; exit $code'


def test_a_full_disk_leaves_no_file(filled: str, tmp_path: Path) -> None:
    isolated = ["unshare", "--mount", "sh", "-c"]
    try:
        subprocess.run([*isolated, _ON_A_SMALL_DISK, str(tmp_path), "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    command = [*isolated, _ON_A_SMALL_DISK, str(tmp_path), INVITREE, "backup", str(tmp_path / "new")]
    done = subprocess.run(command, env={**os.environ, **at(filled)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"invitree: pg_dump: .*: No space left on device\n", done.stderr)


@pytest.fixture
async def under_way(filled: str, tmp_path: Path) -> AsyncIterator[subprocess.Popen[str]]:
    """A backup that waits in its middle, for a table that is locked."""
    locking, looking = await asyncpg.connect(filled), await asyncpg.connect(filled)
    await locking.execute("BEGIN")
    await locking.execute("LOCK TABLE audit")
    url = filled.replace("://invitree@", "://invitree:canary%20word@")  # which nobody asks for
    process = subprocess.Popen(
        [INVITREE, "backup", str(tmp_path / "new")],
        env={**os.environ, **at(url)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    waiting = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND query LIKE 'LOCK%'"

    async def is_waiting() -> bool:
        return await looking.fetchval(waiting) > 0 or process.poll() is not None

    await eventually(is_waiting)
    yield process
    await locking.close()
    await looking.close()
    process.kill()
    process.communicate()


def test_the_password_is_in_no_command_line(under_way: subprocess.Popen[str]) -> None:
    [dumping] = psutil.Process(under_way.pid).children()
    assert dumping.cmdline()[0].endswith("/pg_dump")
    everything = "\n".join(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))
    assert "canary" not in everything
    assert dumping.environ()["PGPASSWORD"] == "canary word"
    assert not any(name.startswith("INVITREE_") for name in dumping.environ())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_backup_that_is_stopped_leaves_nothing(
    under_way: subprocess.Popen[str], how: signal.Signals, tmp_path: Path
) -> None:
    [dumping] = psutil.Process(under_way.pid).children()
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]
    under_way.send_signal(how)
    assert under_way.communicate(timeout=20) == ("", "")
    assert under_way.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert not dumping.is_running()


def test_a_backup_that_is_killed_leaves_no_file_under_its_name(
    under_way: subprocess.Popen[str], tmp_path: Path
) -> None:
    under_way.kill()
    under_way.wait(20)
    assert [path.suffix for path in tmp_path.iterdir()] == [".partial"]


async def test_a_backup_under_load_is_of_one_moment(new_database: New, tmp_path: Path) -> None:
    source, target, file = await new_database(), await new_database(), tmp_path / "new"
    await asyncio.to_thread(upgrade, source)
    await fill(source, users=20_000, at=HEAD)
    stop = asyncio.Event()
    writers = [asyncio.create_task(_bring_friends(source, name=name, stop=stop)) for name in ("a", "b", "c")]
    await asyncio.sleep(0.2)
    done = await asyncio.to_thread(run, "backup", str(file), env=at(source))
    stop.set()
    brought = sum([await writer for writer in writers])
    assert done.returncode == 0, done.stderr
    restored = await asyncio.to_thread(run, "restore", str(file), env=at(target))
    assert (restored.returncode, restored.stderr) == (0, "")
    found = await contents(target)
    users = found["users"][0]
    assert 20_000 < users < 20_000 + brought
    assert found["audit"][0] == users
    assert found["referrals"][0] == 10_000 + users - 20_000


async def _bring_friends(url: str, *, name: str, stop: asyncio.Event) -> int:
    """Sign users up, each with a referral and an event in one transaction; return how many."""
    db = await asyncpg.connect(url)
    number = 0
    while not stop.is_set():
        number += 1
        async with db.transaction():
            user = await db.fetchval(
                """
                INSERT INTO users (program_id, email, email_key, email_identity, username, password_hash)
                SELECT id, $1, $1, $1, $1, 'x' FROM programs WHERE slug = 'default' RETURNING id
                """,
                f"{name}{number}",
            )
            await db.execute(
                """
                INSERT INTO referrals (program_id, referrer_id, referee_id, created_at)
                SELECT program_id, min(id), $1, clock_timestamp() FROM users GROUP BY program_id
                """,
                user,
            )
            await db.execute(
                "INSERT INTO audit (program_id, user_id, actor, kind) SELECT id, $1, 'self', 'user.created' "
                "FROM programs WHERE slug = 'default'",
                user,
            )
    await db.close()
    return number
