"""Web processes that are killed, and a service that is told to stop, under load."""

import asyncio
import signal
from pathlib import Path

import asyncpg

from tests.faults.conftest import FULL, Tell
from tests.faults.load import NO_ANSWER, code_of
from tests.faults.stage import Stage, cluster, stage
from tests.waiting import eventually

KILLS = 50 if FULL else 3
_WAITING = "SELECT FROM pg_stat_activity WHERE application_name = 'invitree' AND wait_event_type = 'Lock'"


async def test_no_write_is_lost_or_doubled_when_web_processes_are_killed(place: Path, tell: Tell) -> None:
    async with cluster(place) as database, stage(database, place, members=12) as on:
        async with on.load.going_on():
            for _ in range(KILLS):
                await _kill_one(on)
        unknown = on.load.journal.count("unknown")
        assert unknown, "or nothing was killed in the middle"
        await on.compare()
        tell(f"{KILLS} kills, {on.load.journal.count('done')} writes, {unknown} of them unanswered and asked again")


async def _kill_one(on: Stage) -> None:
    """Kill the web process that is oldest, and wait until another is there and much was done since."""
    before = on.web_processes()
    before[0].kill()

    async def is_replaced() -> bool:
        now = on.web_processes()
        return len(now) == len(before) and before[0] not in now

    await eventually(is_replaced)
    await on.load.goes_on()


async def test_what_was_begun_before_the_service_is_told_to_stop_is_answered(place: Path, tell: Tell) -> None:
    async with cluster(place) as database, stage(database, place) as on:
        blocked = await on.load.new_member()
        other = await asyncpg.connect(database.url)
        async with on.load.going_on():
            await on.load.goes_on()
            async with other.transaction():
                await other.execute("SELECT FROM users WHERE email = $1 FOR UPDATE", blocked.email)
                waiting = asyncio.create_task(on.load.act(code_of(blocked)))
                await eventually(lambda: other.fetch(_WAITING))
                on.service.process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.5)
            answer = await waiting
            assert await asyncio.to_thread(on.service.process.wait, 60) == 0
        await other.close()
        assert answer.status != NO_ANSWER
        await on.load.journal.compare(database.url, all_are_known=True)
        assert on.load.strange == [], on.load.strange[:3]
        tell(f"{on.load.count(201)} writes answered, {on.load.count(NO_ANSWER)} requests came too late")
