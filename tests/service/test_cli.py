"""The commands, and that every mistake is one clear line."""

import errno
import json
import os
import re
import socket
from pathlib import Path

import asyncpg
import pytest

from invitree.cli import cause_of
from invitree.migrations import HEAD
from tests.conftest import as_admin
from tests.process import run

GOOD = "correct horse battery staple\n"


def one_line(*args: str, stdin: str = "", env: dict[str, str] | None = None) -> str:
    """Return the single line that a command refuses with."""
    done = run(*args, stdin=stdin, env=env)
    assert done.returncode in (1, 2), (done.stdout, done.stderr)
    assert done.stdout == ""
    assert re.fullmatch(r"invitree: [^\n]+\n", done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port} on 127.0.0.1 is taken" in one_line("serve", "--port", port, "--data-dir", str(tmp_path))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["serve", "--prot", "1"], "--prot"),
        (["serve", "--port", "many"], "port"),
        (["serve", "--port", "70000"], "INVITREE_PORT must be between 1 and 65535"),
        (["serve", "--workers", "0"], "INVITREE_WORKERS"),
        (["serve", "--host", "999.1.1.1"], "999.1.1.1"),
        (["dance"], "dance"),
        (["user", "create", "--email", "a@example.com"], "username"),
        (["program", "set"], "nothing to set"),
    ],
)
def test_a_wrong_flag_is_one_line(args: list[str], expected: str, tmp_path: Path) -> None:
    assert expected in one_line(*args, env={"INVITREE_DATA_DIR": str(tmp_path / "data")})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("INVITREE_PORT", "http", "INVITREE_PORT"),
        ("INVITREE_ACCESS_LOG", "maybe", "INVITREE_ACCESS_LOG"),
        ("INVITREE_SECRET_KEY", "short", "INVITREE_SECRET_KEY must have 32 characters"),
        ("INVITREE_SECRET_KEY_FILE", "/nowhere/at/all", "INVITREE_SECRET_KEY_FILE"),
        ("INVITREE_LOG_FORMAT", "xml", "INVITREE_LOG_FORMAT"),
        ("INVITREE_DATABASE_URL", "postgresql://u:secret@127.0.0.1:1/x", "cannot be reached"),
        ("INVITREE_DATABASE_URL", "mysql://127.0.0.1/x", "it must be postgresql://user:password@host:5432/database"),
    ],
)
def test_a_wrong_setting_is_one_line(name: str, value: str, expected: str, tmp_path: Path) -> None:
    line = one_line("serve", env={name: value, "INVITREE_DATA_DIR": str(tmp_path / "data")})
    assert expected in line
    assert "secret@" not in line


async def test_a_role_that_may_not_make_tables_is_one_line(postgres: str) -> None:
    admin = await asyncpg.connect(as_admin(postgres))
    await admin.execute("CREATE DATABASE closed OWNER postgres")
    line = one_line("migrate", env={"INVITREE_DATABASE_URL": postgres.replace("/invitree?", "/closed?")})
    await admin.execute("DROP DATABASE closed")
    await admin.close()
    assert 'GRANT CREATE ON SCHEMA public TO "invitree"' in line


def test_a_secret_that_is_none_is_one_line(tmp_path: Path, database_url: str) -> None:
    for content in (b"", b"short", b"\xff" * 40):
        (tmp_path / "secret_key").write_bytes(content)
        line = one_line("serve", "--data-dir", str(tmp_path), env={"INVITREE_DATABASE_URL": database_url})
        assert "holds no secret" in line


def test_a_data_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "data folder" in one_line("serve", "--data-dir", str(tmp_path / "file"))


async def test_a_newer_schema_is_one_line_and_left_alone(postgres: str, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for command in ("migrate", "serve", "verify"):
        assert "newer Invitree" in one_line(command, env={"INVITREE_DATABASE_URL": database_url})
    assert await connection.fetchval("SELECT version_num FROM alembic_version") == "9999"
    await connection.execute("UPDATE alembic_version SET version_num = $1", HEAD)
    await connection.close()


async def test_migrate_makes_an_empty_database_ready_and_repeats(postgres: str) -> None:
    admin = await asyncpg.connect(as_admin(postgres))
    await admin.execute("CREATE DATABASE empty OWNER invitree")
    environment = {"INVITREE_DATABASE_URL": postgres.replace("/invitree?", "/empty?")}
    assert "current schema" in run("migrate", env=environment).stdout
    assert "Nothing to do" in run("migrate", env=environment).stdout
    await admin.execute("DROP DATABASE empty")
    await admin.close()


@pytest.mark.parametrize(
    ("email", "username", "password", "expected"),
    [
        ("not an address", "someone", GOOD, "email: Enter a valid email address\n"),
        ("x@example.com", "some one", GOOD, "username: Enter a valid username."),
        ("x@example.com", "someone", "password\n", "too common"),
        ("x@example.com", "someone", "", "too short"),
    ],
)
def test_a_user_that_cannot_be_is_one_line(
    email: str, username: str, password: str, expected: str, database_url: str
) -> None:
    args = ["user", "create", "--email", email, "--username", username]
    assert expected in one_line(*args, stdin=password, env={"INVITREE_DATABASE_URL": database_url})


async def test_user_create_makes_staff_once(database_url: str) -> None:
    args = ["user", "create", "--email", "root@example.com", "--username", "root", "--staff"]
    environment = {"INVITREE_DATABASE_URL": database_url}
    assert re.fullmatch(r"User \d+ was made\.\n", run(*args, stdin=GOOD, env=environment).stdout)
    assert "already exists" in one_line(*args, stdin=GOOD, env=environment)
    assert "no program 'nowhere'" in one_line(*args, "--program", "nowhere", stdin=GOOD, env=environment)
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT is_staff, password_hash FROM users WHERE email = 'root@example.com'")
    await connection.close()
    assert [row["is_staff"] for row in rows] == [True]
    assert rows[0]["password_hash"].startswith("$argon2id$v=19$m=19456,t=2,p=1$")


def test_program_set_changes_what_is_named(database_url: str) -> None:
    environment = {"INVITREE_DATABASE_URL": database_url}
    before = json.loads(run("program", "show", env=environment).stdout)
    after = json.loads(run("program", "set", "--time-zone", "Europe/Riga", env=environment).stdout)
    assert after == {**before, "time_zone": "Europe/Riga"}
    origins = "HTTPS://App.example.com, http://localhost:3000"
    after = json.loads(run("program", "set", "--origins", origins, env=environment).stdout)
    assert after["origins"] == ["https://app.example.com", "http://localhost:3000"]
    assert json.loads(run("program", "show", env=environment).stdout) == after
    for flag, value, expected in (
        ("--time-zone", "Mars/Olympus", "time zone"),
        ("--code-length", "7", "code length"),
        ("--longest-code-life-days", "0", "longest code life"),
        ("--referral-list", "open", "referral list"),
        ("--origins", "https://app.example.com/", "write https://app.example.com"),
    ):
        assert expected in one_line("program", "set", flag, value, env=environment)
    assert json.loads(run("program", "show", env=environment).stdout) == after


async def test_verify_finds_what_is_broken(database_url: str) -> None:
    environment = {"INVITREE_DATABASE_URL": database_url}
    clean = run("verify", env=environment)
    assert clean.returncode == 0
    assert "BROKEN" not in clean.stdout
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE users DROP CONSTRAINT users_program")
    await connection.execute(
        "INSERT INTO users (program_id, email, email_key, email_identity, username, password_hash) "
        "VALUES (77, 'x', 'x', 'x', 'x', 'x')"
    )
    broken = run("verify", env=environment)
    await connection.execute("DELETE FROM users WHERE program_id = 77")
    await connection.close()
    assert broken.returncode == 1
    assert "BROKEN  I9" in broken.stdout
    assert "program_id=77" in broken.stdout


def test_openapi_prints_the_document_without_a_database() -> None:
    document = json.loads(run("openapi", env={"PATH": os.environ["PATH"]}).stdout)
    assert document["openapi"].startswith("3.1")
    assert len(document["paths"]) > 10


def test_db_url_lets_psql_look(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    done = run("db", "url", "--data-dir", data)
    assert done.stdout.startswith("postgresql://invitree@/invitree?host=")
    assert not Path(data, "postgres", "postmaster.pid").exists()


def test_help_says_what_everything_is_for() -> None:
    for args in ([], ["serve"], ["user", "create"], ["program", "set"], ["backup"], ["restore"], ["verify"]):
        done = run(*args, "--help")
        assert done.returncode == 0
        assert "Usage: invitree" in done.stdout


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/secret_key"),
            "/data/secret_key: No space left on device",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files"),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
            "No usable temporary directory found in ['/tmp']",
        ),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "the database refused: [Errno 111] refused"),
        (TimeoutError(), "the database refused: TimeoutError"),
        (asyncpg.DiskFullError("could not extend file\nHINT: no"), "the database refused: could not extend file"),
    ],
)
def test_an_error_names_its_own_cause(error: Exception, said: str) -> None:
    assert cause_of(error) == said
