"""A connection pool.

asyncpg's own pool costs more than an indexed read: each acquire creates a proxy and a shielded task.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import asyncpg

from invitree.kit.data.connections import connect

_MAX_WAIT_S = 1.0
_SATURATED_S = 0.25  # at three times the capacity, this keeps every wait below _MAX_WAIT_S
_MAX_IDLE_S = 300.0  # firewalls drop connections that are idle for longer
_CLOSE_TIMEOUT_S = 0.75  # less than _MAX_WAIT_S, so that a waiter can still get the slot
_CANCEL_TIMEOUT_S = 0.1
_SHUTDOWN_S = 5.0


class Pool:
    """Lends at most `size` connections, opened on demand with the options of `connect`.

    Connections that are being opened or closed count too, so the database never sees more.
    """

    def __init__(self, url: str, *, size: int, **options: Any) -> None:
        self._url, self._size, self._options = url, size, options
        self._idle: list[tuple[Any, float]] = []  # with the time it became idle; last in, first out
        self._all: set[Any] = set()
        self._slots = 0  # slots in use, `size` at most
        self._opening = 0
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._waiters_so_far = 0
        self._last_wait_s = 0.0  # how long the last one to leave the current queue waited
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def take(self) -> Any:
        """Borrow a connection.

        Raises TimeoutError if none becomes free within a second, and asyncpg's errors if none can be opened.
        """
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.is_closed() and _now() - since < _MAX_IDLE_S:
                return connection
            self._retire(connection)
        return await self._wait()

    def give(self, connection: Any, *, reusable: bool = True) -> None:
        """Return a connection to the pool; it is closed if it is not `reusable` or is still inside a transaction."""
        if not reusable or self._is_closed or connection.is_closed() or connection.is_in_transaction():
            self._retire(connection)
        elif self._has_waiters():
            self._waiting.popleft().set_result(connection)
        else:
            self._idle.append((connection, _now()))

    def is_saturated(self) -> bool:
        """Return whether the pool is saturated: waits are long, and the connections being opened are too few."""
        return self._last_wait_s > _SATURATED_S and self._has_waiters() and len(self._waiting) > self._opening

    async def close(self) -> None:
        """Lend no more, and close every connection: borrowed ones when they are returned, or after five seconds."""
        self._is_closed = True
        while self._has_waiters():
            self._waiting.popleft().set_exception(_closed())
        while self._idle:
            self._retire(self._idle.pop()[0])
        deadline = _now() + _SHUTDOWN_S
        try:
            while self._slots and _now() < deadline:  # noqa: ASYNC110  it changes in many places
                await asyncio.sleep(0.01)
        finally:
            for connection in self._all:
                connection.terminate()
        await asyncio.gather(*self._tasks)

    async def _wait(self) -> Any:
        if self._is_closed:
            raise _closed()
        if self._slots < self._size:
            self._slots += 1
            self._start_opening()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._has_waiters():
            self._last_wait_s = 0.0  # a new queue begins
        self._waiting.append(future)
        self._waiters_so_far += 1
        started_at = _now()
        try:
            async with asyncio.timeout(_MAX_WAIT_S):
                return await future
        except BaseException:
            # A connection may have been handed over at the same moment.
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give(future.result())
            raise
        finally:
            self._last_wait_s = _now() - started_at

    async def _open(self) -> None:
        """Open a connection, for whoever has then waited longest.

        In a task of its own, not the waiter's: a waiter that times out would leave it half open.
        """
        before = self._waiters_so_far
        try:
            connection = await connect(self._url, **self._options)
        except Exception as error:
            self._opening -= 1
            # Fail only a waiter that came before this attempt; later ones get an attempt of their own.
            if self._has_waiters() and self._waiters_so_far - len(self._waiting) < before:
                self._waiting.popleft().set_exception(error)
            self._free_slot()
        else:
            self._opening -= 1
            self._all.add(connection)
            self.give(connection)

    def _retire(self, connection: Any) -> None:
        """Close a connection, even in the middle of a query, and then free its slot."""
        if connection.is_closed():
            self._all.discard(connection)
            self._free_slot()
        else:
            self._start(self._close(connection))

    async def _close(self, connection: Any) -> None:
        closing = asyncio.create_task(connection.close(timeout=_CLOSE_TIMEOUT_S))
        while not (await asyncio.wait({closing}, timeout=_CANCEL_TIMEOUT_S))[0]:
            # asyncpg cancels an abandoned query once, but a cancel request that arrives before its query has no effect.
            with suppress(TimeoutError):
                cancel = connection._cancel(asyncio.get_running_loop().create_future())  # noqa: SLF001
                await asyncio.wait_for(cancel, _CANCEL_TIMEOUT_S)
        closing.exception()  # retrieved and ignored: the connection is closed anyway
        self._all.discard(connection)
        self._free_slot()

    def _free_slot(self) -> None:
        """Free a slot, or use it to open a connection if there are more waiters than connections being opened."""
        if sum(not one.done() for one in self._waiting) > self._opening:
            self._start_opening()
        else:
            self._slots -= 1

    def _start_opening(self) -> None:
        self._opening += 1
        self._start(self._open())

    def _has_waiters(self) -> bool:
        """Return whether anybody is waiting; waiters that gave up are dropped first."""
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return bool(self._waiting)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _closed() -> Exception:
    return asyncpg.InterfaceError("the pool is closed")


def _now() -> float:
    return asyncio.get_running_loop().time()
