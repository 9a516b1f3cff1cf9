"""kit/limits/local_rate_limiter.py while the database is away, and however many different keys there are."""

import asyncio
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from invitree.kit.context import AppContext
from invitree.kit.data.db import OUTAGES, Database
from invitree.kit.limits import local_rate_limiter as tallies
from tests.throttles.processes import Process, ahead, is_about, new


class Line(Database):
    """A line to the database that a test can cut."""

    how = "good"

    @classmethod
    def of(cls, ctx: AppContext) -> "Line":
        """Return a line beside the process's own."""
        return cls(ctx.db._pool)

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Ask the database."""
        if self.how == "cut":
            raise ConnectionRefusedError
        rows = await super().fetch(query, *args)
        if self.how == "deaf":
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return rows


@pytest.fixture
def line(ctx: AppContext) -> Line:
    return Line.of(ctx)


@pytest.fixture
def process(ctx: AppContext, line: Line) -> Process:
    return Process(ctx, line)


async def fails(process: Process) -> None:
    """Add up in vain."""
    with pytest.raises(OUTAGES):
        await process.tally.sync()


async def test_what_is_counted_during_an_outage_is_told_once_afterwards(
    ctx: AppContext, process: Process, line: Line
) -> None:
    one = new("100/1h")
    process.passed(3, one)
    line.how = "cut"
    for _ in range(3):
        process.passed(4, one)
        await fails(process)
    line.how = "good"
    for _ in range(3):
        await process.tally.sync()
    assert is_about(await ahead(ctx, one), 15)


async def test_a_limit_is_exact_during_an_outage(process: Process, line: Line) -> None:
    one, line.how = new("6/1m"), "cut"
    assert process.passed(4, one) == 4
    await fails(process)
    assert process.passed(9, one) == 2
    await fails(process)
    process.watch.seconds += 10
    assert process.passed(9, one) == 1


async def test_what_has_run_out_during_an_outage_is_held_against_nobody(
    ctx: AppContext, process: Process, line: Line
) -> None:
    """However long it was, and however often somebody came."""
    one, line.how = new("6/1m"), "cut"
    for _ in range(100):
        process.passed(9, one)
        await fails(process)
        process.watch.seconds += 10
    line.how = "good"
    await process.tally.sync()
    assert is_about(await ahead(ctx, one), 5)
    assert process.passed(9, one) == 1
    assert process.retry_after_s(one) == 10


async def test_a_lost_answer_makes_a_limit_narrower_for_a_while_and_never_wider(
    ctx: AppContext, process: Process, line: Line
) -> None:
    one = new("100/1h")
    process.passed(10, one)
    line.how = "deaf"
    await fails(process)
    line.how = "good"
    await process.tally.sync()
    assert is_about(await ahead(ctx, one), 20), "it cannot be known that the database had counted"
    assert process.passed(1000, one) == 80
    process.watch.seconds += 3600
    assert process.passed(1, one) == 1


async def test_a_statement_that_is_cut_off_tells_nothing(ctx: AppContext, process: Process) -> None:
    one = new("100/1h")
    process.passed(10, one)
    going = asyncio.create_task(process.tally.sync())
    await asyncio.sleep(0)
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    await process.tally.sync()
    assert await ahead(ctx, one) > 9.5


@pytest.mark.parametrize("how", ["good", "cut"])
async def test_however_many_keys_there_are_only_those_that_count_are_kept(
    process: Process, line: Line, how: str
) -> None:
    line.how = how
    for round_number in range(5):
        for number in range(500):
            process.passes(new("5/1m", f"round {round_number} {number % 2}"))
        if how == "good":
            await process.tally.sync()
        else:
            await fails(process)
        assert len(process.tally._counts) == 500
        process.watch.seconds += 12
    if how == "good":
        await process.tally.sync()
    else:
        await process.tally.sync()  # nothing is left to be told
    assert len(process.tally._counts) == 0


async def test_the_local_limiter_survives_errors_and_logs_them(
    ctx: AppContext, process: Process, line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "_SYNC_INTERVAL_S", 0.01)
    one, line.how = new("100/1h"), "cut"
    with capture_logs() as said:
        await process.tally.start()
        process.passed(5, one)
        async with asyncio.timeout(20):
            while not said:  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(0.01)
        monkeypatch.setattr(ctx.keys, "fingerprint", None)
        process.passed(1, new("100/1h"))
        line.how = "good"
        async with asyncio.timeout(20):
            while said[-1].get("reason") != "TypeError":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        monkeypatch.undo()
        await process.tally.stop()
    told = [(one["event"], one.get("reason", "over")) for one in said]
    assert told == [("tally.not_told", reason) for reason in ("ConnectionRefusedError", "TypeError", "over")]
    assert is_about(await ahead(ctx, one), 5)


async def test_a_process_that_stops_during_an_outage_stops(process: Process, line: Line) -> None:
    line.how = "cut"
    await process.tally.start()
    process.passed(5, new("100/1h"))
    await process.tally.stop()
