"""What `invitree restore` refuses: with one line, and before anything has changed."""

import hashlib
import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from invitree.kit.postgres.programs import bundled_programs
from invitree.migrations import HEAD, LOCK
from invitree.run import backups
from invitree.run.backups import BackupError, check_file
from tests.backup.conftest import at
from tests.conftest import New
from tests.databases import contents, execute, fill, schema
from tests.process import run


@pytest.fixture(scope="module")
def whole(backup: Path) -> bytes:
    """What a good file holds."""
    return backup.read_bytes()


def sealed(archive: bytes) -> bytes:
    """Return an archive as if it had been made like that."""
    return archive + backups._seal(hashlib.sha256(archive).hexdigest())


def refused(url: str, file: Path, *flags: str) -> str:
    """Return the line with which a file is refused."""
    done = run("restore", str(file), *flags, env=at(url))
    assert (done.returncode, done.stdout) == (1, ""), done
    assert re.fullmatch(r"invitree: [^\n]+; nothing was changed\n", done.stderr), done.stderr
    return done.stderr


def test_whatever_is_cut_off_or_changed_is_noticed(whole: bytes, tmp_path: Path) -> None:
    file, size, chance = tmp_path / "file", len(whole), random.Random(5)
    seal = size - backups._SEAL_SIZE
    lengths = {0, 1, 5, 1000, seal - 1, seal, seal + 1, size - 65, size - 2, size - 1}
    for length in lengths | {chance.randrange(size) for _ in range(50)}:
        file.write_bytes(whole[:length])
        with pytest.raises(BackupError, match=r"cut off|damaged"):
            check_file(file)
    for place in {0, seal - 1, seal, seal + 1, size - 2, size - 1} | {chance.randrange(size) for _ in range(100)}:
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :])
        with pytest.raises(BackupError, match=r"cut off|damaged"):
            check_file(file)
    for longer in (whole + b"\n", whole + whole, b"\0" + whole):
        file.write_bytes(longer)
        with pytest.raises(BackupError, match=r"cut off|damaged"):
            check_file(file)
    file.write_bytes(whole)
    check_file(file)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda whole: whole[: len(whole) // 2], "is cut off, or was not made by invitree backup"),
        (lambda whole: whole[:-1], "is cut off"),
        (lambda whole: whole[:-9] + b"x" + whole[-8:], "is damaged"),
        (lambda whole: whole[:99_999] + bytes([whole[99_999] ^ 1]) + whole[100_000:], "is damaged"),
        (lambda whole: b"", "is cut off"),
        (lambda whole: b"a letter to somebody\n" * 50, "was not made by invitree backup"),
        (lambda whole: sealed(b"a letter to somebody\n" * 50), "pg_restore: did not find magic string in file header"),
        (lambda whole: sealed(whole[:100_000]), "pg_restore: could not read from input file: end of file"),
        (lambda whole: sealed(b""), "pg_restore: did not find magic string in file header"),
    ],
)
async def test_a_spoiled_file_is_refused_and_nothing_changed(
    spoil: Callable[[bytes], bytes], expected: str, filled: str, whole: bytes, tmp_path: Path
) -> None:
    before = await contents(filled)
    file = tmp_path / "file"
    file.write_bytes(spoil(whole))
    assert expected in refused(filled, file, "--force")
    assert await contents(filled) == before


def test_a_file_that_is_not_there_is_refused_before_a_database_is_made(tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = run("restore", str(tmp_path / "nothing"), "--data-dir", str(data))
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be read: No such file or directory; nothing was changed" in done.stderr
    assert not data.exists()


def test_an_archive_of_pg_dump_is_not_taken_for_a_backup(filled: str, tmp_path: Path, empty: str) -> None:
    file = tmp_path / "file"
    subprocess.run([bundled_programs() / "pg_dump", "--format=custom", f"--file={file}", filled], check=True)
    assert "was not made by invitree backup" in refused(empty, file)


async def test_a_backup_of_a_newer_version_is_refused(new_database: New, tmp_path: Path, empty: str) -> None:
    newer, file = await new_database(), tmp_path / "file"
    run("migrate", env=at(newer))
    await execute(newer, "UPDATE alembic_version SET version_num = '9999'")
    assert run("backup", str(file), env=at(newer)).returncode == 0
    assert f"made by a newer Invitree: its schema is 9999, and here it is {HEAD}" in refused(empty, file, "--force")
    assert await contents(empty) == {}


async def test_rows_are_replaced_only_by_force(backup: Path, new_database: New) -> None:
    url = await new_database()
    run("migrate", env=at(url))
    await fill(url, users=10, at=HEAD)
    before = await contents(url)
    assert "there are rows in public.audit; --force replaces everything" in refused(url, backup)
    assert await contents(url) == before


async def test_other_tables_are_not_replaced_even_by_force(backup: Path, empty: str) -> None:
    await execute(empty, "CREATE TABLE invoices (id int)")
    assert "the database is not Invitree's: it has the table public.invoices" in refused(empty, backup, "--force")
    await execute(empty, "CREATE TABLE alembic_version (version_num text)")
    assert "the database is not Invitree's" in refused(empty, backup, "--force")
    assert set(await contents(empty)) == {"alembic_version", "invoices"}


@pytest.mark.parametrize("name", ["invitree", "invitree listener", "invitree worker"])
async def test_a_database_that_the_service_uses_is_left_alone(filled: str, backup: Path, name: str) -> None:
    before = await contents(filled)
    service = await asyncpg.connect(filled, server_settings={"application_name": name})
    assert "the service or another command is using the database; stop it first" in refused(filled, backup, "--force")
    await service.close()
    assert await contents(filled) == before


@pytest.mark.parametrize("taking", ["SELECT count(*) FROM users", f"SELECT pg_advisory_xact_lock({LOCK})"])
async def test_whoever_uses_a_table_or_migrates_is_not_waited_for_long(filled: str, backup: Path, taking: str) -> None:
    somebody = await asyncpg.connect(filled)
    async with somebody.transaction():
        await somebody.fetchval(taking)
        line = refused(filled, backup, "--force")
    await somebody.close()
    assert "somebody else is using the tables of the database, or is migrating it" in line


async def test_a_role_that_may_not_make_tables_is_told_so(backup: Path, postgres: str, empty: str) -> None:
    await execute(empty, "REVOKE CREATE ON SCHEMA public FROM pg_database_owner", admin=True)
    assert "permission denied for schema public" in refused(empty, backup)
    assert schema(empty) == schema(empty)
