"""Clients who hang up, who are slow, and who say nothing."""

import asyncio
import random
from pathlib import Path

from tests.faults.conftest import FULL, Tell
from tests.faults.crowd import as_bytes, many_files, silent_clients, slow_clients
from tests.faults.load import NO_ANSWER, NOT_HEARD, Load, code_of
from tests.faults.stage import cluster, stage

LEAVING = 1_000 if FULL else 200
SLOW, EVERY_S = (500, 1.0) if FULL else (200, 0.1)
SECONDS = 20 if FULL else 1
CONNECTED = 1_200  # more than web servers let in as they come


async def test_clients_who_hang_up_leave_no_connection_behind(place: Path, tell: Tell) -> None:
    """With one connection to the database, whatever is not given back is missed."""
    dice = random.Random(1)
    async with cluster(place) as database, stage(database, place, workers=1, pool_size="1") as on:
        for _ in range(LEAVING // 50):
            await asyncio.gather(*(_hang_up(on.load, dice) for _ in range(50)))
        await database.becomes_idle()
        await on.compare()
        assert await on.is_serving()
        assert "idle-in-transaction timeout" not in database.log()
        tell(f"{LEAVING} clients hung up, {on.load.journal.count('done')} writes once asked again")
    assert "request.failed" not in on.service.output


async def _hang_up(load: Load, dice: random.Random) -> None:
    """Send a write, or a part of it, and leave before the answer."""
    async with load.abandoned(code_of(dice.choice(load.members))) as (write, headers):
        request = as_bytes("POST", write.path, headers, write.body)
        _, writer = await asyncio.open_connection("127.0.0.1", load.client.base_url.port)
        writer.write(request[: dice.choice([len(request), dice.randrange(len(request))])])
        await asyncio.sleep(dice.random() * 0.05)
        writer.transport.abort()


async def test_slow_clients_do_not_keep_others_waiting(place: Path, tell: Tell) -> None:
    async with cluster(place) as database, stage(database, place, workers=1) as on:
        sign_up = on.load.account()
        request = as_bytes("POST", sign_up.path, {}, sign_up.body)
        with many_files():
            async with slow_clients(on.service.url, request, count=SLOW, every_s=EVERY_S), on.load.going_on():
                await asyncio.sleep(SECONDS)
                await on.load.goes_on()
        await on.compare()
        assert on.load.count(NO_ANSWER) == on.load.count(NOT_HEARD) == on.load.count(503) == 0
        longest = max(answer.took_s for answer in on.load.answers)
        tell(f"{SLOW} slow clients, {len(on.load.answers)} answers to others, none after more than {longest:.2f} s")


async def test_clients_who_say_nothing_keep_nobody_out(place: Path) -> None:
    async with cluster(place) as database, stage(database, place, workers=1) as on:
        with many_files():
            async with silent_clients(on.service.url, count=CONNECTED), on.load.going_on():
                assert await on.status("/healthz") == 200
                await on.load.goes_on()
        assert on.load.count(NO_ANSWER) == on.load.count(NOT_HEARD) == on.load.count(503) == 0
