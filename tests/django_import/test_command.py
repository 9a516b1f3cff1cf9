"""`invitree import seed` as its users run it."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from tests.conftest import SECRET
from tests.databases import broken_on
from tests.django_import.django import Django, key_of
from tests.process import INVITREE, run


@pytest.fixture
def environment(database_url: str) -> Mapping[str, str]:
    """What tells the command where the database is, and the service's secret."""
    return {"INVITREE_DATABASE_URL": database_url, "INVITREE_SECRET_KEY": SECRET}


@pytest.fixture
async def slug(database_url: str) -> str:
    """The name of a new program."""
    slug = f"p{uuid4().hex}"
    connection = await asyncpg.connect(database_url)
    await connection.execute("INSERT INTO programs (slug) VALUES ($1)", slug)
    await connection.close()
    return slug


def fill(django: Django, count: int) -> None:
    """Write a chain of users with codes and tokens into a file, and some who cannot come."""
    django.db.execute("BEGIN")
    for number in range(count):
        old_id = django.user(f"user{number}")
        django.code(old_id, f"CODE{number:08}X", "2030-01-01")
        django.token(old_id, key_of(number))
        if old_id > 1:
            django.referral(old_id - 1, old_id)
    for number in range(25):
        django.user(f"bad{number}", email="\x1b[31mred")
    django.db.execute("COMMIT")


def table(output: str) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the summary: imported, before, refused."""
    lines = re.findall(r"^\W+(\w+)s +\W +([\d,]+) +\W +([\d,]+) +\W +([\d,]+) ", output, flags=re.MULTILINE)
    return {name: tuple(int(number.replace(",", "")) for number in numbers) for name, *numbers in lines}


def test_an_import_sums_up_and_repeats(
    django: Django, environment: Mapping[str, str], slug: str, tmp_path: Path
) -> None:
    fill(django, 30)
    command = ["import", "seed", str(django.path), "--program", slug, "--report"]
    reports = [tmp_path / f"report{number}.jsonl" for number in range(3)]
    dry, real, again = [
        run(*command, str(reports[0]), "--dry-run", env=environment),
        run(*command, str(reports[1]), env=environment),
        run(*command, str(reports[2]), env=environment),
    ]
    assert [done.returncode for done in (dry, real, again)] == [0, 0, 0], (dry.stderr, real.stderr, again.stderr)
    assert dry.stdout == "Dry run: nothing was written. A real one would do this:\n" + real.stdout
    assert again.stdout.startswith("Nothing to do")
    thirty = dict.fromkeys(["password", "code", "token"], (30, 0, 0))
    assert table(real.stdout) == {**thirty, "user": (30, 0, 25), "referral": (29, 0, 0)}
    assert table(again.stdout) == {
        **dict.fromkeys(["password", "code", "token"], (0, 30, 0)),
        "user": (0, 30, 25),
        "referral": (0, 29, 0),
    }
    assert "25 users: the e-mail address is missing or malformed\n  31  \ufffd[31mred\n" in real.stdout
    assert real.stdout.count("[31mred") == 20
    assert "and 5 more; --report" in real.stdout
    assert "\x1b" not in real.stdout + real.stderr
    first, *others = [path.read_bytes() for path in reports]
    assert others == [first, first]
    lines = [json.loads(line) for line in first.splitlines()]
    assert len(lines) == 25
    reason = "the e-mail address is missing or malformed"
    assert lines[0] == {"kind": "user", "old_id": 31, "reason": reason, "detail": "\x1b[31mred"}


def one_line(*args: str, env: Mapping[str, str]) -> str:
    """Return the single line that the command refuses with."""
    done = run("import", "seed", *args, env=env)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert re.fullmatch(r"invitree: [^\n]+\n", done.stderr), done.stderr
    return done.stderr


def test_unusable_import_files_get_one_line(django: Django, environment: Mapping[str, str], tmp_path: Path) -> None:
    file = str(django.path)
    (tmp_path / "text").write_text("no database " * 999)
    assert "there is no file" in one_line(str(tmp_path / "nothing"), env=environment)
    assert "file is not a database" in one_line(str(tmp_path / "text"), env=environment)
    assert "there is no program 'nowhere'" in one_line(file, "--program", "nowhere", env=environment)
    assert "cannot be written" in one_line(file, "--report", str(tmp_path / "no" / "report"), env=environment)
    django.db.execute("BEGIN EXCLUSIVE")
    assert "database is locked" in one_line(file, env=environment)
    django.db.execute("ROLLBACK")
    django.db.execute("DROP TABLE stakewolle_referralrelationship")
    assert "no table stakewolle_referralrelationship" in one_line(file, env=environment)


@pytest.fixture
def running(django: Django, environment: Mapping[str, str], slug: str) -> Iterator[subprocess.Popen[str]]:
    """An import of many users, under way."""
    fill(django, 20_000)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INVITREE_")}
    started = subprocess.Popen(
        [INVITREE, "import", "seed", str(django.path), "--program", slug],
        env={**clean, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield started
    started.kill()
    started.communicate()


async def test_an_import_that_was_killed_is_completed_by_the_next(
    running: subprocess.Popen[str], django: Django, environment: Mapping[str, str], database_url: str, slug: str
) -> None:
    connection = await asyncpg.connect(database_url)
    program_id = await connection.fetchval("SELECT id FROM programs WHERE slug = $1", slug)
    count = "SELECT count(*) FROM {} WHERE program_id = $1"
    deadline = time.monotonic() + 60
    while await connection.fetchval(count.format("users"), program_id) < 2000:
        assert time.monotonic() < deadline
        assert running.poll() is None
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    tables = ("users", "codes", "sessions", "imported_users", "audit", "referrals")
    cut = {name: await connection.fetchval(count.format(name), program_id) for name in tables}
    users = cut["users"]
    assert 2000 <= users < 20_000
    assert cut == {**dict.fromkeys(tables, users), "referrals": users - 1}
    done = run("import", "seed", str(django.path), "--program", slug, env=environment)
    assert done.returncode == 0, done.stderr
    rest = (20_000 - users, users, 0)
    assert table(done.stdout) == {
        **dict.fromkeys(["password", "code", "token"], rest),
        "user": (*rest[:2], 25),
        "referral": (20_000 - users, users - 1, 0),
    }
    whole = {name: await connection.fetchval(count.format(name), program_id) for name in tables}
    assert whole == {**dict.fromkeys(tables, 20_000), "referrals": 19_999}
    assert await broken_on(connection) == []
    await connection.close()
