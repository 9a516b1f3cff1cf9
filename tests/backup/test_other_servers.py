"""A PostgreSQL of the operator's: another version, over TCP, with a password and a role that owns one database."""

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from invitree.kit.data.connections import connect
from invitree.migrations import HEAD
from tests.backup.conftest import at
from tests.conftest import New
from tests.databases import contents, fill, schema
from tests.installed import PASSWORD, installed_postgres, needs_installed
from tests.process import run

pytestmark = needs_installed


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The URL of an installed PostgreSQL's superuser, without a path."""
    with installed_postgres() as (url, _):
        yield url


@pytest.fixture
async def theirs(cluster: str) -> str:
    """The URL of an empty database there, with a role that owns it and nothing else."""
    boss = await asyncpg.connect(f"{cluster}/postgres")
    await boss.execute("DROP DATABASE IF EXISTS theirs")
    await boss.execute("DROP ROLE IF EXISTS one")
    quoted = await boss.fetchval("SELECT quote_literal($1::text)", PASSWORD)
    await boss.execute(f"CREATE ROLE one LOGIN PASSWORD {quoted}")
    await boss.execute("CREATE DATABASE theirs OWNER one")
    await boss.close()
    return cluster.replace("boss:", "one:") + "/theirs"


async def test_an_external_server_is_backed_up_and_restored_in_place(theirs: str, tmp_path: Path) -> None:
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


async def test_backups_move_between_embedded_and_external_servers(
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


async def test_tls_is_used_where_the_server_has_it_and_demanded_where_the_address_does(theirs: str) -> None:
    for sslmode in ("prefer", "allow", "disable"):
        connection = await connect(f"{theirs}?sslmode={sslmode}", timeout=5)
        await connection.close()
    with pytest.raises(ConnectionError, match="the server has no TLS, which sslmode asks for"):
        await connect(f"{theirs}?sslmode=require", timeout=5)
