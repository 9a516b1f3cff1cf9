"""A database that crashes, freezes or has no room, under load."""

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import httpx
import pytest

from tests.cast import PASSWORD
from tests.databases import execute
from tests.faults.conftest import FULL, Tell
from tests.faults.load import NO_ANSWER, NOT_HEARD, PATIENCE_S
from tests.faults.stage import cluster, stage
from tests.process import run, service
from tests.waiting import eventually

SIGN_UP = "/auth/users/"
CRASHES = 10 if FULL else 2
FROZEN_S = 30 if FULL else 0
FILLED_S = 20 if FULL else 0.5


async def test_a_database_that_is_restarted_at_once_is_a_503_at_worst(place: Path, tell: Tell) -> None:
    async with cluster(place) as database, stage(database, place, forgives=True) as on:
        delays_s = []
        async with on.load.going_on():
            for _ in range(CRASHES):
                await on.load.goes_on()
                await asyncio.to_thread(database.crash)
                await eventually(on.is_refused)
                await asyncio.to_thread(database.start)
                ready = time.monotonic()
                await on.load.goes_on()
                delays_s.append(max(0, *(one.at + one.took_s - ready for one in on.load.answers if one.status == 503)))
        await on.compare()
        assert on.load.count(NO_ANSWER) == on.load.count(NOT_HEARD) == 0
        tell(f"{CRASHES} crashes, {on.load.count(503)} refused, at most {max(delays_s):.2f} s after it was back")
        assert max(delays_s) < 2 or not FULL


async def test_a_frozen_database_is_a_503_and_then_good(place: Path, tell: Tell) -> None:
    async with cluster(place) as database, stage(database, place, forgives=True) as on:
        async with on.load.going_on():
            await on.load.goes_on()
            await asyncio.to_thread(database.freeze)
            try:
                await on.refuses_and_lives()
                await asyncio.sleep(FROZEN_S)
            finally:
                await asyncio.to_thread(database.thaw)
            await on.load.goes_on()
        await on.compare()
        longest = max(answer.took_s for answer in on.load.answers)
        assert on.load.count(NO_ANSWER) == on.load.count(NOT_HEARD) == 0
        tell(f"{on.load.count(503)} refused, the slowest answer took {longest:.2f} s")
        assert longest < 6 or not FULL


@pytest.fixture
def disk(place: Path) -> Iterator[Path]:
    """A small disk of its own with the PostgreSQL on it."""
    folder = place / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m,mode=755", "none", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("no file system may be mounted here")
    subprocess.run(["cp", "-a", place / "data", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_full_disk_refuses_writes_alone_and_all_is_well_when_there_is_room(
    place: Path, disk: Path, tell: Tell
) -> None:
    async with cluster(disk) as database, stage(database, place) as on:
        await database.ask("SELECT pg_switch_wal()", admin=True)  # so that there is log to go on with
        async with on.load.going_on():
            await on.load.goes_on()
            _fill(disk / "filler")
            await eventually(on.has_refused)
            await asyncio.sleep(FILLED_S)
            assert await on.is_serving()
            assert await on.status("/readyz") == 200
            (disk / "filler").unlink()
            await on.load.goes_on()
        await on.compare()
        assert on.load.count(NO_ANSWER) == on.load.count(NOT_HEARD) == 0
        tell(f"{on.load.count(503)} writes refused, {on.load.count(200)} reads answered")


async def test_a_full_disk_that_ends_the_database_is_over_when_there_is_room(disk: Path) -> None:
    """Where the log of PostgreSQL cannot grow it gives up; the service starts it again as soon as it can."""
    environment = {"INVITREE_THROTTLE": "off"}
    with service("--data-dir", str(disk / "data"), "--workers", "1", "--no-worker", env=environment) as running:
        url = run("db", "url", "--data-dir", str(disk / "data")).stdout.strip()
        async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as client:
            assert (await client.post(SIGN_UP, json=_person("anna"))).status_code == 201
            _fill(disk / "filler")
            with suppress(asyncpg.PostgresError, OSError):
                while True:
                    await execute(url, "SELECT pg_logical_emit_message(true, 'full', ''), pg_switch_wal()", admin=True)
            await eventually(lambda: _is(client, 503))
            assert (await client.get("/healthz")).status_code == 200
            (disk / "filler").unlink()
            await eventually(lambda: _is(client, 200))
            assert (await client.post(SIGN_UP, json=_person("anna"))).status_code == 400, "she is there"
            assert (await client.post(SIGN_UP, json=_person("bert"))).status_code == 201
    assert run("verify", "--data-dir", str(disk / "data")).returncode == 0


def _fill(path: Path) -> None:
    """Write until there is room for nothing more."""
    with path.open("wb", buffering=0) as filler:
        for size in (2**20, 2**9):
            with suppress(OSError):
                while True:
                    filler.write(bytes(size))


async def _is(client: httpx.AsyncClient, ready: int) -> bool:
    return (await client.get("/readyz")).status_code == ready


def _person(name: str) -> dict[str, str]:
    return {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
