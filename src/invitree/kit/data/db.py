"""The database: a connection pool with short waits, and explicit transactions."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import asyncpg

from invitree.kit.data.pool import Pool

F = TypeVar("F", bound=Callable[..., Any])

_CONNECT_S = 1.0
_STATEMENTS = 500  # more than the service has
SESSION = {
    "application_name": "invitree",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
}

# Errors while the database is down, full, restarting or slow. They become a 503, so that clients try again.
OUTAGES = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # between the server's last message and the end of the connection
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
)


# After these a connection must not be reused: a statement may still be running, the connection may be closing, or the
# server may have become a standby.
_CUT_OFF = (
    asyncio.CancelledError,
    GeneratorExit,
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.ReadOnlySQLTransactionError,
)


class Queryable(Protocol):
    """What store functions take: a Database for a plain read, or a Transaction."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...

    async def fetchrow(self, query: str, *args: Any) -> Any: ...

    async def fetchval(self, query: str, *args: Any) -> Any: ...

    async def execute(self, query: str, *args: Any) -> str: ...


class Transaction:
    """An open transaction, and the notifications it sends at commit, as (topic, payload).

    `answer` is the response body of the request that it belongs to, where that is stored with it.
    """

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.fetch: Callable[..., Coroutine[Any, Any, list[Any]]] = connection.fetch
        self.fetchrow: Callable[..., Coroutine[Any, Any, Any]] = connection.fetchrow
        self.fetchval: Callable[..., Coroutine[Any, Any, Any]] = connection.fetchval
        self.execute: Callable[..., Coroutine[Any, Any, str]] = connection.execute
        self.notifications: list[tuple[str, bytes]] = []
        self.answer: Any = None


class Database:
    """The connections of one process.

    `invalidators` apply this process's own notifications, by topic, right after the commit, before they come back from
    the server.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.invalidators: Mapping[str, Callable[[bytes], None]] = {}

    @classmethod
    def at(cls, url: str, *, size: int, statement_timeout_s: float = 5) -> "Database":
        """Return the database at `url`, with at most `size` connections, opened on demand.

        A web process that restarts during an outage therefore waits for the database instead of failing.
        """
        return cls(
            Pool(
                url,
                size=size,
                timeout=_CONNECT_S,
                # For a server that no longer responds: with a second for connecting, requests end within six.
                command_timeout=statement_timeout_s - 0.5,
                max_cached_statement_lifetime=0,  # there are few, valid as long as the connection
                statement_cache_size=_STATEMENTS,
                server_settings={**SESSION, "statement_timeout": f"{statement_timeout_s:.0f}s"},
            )
        )

    async def close(self) -> None:
        """Wait for running queries, then close every connection."""
        await self._pool.close()

    def is_saturated(self) -> bool:
        """Return whether the pool is saturated."""
        return self._pool.is_saturated()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run the block in one transaction, committed when it ends and rolled back when it raises."""
        connection = await self._pool.take()
        tx, reusable = Transaction(connection), True
        try:
            transaction = connection.transaction()  # raises if the connection was lost while it was handed over
            await transaction.start()
            try:
                yield tx
            except _CUT_OFF:
                raise  # closing the connection rolls back; a ROLLBACK would only time out again
            except BaseException:
                await transaction.rollback()
                raise
            await transaction.commit()
        except _CUT_OFF:
            reusable = False
            raise
        finally:
            self._pool.give(connection, reusable=reusable)
            for topic, payload in tx.notifications:  # also after an error: the commit may have succeeded
                if topic in self.invalidators:
                    self.invalidators[topic](payload)

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Return the rows of one statement."""
        rows: list[Any] = await self._run("fetch", query, args)
        return rows

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """Return the first row of one statement, or None."""
        return await self._run("fetchrow", query, args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row, or None."""
        return await self._run("fetchval", query, args)

    async def execute(self, query: str, *args: Any) -> str:
        """Run one statement and return its command tag."""
        tag: str = await self._run("execute", query, args)
        return tag

    async def _run(self, method: str, query: str, args: tuple[Any, ...]) -> Any:
        connection = await self._pool.take()
        reusable = True
        try:
            return await getattr(connection, method)(query, *args)
        except _CUT_OFF:
            reusable = False
            raise
        finally:
            # No code here changes session state, so the connection needs no RESET ALL, which is a round trip.
            self._pool.give(connection, reusable=reusable)


def unscoped(reason: str) -> Callable[[F], F]:
    """Mark a store function that takes no program_id, with the reason; a structure test rejects unmarked ones."""

    def mark(function: F) -> F:
        function.__dict__["unscoped"] = reason
        return function

    return mark
