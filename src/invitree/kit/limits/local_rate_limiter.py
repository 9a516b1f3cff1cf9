"""Rate limits counted in memory and synchronized with the other processes twice a second.

For requests so frequent that writing a row each time would cost more than the answer. A limit is exact within a
process; several processes together may exceed it by what each allows in half a second. The counts are stored in the
table of `kit.limits.rate_limiter`.

While the database is down, each process counts alone, and later syncs what has not expired. If the database counted but
its answer was lost, the same uses are sent again: the count is then too high for a while, by what one process allowed,
but never too low.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

from msgspec import Struct

from invitree.base.problems import TooManyRequests
from invitree.kit.data.db import Database
from invitree.kit.limits.rate_limiter import Limit, add_ratelimit_headers
from invitree.kit.process.retries import RetryLog
from invitree.kit.secrets.keys import Keyring

_SYNC_INTERVAL_S = 0.5
_BATCH_SIZE = 500  # rows of one statement
_EPSILON_S = 1e-6  # floating-point steps do not add up exactly to a period

_Key = tuple[int, str, str]


class _Count(Struct, gc=False):
    """When a count is back at zero, as far as this process knows, and how much of that has not been synced."""

    clear_at: float
    unsynced_s: float
    fingerprint: bytes = b""


class LocalRateLimiter:
    """Counts uses of limits. `on=False` allows everything.

    `now` is a monotonic clock of this process, in seconds; only durations are exchanged with the database.
    """

    def __init__(self, db: Database, keys: Keyring, *, on: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._db, self._keys, self._on, self._now = db, keys, on, now
        self._counts: dict[_Key, _Count] = {}
        self._max_period_s = 0.0  # the longest period of any limit
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._syncing = asyncio.Lock()
        self._retries = RetryLog("tally.not_told")

    async def start(self) -> None:
        """Start synchronizing."""
        self._task = asyncio.create_task(self._sync_forever()) if self._on else None

    async def stop(self) -> None:
        """Synchronize one last time, and stop."""
        self._stopping.set()
        if self._task is not None:
            await self._task

    def count(self, scope: Any, program_id: int, first: Limit, *others: Limit) -> None:
        """Count one use of every limit, or raise TooManyRequests and count none.

        The response headers of the ASGI request report what is left of `first`, the caller's own limit.
        """
        if not self._on:
            return
        now, waits, charges = self._now(), [], []
        for limit in (first, *others):
            count = self._counts.get(key := (program_id, limit.scope, limit.key))
            clear_at = max(count.clear_at, now) + limit.step_s if count else now + limit.step_s
            if clear_at > now + limit.rate.period_s + _EPSILON_S:
                waits.append(clear_at - now - limit.rate.period_s)
            if count is None:
                self._max_period_s = max(self._max_period_s, limit.rate.period_s)
            charges.append((key, count, clear_at, limit.step_s))
        add_ratelimit_headers(scope, first, ahead_s=charges[0][2] - now - (first.step_s if waits else 0.0))
        if waits:
            raise TooManyRequests(retry_after_s=max(1, math.ceil(max(waits) - _EPSILON_S)))
        for key, count, clear_at, step_s in charges:
            if count is None:
                self._counts[key] = _Count(clear_at, step_s)
            else:
                count.clear_at, count.unsynced_s = clear_at, count.unsynced_s + step_s

    async def sync(self) -> None:
        """Send unsynced counts to the database, and read those of other processes."""
        async with self._syncing:  # two concurrent syncs would send the same counts twice
            now = self._now()
            for key in [key for key, count in self._counts.items() if count.clear_at <= now]:
                del self._counts[key]  # synced or not: it has expired
            unsynced = iter([key for key, count in self._counts.items() if count.unsynced_s])
            while batch := list(islice(unsynced, _BATCH_SIZE)):
                await self._sync_batch(batch)

    async def _sync_batch(self, keys: Sequence[_Key]) -> None:
        now, counts = self._now(), [self._counts[key] for key in keys]
        unsynced = [count.unsynced_s for count in counts]
        # While the database was down some of it has expired: send only the rest.
        sent = [min(count.unsynced_s, max(0.0, count.clear_at - now)) for count in counts]
        rows = await self._db.fetch(
            """
            INSERT INTO throttles AS t (program_id, scope, key, clear_at)
            SELECT given.program_id, given.scope, given.key, statement_timestamp() + given.moved
            FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::interval[]) AS given (program_id, scope, key, moved)
            ORDER BY given.program_id, given.scope, given.key
            ON CONFLICT (program_id, scope, key) DO UPDATE
            -- A value further ahead than any period was written while the clock was ahead.
            SET clear_at = greatest(least(t.clear_at, statement_timestamp() + $5::interval), statement_timestamp())
                           + (EXCLUDED.clear_at - statement_timestamp())
            RETURNING t.program_id, t.scope, t.key, t.clear_at - statement_timestamp() AS ahead
            """,
            [program_id for program_id, _, _ in keys],
            [scope for _, scope, _ in keys],
            fingerprints := [self._fingerprint(key, count) for (_, _, key), count in zip(keys, counts, strict=True)],
            [timedelta(seconds=sent_s) for sent_s in sent],
            timedelta(seconds=self._max_period_s),
        )
        ahead = {(row["program_id"], row["scope"], row["key"]): row["ahead"].total_seconds() for row in rows}
        for key, unsynced_s, fingerprint in zip(keys, unsynced, fingerprints, strict=True):
            count = self._counts[key]  # may have been charged meanwhile
            count.unsynced_s = round(count.unsynced_s - unsynced_s, 6)
            count.clear_at = max(count.clear_at, now + ahead[key[0], key[1], fingerprint] + count.unsynced_s)
        self._retries.succeeded()

    def _fingerprint(self, key: str, count: _Count) -> bytes:
        count.fingerprint = count.fingerprint or self._keys.fingerprint(key)
        return count.fingerprint

    async def _sync_forever(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _SYNC_INTERVAL_S)
            try:
                await self.sync()
            except Exception as error:
                # The counts are kept and sent once the database is back.
                self._retries.failed(type(error).__name__)
