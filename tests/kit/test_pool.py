"""kit/data/pool.py: never too many, never to two at once, and nothing is left of what was given up."""

import asyncio
from contextlib import suppress

import asyncpg
import pytest

from invitree.kit.data import pool as pools
from invitree.kit.data.db import Database
from tests.kit.lender import PID, STUBBORN, Lender, turn_over
from tests.waiting import eventually


class TestHowMany:
    """Never more than `size`."""

    async def test_however_many_ask_no_more_are_made(self, lender: Lender) -> None:
        db = Database(lender.pool(4))
        seen = await asyncio.gather(*(db.fetchval(f"{PID}, pg_sleep(0.002)") for _ in range(64)))
        assert 1 <= len(set(seen)) <= 4
        assert await lender.count() <= 4

    async def test_one_that_is_being_closed_counts(self, lender: Lender) -> None:
        db = Database(lender.pool(1))
        going = asyncio.create_task(db.execute(STUBBORN))
        await eventually(lender.busy)
        going.cancel()
        await turn_over()
        others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
        assert await db.fetchval(others, lender.name) == 1

    async def test_one_that_is_being_made_counts(self, lender: Lender) -> None:
        pool = lender.pool(2)
        takers = [asyncio.create_task(pool.take()) for _ in range(8)]
        await turn_over()
        for taker in takers[:7]:
            taker.cancel()
        connection = await takers[7]
        assert await lender.count() <= 2
        pool.give(connection)

    async def test_those_of_a_crowd_that_hangs_up_count(self, lender: Lender) -> None:
        """Each leaves a statement behind, which the next must wait for."""
        db = Database(lender.pool(3))
        most = 0
        for _ in range(10):
            crowd = [asyncio.create_task(db.execute("SELECT pg_sleep(30)")) for _ in range(12)]
            await eventually(lender.busy)
            for one in crowd:
                one.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
            most = max(most, await lender.count())
        assert most <= 3


class TestWaiting:
    """The pool is empty."""

    async def test_a_borrower_waits_a_second_and_is_told_so(self, lender: Lender) -> None:
        pool = lender.pool(1)
        connection = await pool.take()
        began = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            await pool.take()
        assert asyncio.get_running_loop().time() - began >= 0.9
        pool.give(connection)
        pool.give(await pool.take())

    async def test_a_queue_is_overdue_once_its_first_have_waited_for_long(
        self, lender: Lender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pools, "_SATURATED_S", 0.1)
        pool = lender.pool(1)
        connection = await pool.take()
        waiting = [asyncio.create_task(pool.take()) for _ in range(2)]
        await turn_over()
        assert not pool.is_saturated()
        await asyncio.sleep(0.2)
        pool.give(connection)
        connection = await waiting[0]
        assert pool.is_saturated(), "one has waited for long, and another still does"
        pool.give(connection)
        connection = await waiting[1]
        assert not pool.is_saturated(), "nobody waits"
        waiting = [asyncio.create_task(pool.take())]
        await turn_over()
        assert not pool.is_saturated(), "that was another queue"
        pool.give(connection)
        pool.give(await waiting[0])

    async def test_a_borrower_waits_no_longer_though_places_become_free_before_its_eyes(self, lender: Lender) -> None:
        """Who comes later does not take them."""
        pool = lender.pool(1)
        connection = await pool.take()
        for _ in range(100):
            waiting = asyncio.create_task(pool.take())
            await turn_over()
            pool.give(connection, reusable=False)
            later = asyncio.create_task(pool.take())
            connection = await waiting
            assert not later.done()
            pool.give(connection)
            connection = await later
        pool.give(connection)

    @pytest.mark.parametrize("reusable", [True, False])
    async def test_who_waits_longest_is_next(self, lender: Lender, reusable: bool) -> None:
        """Also before somebody who asks in the moment in which a place has become free."""
        pool, served = lender.pool(1), []

        async def borrow(name: str) -> None:
            connection = await pool.take()
            served.append(name)
            pool.give(connection, reusable=reusable)

        connection = await pool.take()
        first = [asyncio.create_task(borrow(name)) for name in "abc"]
        await turn_over()
        pool.give(connection, reusable=reusable)
        last = asyncio.create_task(borrow("d"))
        await asyncio.gather(*first, last)
        assert served == ["a", "b", "c", "d"]

    @pytest.mark.parametrize("others", [0, 1, 3])
    @pytest.mark.parametrize("reusable", [True, False])
    async def test_one_who_leaves_in_the_moment_of_being_served_takes_nothing_along(
        self, lender: Lender, others: int, reusable: bool
    ) -> None:
        pool = lender.pool(1)
        for turns in range(4):
            connection = await pool.take()
            leaving, *rest = [asyncio.create_task(pool.take()) for _ in range(1 + others)]
            await turn_over()
            pool.give(connection, reusable=reusable)
            await turn_over(turns)
            if not leaving.cancel():
                pool.give(leaving.result())
            for one in rest:
                pool.give(await one)
            await asyncio.gather(leaving, return_exceptions=True)
            pool.give(await pool.take())
        assert not pool.lent

    async def test_one_who_leaves_while_one_is_made_leaves_it_to_the_next(self, lender: Lender) -> None:
        pool = lender.pool(1)
        first, second = asyncio.create_task(pool.take()), asyncio.create_task(pool.take())
        await turn_over()
        first.cancel()
        pool.give(await second)
        assert await lender.count() == 1


class TestFitness:
    """What is lent is as if it were new."""

    async def test_one_that_is_good_is_lent_again(self, lender: Lender) -> None:
        db = Database(lender.pool(2))
        seen = {await db.fetchval(PID) for _ in range(5)}
        async with db.transaction() as tx:
            seen.add(await tx.fetchval(PID))
        with pytest.raises(asyncpg.DivisionByZeroError):
            await db.fetchval("SELECT 1 / 0")
        with pytest.raises(KeyError):
            async with db.transaction() as tx:
                raise KeyError
        seen.add(await db.fetchval(PID))
        assert len(seen) == 1

    @pytest.mark.parametrize("begin", ["BEGIN", "BEGIN; SELECT 1 / 0"])
    async def test_one_inside_a_transaction_is_not_lent_again(self, lender: Lender, begin: str) -> None:
        db = Database(lender.pool(1))
        before = await db.fetchval(PID)
        with suppress(asyncpg.DivisionByZeroError):
            await db.execute(begin)
        assert await db.fetchval(PID) != before
        assert await lender.busy() == 0

    @pytest.mark.parametrize("how", ["hung up", "too slow"])
    async def test_one_whose_statement_was_cut_off_is_not_lent_again_and_the_statement_ends(
        self, lender: Lender, how: str
    ) -> None:
        db = Database(lender.pool(1, command_timeout=0.3 if how == "too slow" else 10))
        for number in range(5):
            before = await db.fetchval(PID)
            going = asyncio.create_task(db.fetchval("SELECT $1 || pg_sleep(30)::text", f"answer {number}"))
            await eventually(lender.busy)
            if how == "hung up":
                going.cancel()
            with pytest.raises(TimeoutError if how == "too slow" else asyncio.CancelledError):
                await going
            assert await db.fetchval("SELECT 'mine'") == "mine"
            assert await lender.busy() == 0, "in the moment in which there is another in its place"
            assert await db.fetchval(PID) != before

    @pytest.mark.parametrize("how", ["hung up", "too slow"])
    async def test_nor_is_one_whose_transaction_was(self, lender: Lender, how: str) -> None:
        db = Database(lender.pool(1, command_timeout=0.3 if how == "too slow" else 10))
        before = await db.fetchval(PID)

        async def write() -> None:
            async with db.transaction() as tx:
                await tx.fetchval("SELECT pg_sleep(30)")

        going = asyncio.create_task(write())
        await eventually(lender.busy)
        if how == "hung up":
            going.cancel()
        with pytest.raises(TimeoutError if how == "too slow" else asyncio.CancelledError):
            await going
        assert await db.fetchval(PID) != before

    async def test_no_answer_is_another_ones_whenever_somebody_hangs_up(self, lender: Lender) -> None:
        db = Database(lender.pool(2))
        await db.fetchval(PID)
        for number in range(150):
            going = asyncio.create_task(db.fetchval("SELECT $1::text", "not mine"))
            await turn_over(number % 12)
            if number % 3:
                await asyncio.sleep(number / 300_000)
            going.cancel()
            assert await db.fetchval("SELECT $1::text", f"mine {number}") == f"mine {number}"
            await asyncio.gather(going, return_exceptions=True)

    async def test_a_transaction_that_is_cut_off_anywhere_leaves_nothing(self, lender: Lender) -> None:
        db = Database(lender.pool(2))
        await db.execute("CREATE TABLE cut_off (number int)")

        async def write(number: int) -> None:
            async with db.transaction() as tx:
                await tx.execute("INSERT INTO cut_off VALUES ($1)", number)
                await tx.execute("INSERT INTO cut_off VALUES ($1)", number)

        for number in range(60):
            going = asyncio.create_task(write(number))
            await asyncio.sleep(number / 15_000)
            going.cancel()
            await asyncio.gather(going, return_exceptions=True)
            assert await db.fetchval("SELECT pg_current_xact_id_if_assigned() IS NULL")
        halves = await db.fetch("SELECT number FROM cut_off GROUP BY number HAVING count(*) <> 2")
        await db.execute("DROP TABLE cut_off")
        assert halves == []

    async def test_one_that_has_rested_for_five_minutes_is_replaced(
        self, lender: Lender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, ahead = pools._now, 0.0
        monkeypatch.setattr(pools, "_now", lambda: real() + ahead)
        pool = lender.pool(3)
        crowd = [await pool.take() for _ in range(3)]
        for one in crowd:
            pool.give(one)
        db = Database(pool)
        first = await db.fetchval(PID)
        ahead += 295
        assert await db.fetchval(PID) == first
        ahead += 295
        assert await db.fetchval(PID) == first, "it has rested since it was last used"
        ahead += 305
        assert await db.fetchval(PID) != first

        async def one_is_left() -> bool:
            return await lender.count() == 1

        await eventually(one_is_left)

    async def test_one_that_was_ended_is_replaced(self, lender: Lender) -> None:
        pool = lender.pool(2)
        db = Database(pool)
        for one in [await pool.take(), await pool.take()]:
            pool.give(one)
        await lender.terminate(2)

        async def none_is_left() -> bool:
            return await lender.count() == 0

        await eventually(none_is_left)
        await asyncio.sleep(0.05)
        assert len(await asyncio.gather(*(db.fetchval(PID) for _ in range(8)))) == 8
