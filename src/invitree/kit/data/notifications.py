"""Notifications between processes: PostgreSQL's LISTEN/NOTIFY, delivered at commit and in commit order."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import asyncpg
import msgspec
import structlog

from invitree.kit.clock import Clock
from invitree.kit.data.cache import Cache
from invitree.kit.data.connections import connect
from invitree.kit.data.db import OUTAGES, Transaction
from invitree.kit.process.retries import RetryLog

_HEARTBEAT_S = 0.25
_HEARTBEAT_TIMEOUT_S = 0.5  # plus the heartbeat: 0.75 s, less than the second within which processes must agree
_TRUST_S = 1.0  # how long caches stay valid after the last answer from the database
_MAX_DELAY_S = 1.0  # between attempts to reconnect; until then every read goes to the database
_log = structlog.get_logger()

Handler = Callable[[bytes], None]


async def notify(tx: Transaction, *, topic: str, payload: Any) -> None:
    """Notify every process when the transaction commits, with at most 8,000 bytes of JSON.

    This process's own caches are invalidated right after the commit.
    """
    encoded = msgspec.json.encode(payload)
    tx.notifications.append((topic, encoded))
    await tx.execute("SELECT pg_notify($1, $2)", f"invitree_{topic}", encoded.decode())


class Listener:
    """Receives notifications on its own connection, adjusts the clock, and opens the caches only while connected.

    `on_connect` is called after every connect: earlier notifications were missed.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        caches: Mapping[str, Cache[Any, Any]],
        handlers: Mapping[str, Handler],
        on_connect: Callable[[], None],
    ) -> None:
        self._url, self._clock, self._caches, self._handlers = url, clock, caches, handlers
        self._on_connect = on_connect
        self._task: asyncio.Task[None] | None = None
        self._retries = RetryLog("listener.lost", first_s=_HEARTBEAT_S, longest_s=_MAX_DELAY_S)

    async def start(self) -> None:
        """Start listening. The caches stay closed until the database can be reached."""
        try:
            connection = await self._connect()
        except (*OUTAGES, asyncpg.PostgresError):
            connection = None
        self._task = asyncio.create_task(self._listen(connection))

    async def stop(self) -> None:
        """Close the caches and the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self, connection: "asyncpg.Connection[asyncpg.Record] | None") -> None:
        while True:
            delay_s = 0.0
            try:
                connection = connection or await self._connect()
                self._retries.succeeded()
                await self._keep_listening(connection)
            except Exception as error:
                delay_s = self._retries.failed(f"{type(error).__name__}: {error}")
            finally:
                for cache in self._caches.values():
                    cache.close()
                if connection is not None:
                    connection.terminate()
            connection = None
            await asyncio.sleep(delay_s)

    async def _connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        connection: asyncpg.Connection[asyncpg.Record] = await connect(
            self._url, timeout=1, command_timeout=1, server_settings={"application_name": "invitree listener"}
        )
        try:
            for topic, handler in self._handlers.items():
                await connection.add_listener(f"invitree_{topic}", _callback(handler))
            await self._heartbeat(connection)
        except BaseException:
            connection.terminate()
            raise
        for cache in self._caches.values():
            cache.open()
        self._on_connect()
        return connection

    async def _keep_listening(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            await self._heartbeat(connection)

    async def _heartbeat(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        asked_at = time.time()
        self._clock.set(
            await connection.fetchval("SELECT clock_timestamp()", timeout=_HEARTBEAT_TIMEOUT_S), asked_at=asked_at
        )
        # Notifications of whatever was committed before the query arrive before its answer.
        until = self._clock.seconds() - (time.time() - asked_at) + _TRUST_S
        for cache in self._caches.values():
            cache.trust(until=until)


def _callback(handler: Handler) -> Callable[[Any, int, str, object], None]:
    def on_notification(connection: Any, _pid: int, channel: str, payload: object) -> None:
        try:
            handler(str(payload).encode())
        except Exception:
            # Perhaps sent by another version. What changed is unknown: reconnect, which clears the caches.
            _log.exception("news.unreadable", channel=channel)
            connection.terminate()

    return on_notification
