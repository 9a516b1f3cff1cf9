"""Tables in a schema other than `public`: backed up from there, and restored into the schema that is used."""

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from invitree.kit.postgres.archives import rename_schema
from invitree.migrations import HEAD
from invitree.run import backups
from invitree.run.backups import BackupError, back_up
from tests.backup.conftest import at
from tests.conftest import New
from tests.databases import broken_on, execute, fill
from tests.process import run

_COUNTS = "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM referrals), (SELECT count(*) FROM events)"


def within(url: str, schema: str) -> str:
    """Return the URL of a database with a schema that is looked into first."""
    return f"{url}&search_path={quote(schema)}"


@pytest.fixture
def made(new_database: New) -> Callable[[str], Awaitable[str]]:
    """What makes a database without tables, with a schema that is used by whoever has the URL."""

    async def make(schema: str) -> str:
        url = await new_database()
        await execute(url, f"CREATE SCHEMA IF NOT EXISTS {schema}")
        return within(url, schema)

    return make


@pytest.fixture
async def elsewhere(made: Callable[[str], Awaitable[str]]) -> str:
    """The URL of a database with rows in every table of the schema `app`."""
    url = await made("app")
    done = run("migrate", env=at(url))
    assert (done.returncode, done.stderr) == (0, "")
    await fill(f"{url}&timezone=UTC", users=300, at=HEAD)
    return url


async def look(url: str, schema: str) -> tuple[object, ...]:
    """Return how many rows there are, and that nothing is broken or anywhere else."""
    db = await asyncpg.connect(url)
    [found] = await db.fetch(_COUNTS)
    assert await broken_on(db) == []
    others = "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ($1, 'pg_catalog', 'information_schema')"
    assert await db.fetchval(others, schema) == 0
    await db.close()
    return tuple(found)


@pytest.mark.parametrize("target", ["app", "public", '"two Words"'])
async def test_a_schema_is_backed_up_and_restored_into_the_one_that_is_used(
    elsewhere: str, made: Callable[[str], Awaitable[str]], target: str, tmp_path: Path
) -> None:
    before = await look(elsewhere, "app")
    assert before[0] == 300
    done = run("backup", str(tmp_path / "file"), env=at(elsewhere))
    assert (done.returncode, done.stderr) == (0, "")
    other = await made(target)
    for flags in ([], ["--force"]):
        done = run("restore", str(tmp_path / "file"), *flags, env=at(other))
        assert (done.returncode, done.stderr) == (0, "")
        assert await look(other, target.strip('"')) == before
    assert "there are rows in" in run("restore", str(tmp_path / "file"), env=at(other)).stderr


async def test_a_backup_of_public_is_restored_into_another_schema(
    backup: Path, made: Callable[[str], Awaitable[str]]
) -> None:
    url = await made("app")
    done = run("restore", str(backup), env=at(url))
    assert (done.returncode, done.stderr) == (0, "")
    assert (await look(url, "app"))[0] == 2000


async def test_a_schema_of_the_roles_name_is_found_without_being_named(new_database: New, tmp_path: Path) -> None:
    url = await new_database()
    await execute(url, "CREATE SCHEMA invitree")
    assert run("migrate", env=at(url)).returncode == 0
    await fill(url, users=100, at=HEAD)
    assert run("backup", str(tmp_path / "file"), env=at(url)).returncode == 0
    done = run("restore", str(tmp_path / "file"), "--force", env=at(url))
    assert (done.returncode, done.stderr) == (0, "")
    assert (await look(url, "invitree"))[0] == 100


async def test_a_search_path_without_a_schema_is_one_line(backup: Path, new_database: New) -> None:
    done = run("restore", str(backup), env=at(within(await new_database(), "nowhere")))
    assert done.returncode == 1
    assert "search_path names no schema that there is" in done.stderr


async def test_tables_that_are_not_together_are_not_backed_up_in_part(elsewhere: str, tmp_path: Path) -> None:
    await execute(elsewhere, "ALTER TABLE referrals SET SCHEMA public")
    done = run("backup", str(tmp_path / "file"), env=at(f"{elsewhere},public"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "the table referrals is not in the schema of the others, app" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("lost", ["--exclude-table-data=public.users", "--exclude-table=public.referrals"])
def test_a_backup_that_lacks_rows_is_not_called_one(
    filled: str, lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backups, "_DUMP", (*backups._DUMP, lost))
    table = re.sub(r".*\.", "", lost)
    with pytest.raises(BackupError, match=f"the backup is not whole: it has 0 of [0-9]+ rows of {table}"):
        back_up(filled, tmp_path / "file", force=False, advance=lambda *_: None)
    assert list(tmp_path.iterdir()) == []


def test_only_names_are_put_into_another_schema() -> None:
    script = (
        b"CREATE TABLE public.users (id bigint DEFAULT nextval('public.users_id_seq'::regclass));\n",
        b"COPY public.users (name) FROM stdin;\n",
        b"public.users\n",
        b"\\.\n",
        b'ALTER TABLE ONLY public.codes REFERENCES public.users(id), notpublic.x, "a".public.y;\n',
    )
    assert list(rename_schema(script, b"public", b'"a b"')) == [
        b'CREATE TABLE "a b".users (id bigint DEFAULT nextval(\'"a b".users_id_seq\'::regclass));\n',
        b'COPY "a b".users (name) FROM stdin;\n',
        b"public.users\n",
        b"\\.\n",
        b'ALTER TABLE ONLY "a b".codes REFERENCES "a b".users(id), notpublic.x, "a".public.y;\n',
    ]
