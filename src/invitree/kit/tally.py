"""How often something was done, counted in memory and added up with the other processes' counts twice a second.

For what is asked so often that a row written each time would cost more than the answer. Within a process a limit is
exact; several together may let through what each does in half a second. The counts are rows of `kit.throttle`'s table.
"""

import asyncio
import contextlib
import math
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from typing import Any

import asyncpg
import structlog
from msgspec import Struct

from invitree.base.problems import TooManyRequests
from invitree.kit.clock import Clock
from invitree.kit.db import OUTAGES, Database
from invitree.kit.keys import Keyring
from invitree.kit.throttle import Limit, tell

_EVERY_S = 0.5
_AT_ONCE = 500  # rows of one statement
_log = structlog.get_logger()

_Key = tuple[int, str, str]


class _Count(Struct, gc=False):
    """The moment at which a count is clear, as far as is known here, and how much of that nobody else knows."""

    clear_at: float
    untold_s: float


class Tally:
    """Counts uses of limits. `on=False` lets everything through."""

    def __init__(self, db: Database, keys: Keyring, clock: Clock, *, on: bool) -> None:
        self._db, self._keys, self._clock, self._on = db, keys, clock, on
        self._counts: dict[_Key, _Count] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to add up."""
        self._task = asyncio.create_task(self._add_up_for_ever()) if self._on else None

    async def stop(self) -> None:
        """Add up once more, and no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            with contextlib.suppress(*OUTAGES, asyncpg.PostgresError):
                await self.add_up()

    def count(self, scope: Any, program_id: int, first: Limit, *others: Limit) -> None:
        """Count one use of every limit. Raises TooManyRequests, and then none is counted.

        The answer to the request of this ASGI scope tells how much is left of `first`, the caller's own.
        """
        if not self._on:
            return
        now, waits, moved = self._clock.seconds(), [], []
        for limit in (first, *others):
            count = self._counts.get(key := (program_id, limit.scope, limit.key))
            clear_at = max(count.clear_at if count else 0.0, now) + limit.step_s
            if clear_at > now + limit.rate.period_s:
                waits.append(clear_at - now - limit.rate.period_s)
            moved.append((key, clear_at, limit.step_s + (count.untold_s if count else 0.0)))
        tell(scope, first, ahead_s=moved[0][1] - now - (first.step_s if waits else 0.0))
        if waits:
            raise TooManyRequests(retry_after_s=max(1, math.ceil(max(waits))))
        for key, clear_at, untold_s in moved:
            self._counts[key] = _Count(clear_at, untold_s)

    async def add_up(self) -> None:
        """Tell the database what was counted here, and learn what was counted elsewhere."""
        now = self._clock.seconds()
        for key in [key for key, count in self._counts.items() if count.clear_at <= now and not count.untold_s]:
            del self._counts[key]
        untold = iter([key for key, count in self._counts.items() if count.untold_s])
        while some := list(islice(untold, _AT_ONCE)):
            await self._tell_database(some)

    async def _tell_database(self, keys: Sequence[_Key]) -> None:
        told = [self._counts[key].untold_s for key in keys]
        rows = await self._db.fetch(
            """
            INSERT INTO throttles AS t (program_id, scope, key, clear_at)
            SELECT asked.program_id, asked.scope, asked.key, statement_timestamp() + asked.moved
            FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::interval[]) AS asked (program_id, scope, key, moved)
            ORDER BY asked.program_id, asked.scope, asked.key
            ON CONFLICT (program_id, scope, key) DO UPDATE
            SET clear_at = greatest(t.clear_at, statement_timestamp()) + (EXCLUDED.clear_at - statement_timestamp())
            RETURNING t.program_id, t.scope, t.key, t.clear_at
            """,
            [program_id for program_id, _, _ in keys],
            [scope for _, scope, _ in keys],
            prints := [self._keys.fingerprint(key) for _, _, key in keys],
            [timedelta(seconds=untold_s) for untold_s in told],
        )
        sums = {(row["program_id"], row["scope"], row["key"]): row["clear_at"].timestamp() for row in rows}
        for key, told_s, fingerprint in zip(keys, told, prints, strict=True):
            count = self._counts[key]
            count.untold_s = round(count.untold_s - told_s, 6)
            count.clear_at = max(count.clear_at, sums[key[0], key[1], fingerprint] + count.untold_s)

    async def _add_up_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            try:
                await self.add_up()
            except (*OUTAGES, asyncpg.PostgresError) as error:
                # What was counted is kept, and told when that is possible.
                _log.warning("tally.not_told", reason=type(error).__name__)
