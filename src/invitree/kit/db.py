"""The database: a pool that never waits long, and transactions that are visible where they are used."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import asyncpg

F = TypeVar("F", bound=Callable[..., Any])

_POOL_WAIT_S = 1.0
_CLOSING_S = 5.0
_SESSION = {
    "application_name": "invitree",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "timezone": "UTC",
}

# What a request may meet while the database is away, full, restarting or slow: told as 503, to be tried again.
OUTAGES = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
)


class Queryable(Protocol):
    """What a store function needs: the pool for a plain read, a connection inside a transaction."""

    async def fetch(self, query: str, *args: Any) -> list[Any]: ...

    async def fetchrow(self, query: str, *args: Any) -> Any: ...

    async def fetchval(self, query: str, *args: Any) -> Any: ...

    async def execute(self, query: str, *args: Any) -> str: ...


class Database:
    """The pool of one process."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str, *, size: int, statement_timeout_s: float = 5) -> "Database":
        """Return a pool of at most `size` connections to `url`, made when they are needed."""
        pool = await asyncpg.create_pool(
            url,
            min_size=0,  # a web process that is started anew during an outage waits for the database, and does not die
            max_size=size,
            reset=_reset,
            # For a server that has stopped answering; the attempt to cancel takes another second.
            command_timeout=statement_timeout_s - 0.25,
            timeout=_POOL_WAIT_S,
            server_settings={**_SESSION, "statement_timeout": f"{statement_timeout_s:.0f}s"},
        )
        return cls(pool)

    async def close(self) -> None:
        """Let running queries end, then close every connection."""
        try:
            await asyncio.wait_for(self._pool.close(), timeout=_CLOSING_S)
        except TimeoutError:
            self._pool.terminate()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Queryable]:
        """Run the block in one transaction, committed when it ends and rolled back when it raises."""
        async with self._pool.acquire(timeout=_POOL_WAIT_S) as connection, connection.transaction():
            yield connection

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        """Return the rows of one statement."""
        async with self._pool.acquire(timeout=_POOL_WAIT_S) as connection:
            return await connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        """Return the first row of one statement, or None."""
        async with self._pool.acquire(timeout=_POOL_WAIT_S) as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        """Return the first column of the first row, or None."""
        async with self._pool.acquire(timeout=_POOL_WAIT_S) as connection:
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        """Run one statement and return its command tag."""
        async with self._pool.acquire(timeout=_POOL_WAIT_S) as connection:
            return await connection.execute(query, *args)


async def _reset(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Hand a connection back without asyncpg's RESET ALL, which costs a round trip a request.

    Nothing here leaves session state behind; a transaction cut off so hard that it could not be rolled back is all that
    can be left, and that connection is not used again.
    """
    if connection.is_in_transaction():
        connection.terminate()


def unscoped(reason: str) -> Callable[[F], F]:
    """Mark a store function that names no program, and say why; a structure test refuses the others."""

    def mark(function: F) -> F:
        function.__dict__["unscoped"] = reason
        return function

    return mark
