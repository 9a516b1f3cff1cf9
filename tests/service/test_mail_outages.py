"""A database that is cut off and workers that are killed: no letter is lost, and none sent twice without need."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from msgspec import structs

from invitree.base.settings import Settings
from tests.conftest import as_admin
from tests.service.mailing import ask, in_status, make_stale, statuses, working
from tests.service.postoffice import PostOffice
from tests.waiting import eventually


async def test_connections_that_are_cut_cost_no_letter_and_send_none_twice(
    db: Any, office: PostOffice, mailing: Settings
) -> None:
    office.hold.clear()
    async with office.is_open(), working(mailing):
        await ask(db)
        await eventually(lambda: len(office.asked) == 1)
        assert await _cut_off(db) > 0
        office.hold.set()
        await eventually(in_status(db))
        await ask(db, to="boris@example.com")
        await eventually(in_status(db))
    assert [letter["To"] for letter in office.letters] == ["anna@example.com", "boris@example.com"]


async def _cut_off(db: Any) -> int:
    """End every connection to the database but this; return how many."""
    query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> $1"
    return len(await db.fetch(query, db.get_server_pid()))


@asynccontextmanager
async def outage(db: Any, database_url: str) -> AsyncIterator[None]:
    """Let nobody into the database for the length of a block; who is in is cut off, but for `db`."""
    await _let_in(database_url, False)
    try:
        await _cut_off(db)
        yield
    finally:
        await _let_in(database_url, True)


async def _let_in(database_url: str, allowed: bool) -> None:
    name = urlsplit(database_url).path
    admin = await asyncpg.connect(as_admin(database_url.replace(name, "/invitree")))
    await admin.execute(f"ALTER DATABASE {name[1:]} ALLOW_CONNECTIONS {allowed}")
    await admin.close()


async def test_a_letter_taken_during_an_outage_of_the_database_is_not_sent_again(
    db: Any, office: PostOffice, mailing: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    office.hold.clear()
    said: list[str] = []
    async with office.is_open(), working(mailing):
        await ask(db)
        await eventually(lambda: len(office.asked) == 1)
        async with outage(db, mailing.database_url):
            office.hold.set()
            # PgQueuer has done with it, could not say so, and has forgotten.
            await eventually(lambda: "queue.lost" in _heard(capsys, said))
            assert await statuses(db) == ["picked"]
        await make_stale(db)
        await eventually(in_status(db))
    assert len(office.letters) == len(office.asked) == 1


async def test_a_letter_is_not_given_up_because_the_database_cannot_be_told_to_put_it_off(
    db: Any, database_url: str, office: PostOffice, mailing: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    office.hold.clear()
    office.word = "451 later"
    said: list[str] = []
    other = await asyncpg.connect(database_url)
    async with office.is_open(), working(mailing):
        number = await ask(db)
        await eventually(lambda: len(office.asked) == 1)
        async with other.transaction():
            await other.execute("SELECT FROM pgqueuer WHERE id = $1 FOR UPDATE", number)
            office.hold.set()
            await eventually(lambda: "job.left" in _heard(capsys, said))
        office.word = "250 OK"
        await make_stale(db)
        await eventually(in_status(db))
    await other.close()
    assert len(office.letters) == 1


async def test_a_worker_that_is_started_during_an_outage_waits_for_its_end(
    db: Any, office: PostOffice, mailing: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    await ask(db)
    async with office.is_open(), outage(db, mailing.database_url), working(mailing):
        await eventually(lambda: "queue.lost" in _heard(capsys, said))
        await _let_in(mailing.database_url, True)
        await eventually(in_status(db))
    assert len(office.letters) == 1


def _heard(capsys: pytest.CaptureFixture[str], said: list[str]) -> str:
    captured = capsys.readouterr()
    said += [captured.out, captured.err]
    return "".join(said)


SCRIPT = """
import asyncio, os, signal
from invitree.base.settings import read_settings
from invitree.kit.process.log import configure_logging
from invitree.run.worker import run
from tests.service.mailing import JOBS, SOON

async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await run(read_settings(os.environ), JOBS, stop=stop, periodic=[], delays_s=SOON)

configure_logging("json")
asyncio.run(main())
"""


def _start_process(mailing: Settings) -> subprocess.Popen[bytes]:
    chosen = {f"INVITREE_{name.upper()}": str(value) for name, value in structs.asdict(mailing).items()}
    environment = {**os.environ, **chosen}
    return subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, cwd=Path(__file__).parents[2])


async def test_a_worker_that_is_killed_costs_no_letter(db: Any, office: PostOffice, mailing: Settings) -> None:
    async with office.is_open():
        first = _start_process(mailing)
        try:
            await ask(db)
            await eventually(in_status(db))
            first.kill()  # while idle
            first.wait(10)
            await ask(db, to="boris@example.com")
            second = _start_process(mailing)
            await eventually(in_status(db))
            office.hold.clear()
            await ask(db, to="vera@example.com")
            await eventually(lambda: "vera@example.com" in office.asked)
            second.kill()  # in the middle of a letter
            second.wait(10)
            office.letters.clear()
            office.hold.set()
            assert await statuses(db) == ["picked"]
            await make_stale(db)
            third = _start_process(mailing)
            await eventually(in_status(db))
            third.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(third.wait, 20) == 0
        finally:
            for process in (first, second, third):
                process.kill()
                process.wait(10)
    assert "vera@example.com" in [letter["To"] for letter in office.letters]
    assert office.asked.count("anna@example.com") == office.asked.count("boris@example.com") == 1
