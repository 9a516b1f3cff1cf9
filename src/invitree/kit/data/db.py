"""The database: a pool that never waits long, and transactions that are visible where they are used."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import asyncpg

from invitree.kit.data.pool import Pool

F = TypeVar("F", bound=Callable[..., Any])

_CONNECT_S = 1.0
_STATEMENTS = 500  # more than there are
SESSION = {
    "application_name": "invitree",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
}

# What a request may meet while the database is away, full, restarting or slow: told as 503, to be tried again.
OUTAGES = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # between the words with which the database ends a connection, and its end
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
)


# A statement may still be running, and its answer come when nobody waits for it; or the connection is about to end, or
# leads to a server that has become a standby.
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
    """What a store function needs: the pool for a plain read, a connection inside a transaction."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...

    async def fetchrow(self, query: str, *args: Any) -> Any: ...

    async def fetchval(self, query: str, *args: Any) -> Any: ...

    async def execute(self, query: str, *args: Any) -> str: ...


class Transaction:
    """A connection inside a transaction, and the notifications that its commit sends, as (topic, payload).

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

    `invalidators` apply this process's own notifications, by topic, as soon as they are committed: they are still on
    their way back to it.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.invalidators: Mapping[str, Callable[[bytes], None]] = {}

    @classmethod
    def at(cls, url: str, *, size: int, statement_timeout_s: float = 5) -> "Database":
        """Return the database at `url`, over at most `size` connections, which are made when they are needed.

        So a web process that is started anew during an outage waits for the database, and does not die.
        """
        return cls(
            Pool(
                url,
                size=size,
                timeout=_CONNECT_S,
                # For a server that has stopped answering: with a second for a connection, an answer within six.
                command_timeout=statement_timeout_s - 0.5,
                max_cached_statement_lifetime=0,  # they are few, and good as long as the connection is
                statement_cache_size=_STATEMENTS,
                server_settings={**SESSION, "statement_timeout": f"{statement_timeout_s:.0f}s"},
            )
        )

    async def close(self) -> None:
        """Let running queries end, then close every connection."""
        await self._pool.close()

    def is_overdue(self) -> bool:
        """Return whether connections are waited for that long that nobody should begin to."""
        return self._pool.is_overdue()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Run the block in one transaction, committed when it ends and rolled back when it raises."""
        connection = await self._pool.take()
        tx, fit = Transaction(connection), True
        transaction = connection.transaction()
        try:
            await transaction.start()
            try:
                yield tx
            except _CUT_OFF:
                raise  # it ends with the connection: a ROLLBACK would be waited for as long again, in vain
            except BaseException:
                await transaction.rollback()
                raise
            await transaction.commit()
        except _CUT_OFF:
            fit = False
            raise
        finally:
            self._pool.give(connection, fit=fit)
            for topic, payload in tx.notifications:  # also after an error, which may have come after the commit
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

    async def _run(self, how: str, query: str, args: tuple[Any, ...]) -> Any:
        connection = await self._pool.take()
        fit = True
        try:
            return await getattr(connection, how)(query, *args)
        except _CUT_OFF:
            fit = False
            raise
        finally:
            # Nothing here leaves session state behind, so it is lent again as it is: RESET ALL is a round trip.
            self._pool.give(connection, fit=fit)


def unscoped(reason: str) -> Callable[[F], F]:
    """Mark a store function that names no program, and say why; a structure test refuses the others."""

    def mark(function: F) -> F:
        function.__dict__["unscoped"] = reason
        return function

    return mark
