"""Where a race is run with every step in its place, and with a guard left out: between the application and asyncpg."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from inspect import signature
from typing import Any

import asyncpg

from invitree.app import open_resources
from invitree.base.settings import Settings
from invitree.kit.context import AppContext
from invitree.kit.data.db import Queryable
from tests.cast import Cast
from tests.conftest import client_for
from tests.postbox import Postbox
from tests.waiting import eventually

AtOnce = Callable[..., Awaitable[list[Any]]]
"""Does what it is given at once, as `asyncio.gather` does."""
Waiting = Callable[[], Awaitable[set[int]]]
_Connection: Any = asyncpg.Connection


async def ready(ctx: AppContext, connections: int, **how: Any) -> None:
    """Open all connections, one after the other, and let them wait for as long as it takes.

    It is about who wins, and not about how busy the machine is.
    """
    pool = ctx.db._pool
    patient = dict.fromkeys(("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"), "60s")
    pool._options |= {"timeout": 60, "command_timeout": 60, **how}
    pool._options["server_settings"] = {**pool._options["server_settings"], **patient}
    for connection in [await pool.take() for _ in range(connections)]:
        pool.give(connection)


async def waiting_for_locks(db: Queryable) -> set[int]:
    """Return the backends of this database that wait for a lock."""
    rows = await db.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return {row["pid"] for row in rows}


async def until_it_waits(ctx: AppContext, task: asyncio.Task[Any]) -> None:
    """Wait until a task waits for a lock, the only one that may. It must not end instead."""

    async def waits_or_ends() -> bool:
        return task.done() or bool(await waiting_for_locks(ctx.db))

    await eventually(waits_or_ends)
    assert not task.done(), "it must wait for the lock"


class Order:
    """Who does what when: here, nobody waits for anybody."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces  # of the statements that it is about
        self.racers = 0  # while they race
        self.ended = 0

    async def before(self, statement: str, pid: int) -> None:
        """Come to a statement, on the connection of this backend."""

    async def after(self, statement: str, pid: int, waiting: Waiting) -> None:
        """Have made a statement; `waiting` says who waits for a lock."""


class Meeting(Order):
    """Who has made a statement goes on when all the others have, or wait for a lock, or have ended."""

    def __init__(self, at: str) -> None:
        super().__init__(at)
        self._at = at
        self._here: set[int] = set()
        self._has_met = False

    async def after(self, statement: str, pid: int, waiting: Waiting) -> None:
        """Wait for the others."""
        if not self.racers or self._at not in statement:
            return
        self._here.add(pid)

        async def has_met() -> bool:
            if not self._has_met:
                self._has_met = len(self._here | await waiting()) + self.ended >= self.racers
            return self._has_met

        await eventually(has_met)


class Overtaking(Order):
    """Who has made the statement `held` goes on when who comes to `by` has made `past`, or waits for a lock."""

    def __init__(self, held: str, actor: str, past: str) -> None:
        super().__init__(held, actor, past)
        self._held, self._by, self._past = held, actor, past
        self._is_held = self._is_past = False
        self._overtaker = 0

    async def before(self, statement: str, pid: int) -> None:
        """Overtake only where there is somebody to be overtaken."""
        if self.racers and self._by in statement:
            await eventually(lambda: self._is_held or self.ended >= self.racers - 1)
            self._overtaker = pid

    async def after(self, statement: str, pid: int, waiting: Waiting) -> None:
        """Be overtaken, or have overtaken."""
        self._is_past |= self._past in statement and pid == self._overtaker
        if not self.racers or self._held not in statement:
            return
        self._is_held = True

        async def is_overtaken() -> bool:
            return self._is_past or self._overtaker in await waiting()

        await eventually(is_overtaken)
        self._is_past = True


class Stage:
    """An application on which races are run, in an order, without some pieces of its SQL."""

    def __init__(self, order: Order, *, without: Mapping[str, str] | None = None) -> None:
        self._order, self._without = order, without or {}
        self._found: set[str] = set()
        self._watch: Any = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def not_found(self) -> set[str]:
        """The pieces that were to be left out, or that the order is about, and were in no statement."""
        return {*self._without, *self._order.pieces} - self._found

    @asynccontextmanager
    async def opened(self, settings: Settings) -> AsyncIterator[Mapping[str, Any]]:
        """Open everything; yield what a race may ask for, by name."""
        self._watch = await asyncpg.connect(settings.database_url)
        try:
            async with open_resources(settings) as ctx:
                await ready(ctx, settings.pool_size, connection_class=_connections_of(self))
                async with client_for(ctx) as client:
                    cast, postbox = Cast(client, ctx), Postbox(ctx)
                    yield {"client": client, "ctx": ctx, "cast": cast, "postbox": postbox, "at_once": self.at_once}
        finally:
            await self._watch.close()

    async def at_once(self, *racers: Awaitable[Any]) -> list[Any]:
        """Run a race."""
        self._order.racers = len(racers)

        async def run(racer: Awaitable[Any]) -> Any:
            try:
                return await racer
            finally:
                self._order.ended += 1

        try:
            return await asyncio.gather(*map(run, racers))
        finally:
            self._order.racers = 0

    async def say(self, how: Callable[..., Awaitable[Any]], pid: int, query: str, *args: Any, **options: Any) -> Any:
        """Make a statement: how asyncpg does it, on which backend, and what."""
        statement = " ".join(query.split())
        for piece, instead in self._without.items():
            if piece in statement:
                self._found.add(piece)
                statement = statement.replace(piece, instead)
        self._found.update(piece for piece in self._order.pieces if piece in statement)
        await self._order.before(statement, pid)
        answer = await how(statement, *args, **options)
        await self._order.after(statement, pid, self._waiting)
        return answer

    async def _waiting(self) -> set[int]:
        async with self._one_at_a_time:
            return await waiting_for_locks(self._watch)


def _connections_of(stage: Stage) -> type:
    class Connection(_Connection):  # type: ignore[misc]
        async def fetch(self, *args: Any, **options: Any) -> Any:
            return await stage.say(super().fetch, self.get_server_pid(), *args, **options)

        async def fetchrow(self, *args: Any, **options: Any) -> Any:
            return await stage.say(super().fetchrow, self.get_server_pid(), *args, **options)

        async def fetchval(self, *args: Any, **options: Any) -> Any:
            return await stage.say(super().fetchval, self.get_server_pid(), *args, **options)

        async def execute(self, *args: Any, **options: Any) -> Any:
            return await stage.say(super().execute, self.get_server_pid(), *args, **options)

    return Connection


async def run(race: Callable[..., Awaitable[None]], **given: Any) -> None:
    """Run a race with what it asks for."""
    await race(**{name: given[name] for name in signature(race).parameters})
