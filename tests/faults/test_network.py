"""A bad network between the service and its database, under load."""

import asyncio
import time
from pathlib import Path

from tests.faults.conftest import FULL, Tell
from tests.faults.load import NO_ANSWER, NOT_HEARD
from tests.faults.proxy import proxy
from tests.faults.stage import cluster, stage

RESETS = 50 if FULL else 8
HOLE_S = 30 if FULL else 0


async def test_a_slow_network_makes_nothing_fail(place: Path, tell: Tell) -> None:
    async with cluster(place) as database, proxy(database.url) as wire, stage(database, place, url=wire.url) as on:
        async with on.load.going_on():
            await on.load.goes_on()
            wire.delay_s = 0.02
            began = time.monotonic()
            await on.load.goes_on()
        longest = max(answer.took_s for answer in on.load.answers if answer.at > began)
        await on.compare()
        assert on.load.count(NO_ANSWER) == on.load.count(NOT_HEARD) == 0
        tell(f"20 ms each way, the slowest answer took {longest:.2f} s")


async def test_a_network_that_swallows_everything_is_a_503_and_then_good(place: Path, tell: Tell) -> None:
    async with (
        cluster(place) as database,
        proxy(database.url) as wire,
        stage(database, place, url=wire.url, forgives=True) as on,
    ):
        async with on.load.going_on():
            await on.load.goes_on()
            wire.is_open.clear()
            await on.refuses_and_lives()
            await asyncio.sleep(HOLE_S)
            wire.is_open.set()
            await on.load.goes_on()
        await on.compare()
        longest = max(answer.took_s for answer in on.load.answers)
        assert on.load.count(NO_ANSWER) == on.load.count(NOT_HEARD) == 0
        tell(f"{on.load.count(503)} refused, the slowest answer took {longest:.2f} s")
        assert longest < 6 or not FULL


async def test_connections_that_are_reset_are_a_503_at_worst(place: Path, tell: Tell) -> None:
    async with (
        cluster(place) as database,
        proxy(database.url) as wire,
        stage(database, place, url=wire.url, forgives=True) as on,
    ):
        async with on.load.going_on():
            for _ in range(RESETS):
                await on.load.goes_on(5)
                assert wire.reset() > 0
            await on.load.goes_on()
        await on.compare()
        assert on.load.count(NO_ANSWER) == on.load.count(NOT_HEARD) == 0
        tell(f"{RESETS} times all were reset: {on.load.count(503)} refused, {on.load.count(201)} done")
