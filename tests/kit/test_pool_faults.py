"""kit/data/pool.py where borrowers, connections and the database go away, and where the process stops."""

import asyncio
import os
import random
import signal
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from invitree.kit.data import pool as pools
from invitree.kit.data.db import OUTAGES, Database
from invitree.kit.postgres.embedded import embedded_postgres
from tests.kit.lender import PID, STUBBORN, Lender, refused_as_an_outage, turn_over
from tests.kit.postmasters import FAST
from tests.waiting import eventually


class Storm:
    """Many borrowers who do everything that goes wrong, in an order that a seed decides."""

    def __init__(self, lender: Lender, db: Database, seed: int) -> None:
        self.lender, self.db, self.dice = lender, db, random.Random(seed)

    async def borrow(self, number: int, rounds: int) -> None:
        """Do so many things, one after the other."""
        for _ in range(rounds):
            doing = self.dice.choice([self.asks, self.asks, self.writes, self.fails, self.errs, self.is_slow])
            going = asyncio.create_task(doing(number))
            if self.dice.random() < 0.3:
                await asyncio.sleep(self.dice.random() * 0.02)
                going.cancel()
            (result,) = await asyncio.gather(going, return_exceptions=True)
            foreseen = (KeyError, asyncpg.DivisionByZeroError, asyncio.CancelledError, *OUTAGES)
            assert result is None or isinstance(result, foreseen), repr(result)

    async def asks(self, number: int) -> None:
        """Ask for an answer that nobody else gets."""
        salt = self.dice.random()
        assert await self.db.fetchval("SELECT $1::float8 + $2::int", salt, number) == salt + number

    async def writes(self, number: int) -> None:
        """Do two things in one transaction."""
        async with self.db.transaction() as tx:
            assert await tx.fetchval(PID) == await tx.fetchval(PID)
            assert await tx.fetchval("SELECT $1::int", number) == number

    async def fails(self, number: int) -> None:
        """Raise inside a transaction."""
        async with self.db.transaction() as tx:
            await tx.execute("SELECT 1")
            raise KeyError(number)

    async def errs(self, number: int) -> None:
        """Ask for what cannot be answered."""
        await self.db.fetchval("SELECT $1::int / 0", number)

    async def is_slow(self, number: int) -> None:
        """Ask for what takes too long now and then."""
        await self.db.fetchval("SELECT pg_sleep($1)", self.dice.choice([0.001, 0.01, 0.6]))

    async def rage(self) -> None:
        """End connections and let none be made, again and again."""
        database = urlsplit(self.lender.url).path[1:]
        while True:
            await self.lender.terminate()
            await self.lender.watch.execute(f"ALTER DATABASE {database} CONNECTION LIMIT {self.dice.choice([0, -1])}")
            await asyncio.sleep(self.dice.random() * 0.05)
            await self.lender.watch.execute(f"ALTER DATABASE {database} CONNECTION LIMIT -1")
            await asyncio.sleep(self.dice.random() * 0.05)
            assert await self.lender.count() <= 8


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_goes_wrong_no_connection_is_lost_or_lent_twice(lender: Lender, seed: int) -> None:
    pool = lender.pool(8, command_timeout=0.5)
    db = Database(pool)
    storm = Storm(lender, db, seed)
    raging = asyncio.create_task(storm.rage())
    seen = await asyncio.gather(*(storm.borrow(number, 12) for number in range(64)), return_exceptions=True)
    raging.cancel()
    (how,) = await asyncio.gather(raging, return_exceptions=True)
    assert seen == [None] * 64
    assert isinstance(how, asyncio.CancelledError), repr(how)
    await lender.watch.execute(f"ALTER DATABASE {urlsplit(lender.url).path[1:]} CONNECTION LIMIT -1")

    async def is_calm() -> bool:
        return await lender.busy() == 0

    await eventually(is_calm)
    await asyncio.sleep(0.05)
    assert not pool.lent
    held = [await pool.take() for _ in range(8)]
    assert await lender.count() == 8, "all can still be had, and no others are there"
    for one in held:
        pool.give(one)
    assert await asyncio.gather(*(db.fetchval("SELECT $1::int", number) for number in range(64))) == [*range(64)]


async def test_a_connection_lost_while_it_is_handed_over_gives_its_place_back(lender: Lender) -> None:
    pool = lender.pool(1)
    db = Database(pool)
    connection = await pool.take()

    async def write() -> None:
        async with db.transaction() as tx:
            await tx.execute("SELECT 1")

    waiting = asyncio.create_task(write())
    await turn_over()
    pool.give(connection)
    connection.terminate()
    with pytest.raises(asyncpg.InterfaceError):
        await waiting
    assert await db.fetchval("SELECT 1") == 1


async def test_a_cancel_that_overtakes_its_statement_is_sent_again(lender: Lender) -> None:
    """The database forgets one that finds it idle; here because it has not come to read the statement yet."""
    db = Database(lender.pool(1))
    backend = await db.fetchval(PID)
    os.kill(backend, signal.SIGSTOP)
    going = asyncio.create_task(db.execute("SELECT pg_sleep(30)"))
    await turn_over()
    going.cancel()
    await asyncio.sleep(0.15)
    os.kill(backend, signal.SIGCONT)

    async def none_runs() -> bool:
        return await lender.count() == 0

    await eventually(none_runs)


async def test_a_transaction_that_is_cut_off_is_not_rolled_back_first(lender: Lender) -> None:
    """Where the database has stopped answering, that would be waited for as well."""
    db, asked = Database(lender.pool(1, command_timeout=0.2)), list[str]()

    async def sleep() -> None:
        async with db.transaction() as tx:
            connection = tx.execute.__self__  # type: ignore[attr-defined]
            connection.add_query_logger(lambda record: asked.append(record.query))
            await tx.fetchval(PID)
            await tx.execute("SELECT pg_sleep(30)")

    async def none_runs() -> bool:
        return await lender.count() == 0

    await refused_as_an_outage(sleep())
    await eventually(none_runs)
    assert PID in asked
    assert "ROLLBACK;" not in asked


class TestFailing:
    """Connections that cannot be made."""

    async def test_everybody_who_waits_is_told_why_and_nothing_leaks(self, lender: Lender) -> None:
        pool = lender.pool(2)
        database = urlsplit(lender.url).path[1:]
        for _ in range(3):
            await lender.watch.execute(f"ALTER DATABASE {database} CONNECTION LIMIT 0")
            seen = await asyncio.gather(*(pool.take() for _ in range(16)), return_exceptions=True)
            await lender.watch.execute(f"ALTER DATABASE {database} CONNECTION LIMIT -1")
            assert {type(one) for one in seen} == {asyncpg.TooManyConnectionsError}
            held = [await pool.take(), await pool.take()]
            for one in held:
                pool.give(one, reusable=False)

    async def test_a_place_in_which_none_could_be_made_is_the_next_ones(self, lender: Lender) -> None:
        pool = lender.pool(1)
        database = urlsplit(lender.url).path[1:]
        held = await pool.take()
        first, second = asyncio.create_task(pool.take()), asyncio.create_task(pool.take())
        await lender.watch.execute(f"ALTER DATABASE {database} CONNECTION LIMIT 0")
        pool.give(held, reusable=False)
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await first
        await lender.watch.execute(f"ALTER DATABASE {database} CONNECTION LIMIT -1")
        try:
            pool.give(await second)
        except asyncpg.TooManyConnectionsError:
            pool.give(await pool.take())  # it was tried before there was room again

    async def test_a_database_that_is_nowhere_is_an_outage(self, lender: Lender) -> None:
        pool = lender.pool(2, url="postgresql://invitree@/invitree?host=/nowhere&port=5432")
        for _ in range(3):
            seen = await asyncio.gather(*(pool.take() for _ in range(8)), return_exceptions=True)
            assert all(isinstance(one, OUTAGES) and not isinstance(one, TimeoutError) for one in seen), seen

    async def test_a_caller_cancelled_during_a_failed_connect_leaves_no_error(self, lender: Lender) -> None:
        pool = lender.pool(1, url="postgresql://invitree@/invitree?host=/nowhere&port=5432")
        for turns in range(8):
            taker = asyncio.create_task(pool.take())
            await turn_over(turns)
            taker.cancel()
            await asyncio.gather(taker, return_exceptions=True)
        await refused_as_an_outage(pool.take())

    async def test_a_database_that_freezes_stops_and_starts_is_an_outage_and_then_good(
        self, lender: Lender, place: Path
    ) -> None:
        with embedded_postgres(place / "data", settings=FAST) as url:
            pool = lender.pool(3, url=url)
            db = Database(pool)
            assert len(await asyncio.gather(*(db.fetchval(f"{PID}, pg_sleep(0.05)") for _ in range(3)))) == 3
            postmaster = int((place / "data/postgres/postmaster.pid").read_text().split()[0])
            for one in [await pool.take() for _ in range(3)]:
                pool.give(one, reusable=False)
            os.kill(postmaster, signal.SIGSTOP)
            seen = await asyncio.gather(*(db.fetchval(PID) for _ in range(6)), return_exceptions=True)
            assert {type(one) for one in seen} == {TimeoutError}
            os.kill(postmaster, signal.SIGCONT)
            for one in [await pool.take() for _ in range(3)]:
                pool.give(one)
        for _ in range(2):
            seen = await asyncio.gather(*(db.fetchval(PID) for _ in range(6)), return_exceptions=True)
            assert all(isinstance(one, OUTAGES) for one in seen), seen
        with embedded_postgres(place / "data", settings=FAST):
            assert len(await asyncio.gather(*(db.fetchval(PID) for _ in range(6)))) == 6
            await pool.close()


class TestClosing:
    """The process stops."""

    async def test_closing_the_pool_ends_idle_connections(self, lender: Lender) -> None:
        pool = lender.pool(3)
        for one in [await pool.take() for _ in range(3)]:
            pool.give(one)
        await pool.close()
        assert await lender.count() == 0
        await refused_as_an_outage(pool.take())
        await pool.close()

    async def test_closing_the_pool_awaits_lent_connections(self, lender: Lender) -> None:
        pool = lender.pool(2)
        db = Database(pool)
        going = asyncio.create_task(db.fetchval("SELECT pg_sleep(0.3) IS NOT NULL"))
        await eventually(lender.busy)
        await pool.close()
        assert await going is True
        assert await lender.count() == 0

    async def test_closing_the_pool_ends_connections_that_are_not_returned(
        self, lender: Lender, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pools, "_SHUTDOWN_S", 0.1)
        pool = lender.pool(2)
        db = Database(pool)
        going = asyncio.create_task(db.fetchval("SELECT pg_sleep(2)"))
        held = await pool.take()
        await eventually(lender.busy)
        await pool.close()
        await refused_as_an_outage(going)
        assert held.is_closed()
        pool.give(held)

    async def test_closing_the_pool_waits_five_seconds(self, lender: Lender, monkeypatch: pytest.MonkeyPatch) -> None:
        real, ahead = pools._now, 0.0
        monkeypatch.setattr(pools, "_now", lambda: real() + ahead)
        pool = lender.pool(1)
        held = await pool.take()
        closing = asyncio.create_task(pool.close())
        await asyncio.sleep(0.1)
        ahead = 4.5
        await asyncio.sleep(0.1)
        assert not closing.done()
        assert not held.is_closed()
        ahead = 5.5
        await closing
        assert held.is_closed()
        pool.give(held)

    async def test_closing_the_pool_refuses_waiting_callers(self, lender: Lender) -> None:
        pool = lender.pool(1)
        held = await pool.take()
        waiting = [asyncio.create_task(pool.take()) for _ in range(4)]
        await turn_over()
        closing = asyncio.create_task(pool.close())
        for one in waiting:
            with pytest.raises(asyncpg.InterfaceError, match="closed"):
                await one
        assert not closing.done()
        pool.give(held)
        await closing

    async def test_closing_the_pool_ends_connections_being_made(self, lender: Lender) -> None:
        for turns in range(12):
            pool = lender.pool(2)
            takers = [asyncio.create_task(pool.take()) for _ in range(2)]
            await turn_over(turns)
            closing = asyncio.create_task(pool.close())
            for one in await asyncio.gather(*takers, return_exceptions=True):
                if isinstance(one, BaseException):
                    assert isinstance(one, OUTAGES)
                else:
                    pool.give(one)
            await closing
            assert await lender.count() == 0

    async def test_closing_the_pool_awaits_connections_being_closed(self, lender: Lender) -> None:
        pool = lender.pool(1)
        going = asyncio.create_task(Database(pool).execute(STUBBORN))
        await eventually(lender.busy)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        await pool.close()
        assert await lender.count() == 0
