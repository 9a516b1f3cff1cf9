"""Connections to lend, a few at once and each to one borrower.

asyncpg's own pool costs more than the indexed read it is borrowed for: a proxy and a shielded task each time.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import asyncpg

from invitree.kit.data.connections import connect

_LONGEST_WAIT_S = 1.0
_OVERDUE_S = 0.25  # at three times what can be done, nobody who is let in then waits for longer than a second
_LONGEST_REST_S = 300.0  # firewalls forget what has been silent for longer
_PARTING_S = 0.75  # less than somebody waits who could have the place
_PATIENCE_S = 0.1
_CLOSING_S = 5.0


class Pool:
    """Lends at most `size` connections, made when they are needed with what `connect` takes.

    One that is being made or closed counts, so the database never sees more of them.
    """

    def __init__(self, url: str, *, size: int, **how: Any) -> None:
        self._url, self._size, self._how = url, size, how
        self._idle: list[tuple[Any, float]] = []  # the one given back last is lent next
        self._all: set[Any] = set()
        self._places = 0  # that are taken
        self._making = 0
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._queued = 0  # so many have ever come to wait
        self._waited_s = 0.0  # so long did the last one who has come out of this queue
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def take(self) -> Any:
        """Return a connection that is nobody else's until it is given back.

        Raises TimeoutError where none was free for a second, and what asyncpg raises where none can be made.
        """
        while self._idle:
            connection, since = self._idle.pop()
            if not connection.is_closed() and _now() - since < _LONGEST_REST_S:
                return connection
            self._retire(connection)
        return await self._wait()

    def give(self, connection: Any, *, fit: bool = True) -> None:
        """Take a connection back; one that is not `fit`, or is inside a transaction, is not lent again."""
        if not fit or self._is_closed or connection.is_closed() or connection.is_in_transaction():
            self._retire(connection)
        elif self._is_awaited():
            self._waiting.popleft().set_result(connection)
        else:
            self._idle.append((connection, _now()))

    def is_overdue(self) -> bool:
        """Return whether more wait than connections are being made for, behind others who waited for long."""
        return self._waited_s > _OVERDUE_S and self._is_awaited() and len(self._waiting) > self._making

    async def close(self) -> None:
        """Close every connection, those that are lent when they come back or after five seconds; lend no more."""
        self._is_closed = True
        while self._is_awaited():
            self._waiting.popleft().set_exception(_closed())
        while self._idle:
            self._retire(self._idle.pop()[0])
        deadline = _now() + _CLOSING_S
        try:
            while self._places and _now() < deadline:  # noqa: ASYNC110  it changes in many places, and it is the end
                await asyncio.sleep(0.01)
        finally:
            for connection in self._all:
                connection.terminate()
        await asyncio.gather(*self._tasks)

    async def _wait(self) -> Any:
        if self._is_closed:
            raise _closed()
        if self._places < self._size:
            self._places += 1
            self._begin_to_make()
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._is_awaited():
            self._waited_s = 0.0  # that was another queue
        self._waiting.append(future)
        self._queued += 1
        began = _now()
        try:
            async with asyncio.timeout(_LONGEST_WAIT_S):
                return await future
        except BaseException:
            # It may have been handed over in the same moment.
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give(future.result())
            raise
        finally:
            self._waited_s = _now() - began

    async def _make(self) -> None:
        """Make a connection, for who waits longest by then.

        By nobody in particular: who has waited for long is about to give up, and would leave it half made.
        """
        before = self._queued
        try:
            connection = await connect(self._url, **self._how)
        except Exception as error:
            self._making -= 1
            # Who came since has a right to an attempt that is made now.
            if self._is_awaited() and self._queued - len(self._waiting) < before:
                self._waiting.popleft().set_exception(error)
            self._vacate()
        else:
            self._making -= 1
            self._all.add(connection)
            self.give(connection)

    def _retire(self, connection: Any) -> None:
        """Close a connection, whatever it is in the middle of. Only then its place is free."""
        if connection.is_closed():
            self._all.discard(connection)
            self._vacate()
        else:
            self._start(self._close(connection))

    async def _close(self, connection: Any) -> None:
        closing = asyncio.create_task(connection.close(timeout=_PARTING_S))
        while not (await asyncio.wait({closing}, timeout=_PATIENCE_S))[0]:
            # asyncpg cancels the query that was given up, but a request that overtakes its query is lost.
            with suppress(TimeoutError):
                cancel = connection._cancel(asyncio.get_running_loop().create_future())  # noqa: SLF001
                await asyncio.wait_for(cancel, _PATIENCE_S)
        closing.exception()  # whatever it is, the connection is no more
        self._all.discard(connection)
        self._vacate()

    def _vacate(self) -> None:
        """Give up a place, or have another connection made in it where somebody waits for whom none is made yet."""
        if sum(not one.done() for one in self._waiting) > self._making:
            self._begin_to_make()
        else:
            self._places -= 1

    def _begin_to_make(self) -> None:
        self._making += 1
        self._start(self._make())

    def _is_awaited(self) -> bool:
        """Return whether the first in the queue waits for a connection; who has given up is dropped from it."""
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
