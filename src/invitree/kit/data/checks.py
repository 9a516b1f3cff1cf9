"""Checks that the database is usable, run at startup and by `/readyz`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg

from invitree.kit.data.connections import connect
from invitree.kit.data.db import OUTAGES, SESSION, Queryable

_OLDEST_POSTGRES = 15
_TIMEOUT_S = 5.0
_POOLED = (
    "INVITREE_DATABASE_URL leads to a connection pooler, such as PgBouncer, through which {what}; "
    "give the address of PostgreSQL itself (Invitree needs no pooler: docs/operating.md)"
)


class UnusableDatabase(Exception):
    """The service cannot use the database. The message is one line for the operator."""


class UnreachableDatabase(UnusableDatabase):
    """The database does not answer or refuses the connection, perhaps only for now."""


async def check_reachable(url: str) -> None:
    """Check that a database accepts connections and has a supported version and encoding. Raises UnusableDatabase."""
    async with _connected(url):
        pass


async def check_usable(url: str) -> None:
    """Check everything that the service needs of a database. Raises UnusableDatabase."""
    async with _connected(url) as first, _connected(url) as second:
        if fault := await find_fault(first) or await _find_pooler(first, second):
            raise UnusableDatabase(fault)


async def find_fault(db: Queryable) -> str | None:
    """Return one line about what makes a reachable database unusable, or None."""
    found = await db.fetchrow(
        """
        SELECT pg_is_in_recovery() AS is_standby,
            current_setting('transaction_read_only') = 'on' AS is_read_only,
            current_schema() IS NULL AS lacks_schema,
            current_setting('synchronous_commit') = 'off' AS is_lossy,
            current_setting('lock_timeout') <> $1 AS is_pooled,
            (SELECT min(name) FROM unnest('{programs,users,sessions,audit,throttles,pgqueuer}'::text[]) name
             WHERE NOT has_table_privilege(to_regclass(name), 'INSERT')) AS closed_table,
            to_regclass('programs') IS NULL AND NOT has_schema_privilege(current_schema(), 'CREATE') AS is_closed,
            current_schema() AS schema,
            current_user AS role
        """,
        SESSION["lock_timeout"],
    )
    role = '"' + found["role"].replace('"', '""') + '"'
    faults = (
        (found["is_standby"], "the database is a standby, which only reads; give the address of the primary"),
        (
            found["is_read_only"],
            f"the database is read-only for {role}; ALTER ROLE {role} RESET default_transaction_read_only, "
            "or the same for the database, ends that",
        ),
        (
            found["lacks_schema"],
            f"search_path names no schema that is there and open to {role}; CREATE SCHEMA one of them, or set another: "
            f"ALTER ROLE {role} SET search_path = public",
        ),
        (
            found["is_lossy"],
            "synchronous_commit is off, and a crash would lose what people were told is done; "
            f"ALTER ROLE {role} SET synchronous_commit = on",
        ),
        (
            found["closed_table"],
            f"{role} may not write to the table {found['closed_table']}; "
            "connect as the role that the tables belong to, or grant it what that one may",
        ),
        (
            found["is_closed"],
            f"{role} may not create tables in the schema {found['schema']}; "
            f"GRANT CREATE ON SCHEMA {found['schema']} TO {role}, or make it the owner of the database",
        ),
        (found["is_pooled"], _POOLED.format(what="the settings of a session do not get")),
    )
    return next((message for is_faulty, message in faults if is_faulty), None)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    try:
        connection = await connect(url, timeout=_TIMEOUT_S, server_settings=SESSION)
    except asyncpg.ProtocolViolationError as error:
        if "startup parameter" not in str(error):
            raise UnreachableDatabase(_unreachable(error)) from None
        raise UnusableDatabase(_POOLED.format(what="the settings of a session do not get")) from None
    except (*OUTAGES, asyncpg.PostgresError, ValueError) as error:
        raise UnreachableDatabase(_unreachable(error)) from None
    try:
        version, encoding = connection.get_server_version().major, connection.get_settings().server_encoding
        if version < _OLDEST_POSTGRES:
            raise UnusableDatabase(f"the database is PostgreSQL {version}; {_OLDEST_POSTGRES} or newer is needed")
        if encoding != "UTF8":
            raise UnusableDatabase(f"the database's encoding is {encoding}; UTF8 is needed")
        yield connection
    finally:
        await connection.close(timeout=_TIMEOUT_S)


def _unreachable(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0] or type(error).__name__
    return f"the database at INVITREE_DATABASE_URL cannot be reached: {reason}"


async def _find_pooler(first: Any, second: Any) -> str | None:
    """Return one line about session state that a connection pooler loses between transactions, or None."""
    received = asyncio.Event()
    channel = f"invitree_check_{uuid4().hex}"
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await first.add_listener(channel, lambda *_: received.set())
            session = await first.prepare("SELECT pg_backend_pid()")
            before = await session.fetchval()
            async with second.transaction():
                # A pooler hands out the most recently returned session, so it would be taken by this transaction.
                await second.execute("SELECT pg_notify($1, '')", channel)
                after = await session.fetchval()
            await session.fetchval()  # a notification arrives before the answer to this query
    except (TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return _POOLED.format(what="prepared statements do not last")
    return None if before == after and received.is_set() else _POOLED.format(what="LISTEN does not last")
