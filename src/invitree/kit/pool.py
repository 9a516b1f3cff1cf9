"""Connections to lend, a few at once and each to one borrower.

asyncpg's own pool costs more than the indexed read it is borrowed for: a proxy and a shielded task each time.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

import asyncpg

_LONGEST_WAIT_S = 1.0
_LONGEST_REST_S = 300.0  # firewalls forget what has been silent for longer
_CLOSING_S = 5.0


class Pool:
    """Lends at most `size` connections, made when they are needed with what `asyncpg.connect` takes."""

    def __init__(self, url: str, *, size: int, **how: Any) -> None:
        self._url, self._size, self._how = url, size, how
        self._idle: list[tuple[Any, float]] = []  # the one given back last is lent next
        self._all: set[Any] = set()
        self._making = 0
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._retiring: set[asyncio.Task[None]] = set()
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
        if len(self._all) + self._making < self._size:
            return await self._make()
        return await self._wait()

    def give(self, connection: Any, *, fit: bool = True) -> None:
        """Take a connection back; one that is not `fit`, or is inside a transaction, is not lent again."""
        if not fit or connection.is_closed() or connection.is_in_transaction() or self._is_closed:
            self._retire(connection)
        elif not self._hand_on(connection):
            self._idle.append((connection, _now()))

    async def close(self) -> None:
        """Close every connection, those that are lent when they come back or after five seconds."""
        self._is_closed = True
        while self._idle:
            self._retire(self._idle.pop()[0])
        deadline = _now() + _CLOSING_S
        while (self._all or self._retiring) and _now() < deadline:  # noqa: ASYNC110  both change, and it is the end
            await asyncio.sleep(0.01)
        for connection in self._all:
            connection.terminate()

    async def _make(self) -> Any:
        if self._is_closed:
            raise asyncpg.InterfaceError("the pool is closed")
        self._making += 1
        try:
            connection = await asyncpg.connect(self._url, **self._how)
        except BaseException:
            self._making -= 1
            self._hand_on(None)
            raise
        self._making -= 1
        self._all.add(connection)
        return connection

    async def _wait(self) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(_LONGEST_WAIT_S):
                connection = await future
        except BaseException:
            # It may have been handed over in the same moment.
            if future.done() and not future.cancelled() and (connection := future.result()) is not None:
                self.give(connection)
            raise
        return connection or await self.take()

    def _hand_on(self, connection: Any) -> bool:
        """Give a connection, or with None the place of one, to who waits longest; return whether somebody did."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return True
        return False

    def _retire(self, connection: Any) -> None:
        """Close a connection, whatever it is in the middle of, and let another one be made in its place."""
        self._all.discard(connection)
        if not connection.is_closed():
            task = asyncio.create_task(_close(connection))
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)
        self._hand_on(None)


async def _close(connection: Any) -> None:
    """Close in the order that asyncpg needs: a query that was given up is first canceled in the database."""
    with suppress(Exception):
        await connection.close(timeout=_LONGEST_WAIT_S)


def _now() -> float:
    return asyncio.get_running_loop().time()
