"""A PostgreSQL of the operator's: another version, over TCP, with a password and a role that owns one database."""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from bench.servers import free_port
from invitree.migrations import HEAD
from tests.backup.conftest import at
from tests.conftest import New
from tests.databases import contents, fill, schema
from tests.kit.postmasters import AS_NOBODY
from tests.process import run

PASSWORD = "a p@ss/word: 100% 'ёж'"
_INSTALLED = [folder for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin")) if int(folder.parent.name) >= 15]
pytestmark = pytest.mark.skipif(not _INSTALLED, reason="no PostgreSQL 15 or newer in /usr/lib/postgresql")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The URL of an installed PostgreSQL's superuser, without a path."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    prefix = AS_NOBODY if os.geteuid() == 0 else []
    if prefix:
        os.chown(folder, 65534, 65534)
    (folder / "password").write_text(PASSWORD, encoding="utf-8")
    (folder / "password").chmod(0o644)
    programs, port = _INSTALLED[0], free_port()
    flags = ["--username=boss", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"]
    initdb = [str(programs / "initdb"), "-D", str(folder / "data"), *flags, f"--pwfile={folder / 'password'}"]
    subprocess.run([*prefix, *initdb], check=True, capture_output=True, cwd="/")
    server = [str(programs / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder)]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen([*prefix, *server], stderr=log, cwd="/") as running,
    ):
        try:
            yield f"postgresql://boss:{quote(PASSWORD, safe='')}@127.0.0.1:{port}"
        finally:
            running.send_signal(signal.SIGINT)
    shutil.rmtree(folder)


@pytest.fixture
async def theirs(cluster: str) -> str:
    """The URL of an empty database there, with a role that owns it and nothing else."""
    for _ in range(200):
        try:
            boss = await asyncpg.connect(f"{cluster}/postgres")
            break
        except (OSError, asyncpg.CannotConnectNowError):
            await asyncio.sleep(0.05)
    await boss.execute("DROP DATABASE IF EXISTS theirs")
    await boss.execute("DROP ROLE IF EXISTS one")
    quoted = await boss.fetchval("SELECT quote_literal($1::text)", PASSWORD)
    await boss.execute(f"CREATE ROLE one LOGIN PASSWORD {quoted}")
    await boss.execute("CREATE DATABASE theirs OWNER one")
    await boss.close()
    return cluster.replace("boss:", "one:") + "/theirs"


async def test_it_is_backed_up_and_restored_in_place(theirs: str, tmp_path: Path) -> None:
    run("migrate", env=at(theirs))
    await fill(theirs, users=300, at=HEAD)
    before, was = await contents(theirs), schema(theirs)
    done = run("backup", str(tmp_path / "file"), env=at(theirs))
    assert (done.returncode, done.stderr) == (0, "")
    assert "--force replaces everything" in run("restore", str(tmp_path / "file"), env=at(theirs)).stderr
    done = run("restore", str(tmp_path / "file"), "--force", env=at(theirs))
    assert (done.returncode, done.stderr) == (0, "")
    assert await contents(theirs) == {**before, "throttles": (0, None)}
    assert schema(theirs) == was


async def test_it_takes_what_the_embedded_one_had_and_gives_it_back(
    filled: str, backup: Path, theirs: str, new_database: New, tmp_path: Path
) -> None:
    before = await contents(filled)
    done = run("restore", str(backup), env=at(theirs))
    assert (done.returncode, done.stderr) == (0, "")
    assert await contents(theirs) == {**before, "throttles": (0, None)}
    assert run("backup", str(tmp_path / "file"), env=at(theirs)).returncode == 0
    back = await new_database()
    assert run("restore", str(tmp_path / "file"), env=at(back)).returncode == 0
    assert await contents(back) == {**before, "throttles": (0, None)}
    assert schema(back) == schema(filled)
