"""kit/limits/local_rate_limiter.py: limits that are counted in memory, and added up in the database."""

import asyncio
from typing import Any

import pytest

from invitree.kit.context import AppContext
from invitree.kit.limits.local_rate_limiter import LocalRateLimiter
from invitree.kit.limits.rate_limiter import limit
from tests.throttles.processes import Process, ahead, held, is_about, new, waits_for_a_lock


@pytest.fixture
def process(ctx: AppContext) -> Process:
    return Process(ctx)


@pytest.fixture
def other(ctx: AppContext) -> Process:
    """Another process on the same database."""
    return Process(ctx)


class TestWithinAProcess:
    """A limit is exact."""

    @pytest.mark.parametrize("rate", ["1/1s", "7/1m", "3/7s", "600/1m", "49/1h", "999/1s", "100000/1h"])
    def test_a_limit_lets_its_number_through_at_once(self, process: Process, rate: str) -> None:
        one = new(rate)
        assert process.passed(one.rate.times + 50, one) == one.rate.times

    @pytest.mark.parametrize("rate", ["7/1m", "3/7s", "49/1h"])
    def test_a_limit_lets_one_more_through_each_step(self, process: Process, rate: str) -> None:
        one = new(rate)
        process.passed(one.rate.times, one)
        for _ in range(200):
            process.watch.seconds += one.step_s * 0.9
            assert not process.passes(one)
            process.watch.seconds += one.step_s * 0.1
            assert process.passed(3, one) == 1

    def test_after_a_period_all_pass_again(self, process: Process) -> None:
        one = new("5/1m")
        assert process.passed(9, one) == 5
        process.watch.seconds += 60
        assert process.passed(9, one) == 5

    def test_what_one_limit_refuses_the_others_do_not_count(self, process: Process) -> None:
        narrow, wide = new("2/1h"), new("9/1h", "wide")
        assert process.passed(50, wide, narrow) == 2
        assert process.passed(50, wide) == 7
        assert process.passed(50, new("50/1h", "first"), wide) == 0

    def test_refused_requests_are_not_counted(self, process: Process) -> None:
        one = new("2/1h")
        process.passed(1000, one)
        process.watch.seconds += 1800
        assert process.passed(1000, one) == 1

    @pytest.mark.parametrize(("waited_s", "told_s"), [(0, 1800), (0.5, 1800), (10, 1790), (1799, 1), (1799.9, 1)])
    def test_who_is_refused_is_told_when_to_come_again(self, process: Process, waited_s: float, told_s: int) -> None:
        one = new("2/1h")
        process.passed(2, one)
        process.watch.seconds += waited_s
        assert process.retry_after_s(one) == told_s
        process.watch.seconds += told_s
        assert process.passes(one)

    def test_everybody_is_told_what_is_left(self, process: Process) -> None:
        one = new("3/1m")
        assert [process.left(one) for _ in range(3)] == ['"test";r=2;t=20', '"test";r=1;t=40', '"test";r=0;t=60']
        process.watch.seconds += 20
        assert process.left(one) == '"test";r=0;t=60'

    def test_programs_are_apart(self, process: Process) -> None:
        one = new("1/1h")
        assert [process.passes(one, program_id=number) for number in (1, 2, 1, 2)] == [True, True, False, False]

    def test_nothing_is_counted_where_limits_are_off(self, ctx: AppContext) -> None:
        scope: dict[str, Any] = {}
        for _ in range(5):
            LocalRateLimiter(ctx.db, ctx.keys, on=False).count(scope, 1, new("1/1h"))
        assert scope == {}


class TestAddingUp:
    """Processes learn of each other."""

    async def test_two_processes_together_come_to_the_limit(self, process: Process, other: Process) -> None:
        one = new("5/1h")
        assert process.passed(3, one) == 3
        await process.tally.sync()
        assert other.passed(1, one) == 1, "it knows of one"
        await other.tally.sync()
        assert other.passed(9, one) == 1
        await other.tally.sync()
        assert process.passed(1, one) == 1, "it has not heard of the other yet"
        await process.tally.sync()
        assert process.passed(1, one) == other.passed(1, one) == 0

    async def test_what_both_let_through_too_many_is_made_up_for(self, process: Process, other: Process) -> None:
        one = new("4/1h")
        assert process.passed(9, one) == other.passed(9, one) == 4
        for each in (process, other, process, other):
            await each.tally.sync()
        other.watch.seconds += 3601
        assert other.passed(9, one) == 0
        assert other.retry_after_s(one) == 900 - 1
        other.watch.seconds += 3600
        assert other.passed(9, one) == 4

    async def test_a_use_is_told_once(self, ctx: AppContext, process: Process) -> None:
        one = new("100/1h")
        process.passed(10, one)
        await process.tally.sync()
        for _ in range(3):
            await process.tally.sync()
        assert is_about(await ahead(ctx, one), 10)
        process.passed(5, one)
        await process.tally.sync()
        assert is_about(await ahead(ctx, one), 15)

    async def test_who_adds_up_twice_at_once_tells_once(self, ctx: AppContext, process: Process) -> None:
        one = new("100/1h")
        process.passed(10, one)
        await asyncio.gather(*(process.tally.sync() for _ in range(5)))
        assert is_about(await ahead(ctx, one), 10)

    async def test_more_than_one_statement_holds_is_told(self, ctx: AppContext, process: Process) -> None:
        limits = [new("100/1h", "many") for _ in range(1203)]
        for one in limits:
            process.passes(one)
        await process.tally.sync()
        assert await ctx.db.fetchval("SELECT count(*) FROM throttles WHERE scope = 'many'") == 1203

    async def test_what_is_told_stays_what_it_was(self, process: Process) -> None:
        one = new("10/1m")
        assert process.passed(4, one) == 4
        before = process.left(one)
        for _ in range(5):
            await process.tally.sync()
        assert process.left(one) == before.replace("r=5;t=30", "r=4;t=36")

    async def test_the_database_keeps_a_fingerprint_and_no_key(self, ctx: AppContext, process: Process) -> None:
        process.passes(limit("secret", "5/1h", "alice@example.com"))
        await process.tally.sync()
        row = await ctx.db.fetchrow("SELECT t::text AS text, key FROM throttles t WHERE scope = 'secret'")
        assert row["key"] == ctx.keys.fingerprint("alice@example.com")
        assert "alice" not in row["text"]
        assert b"alice" not in row["key"]

    async def test_programs_are_apart_in_the_database(self, ctx: AppContext, process: Process) -> None:
        one = new("100/1h")
        for program_id in (1, 1, 2):
            process.passes(one, program_id=program_id)
        await process.tally.sync()
        assert is_about(await ahead(ctx, one), 2)
        assert is_about(await ahead(ctx, one, program_id=2), 1)

    async def test_the_local_limiter_syncs_by_itself_and_when_it_stops(self, ctx: AppContext, process: Process) -> None:
        one, last = new("100/1h"), new("100/1h")
        await process.tally.start()
        process.passed(3, one)
        async with asyncio.timeout(20):
            while not is_about(await ahead(ctx, one), 3):  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(0.02)
        process.passed(2, last)
        await process.tally.stop()
        assert is_about(await ahead(ctx, one), 3)
        assert is_about(await ahead(ctx, last), 2)

    async def test_the_processs_clock_need_not_be_the_databases(self, process: Process, other: Process) -> None:
        """Of which nothing but spans is learned: a database that is replaced by another may be hours away."""
        one = new("4/1h")
        process.watch.seconds, other.watch.seconds = 5e9, 3.0
        for each in (process, other):
            assert each.passed(2, one) == 2
            await each.tally.sync()
        await process.tally.sync()
        assert other.passed(9, one) == 0
        assert other.retry_after_s(one) in (899, 900)


class TestWhileTheDatabaseIsAsked:
    """Requests go on being counted."""

    async def test_what_is_counted_meanwhile_is_neither_lost_nor_told_twice(
        self, ctx: AppContext, process: Process, database_url: str
    ) -> None:
        one, another = new("100/1h"), new("100/1h")
        process.passed(5, one)
        await process.tally.sync()
        async with held(database_url, ctx, one):
            process.passed(10, one)
            adding = asyncio.create_task(process.tally.sync())
            await waits_for_a_lock(ctx)
            assert process.passed(20, one) == 20
            assert process.passed(7, another) == 7
        await adding
        assert is_about(await ahead(ctx, one), 15)
        assert process.left(one).startswith('"test";r=64;'), "what it has not told is counted on top"
        await process.tally.sync()
        assert is_about(await ahead(ctx, one), 36)
        assert is_about(await ahead(ctx, another), 7)

    async def test_what_runs_out_meanwhile_is_dropped_by_the_next(
        self, ctx: AppContext, process: Process, database_url: str
    ) -> None:
        one, another = new("100/1h"), new("100/1h")
        process.passed(1, one)
        await process.tally.sync()
        async with held(database_url, ctx, one):
            process.passed(1, one)
            adding = asyncio.create_task(process.tally.sync())
            await waits_for_a_lock(ctx)
            process.passed(1, another)
            next_one = asyncio.create_task(process.tally.sync())
            process.watch.seconds += 4000
            await asyncio.sleep(0.05)
        await asyncio.gather(adding, next_one)
        assert len(process.tally._counts) == 0

    async def test_a_cleaner_and_a_teller_do_not_wait_for_each_other(
        self, ctx: AppContext, process: Process, database_url: str
    ) -> None:
        """The teller goes by key and holds the first; the cleaner goes by time and would begin with the last."""
        limits = sorted((new("100/1h", "clean") for _ in range(3)), key=lambda one: ctx.keys.fingerprint(one.key))
        for one, minutes in zip(limits, (-1, 60, -9), strict=True):
            await ctx.db.execute(
                "INSERT INTO throttles VALUES (1, 'clean', $1, clock_timestamp() + $2 * interval '1 minute')",
                ctx.keys.fingerprint(one.key),
                minutes,
            )
            process.passes(one)
        async with held(database_url, ctx, limits[1]):
            adding = asyncio.create_task(process.tally.sync())
            await waits_for_a_lock(ctx)
            cleaning = asyncio.create_task(ctx.throttle.purge(1))
            await asyncio.sleep(0.2)
        await asyncio.gather(adding, cleaning)
        assert is_about(await ahead(ctx, limits[0]), 1)
        assert is_about(await ahead(ctx, limits[2]), 1)

    async def test_a_cleaner_deletes_nothing_that_counts(self, ctx: AppContext, process: Process) -> None:
        limits = [new("100/1h", "kept") for _ in range(100)]
        for one in limits:
            await ctx.db.execute(
                "INSERT INTO throttles VALUES (1, 'kept', $1, clock_timestamp() - interval '1 minute')",
                ctx.keys.fingerprint(one.key),
            )
        for _ in range(5):
            for one in limits:
                process.passes(one)
            await asyncio.gather(process.tally.sync(), *(ctx.throttle.purge(1) for _ in range(4)))
        assert all([is_about(await ahead(ctx, one), 5) for one in limits])
