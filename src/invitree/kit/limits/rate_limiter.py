"""Rate limits counted in the database, exact across all processes.

The generic cell rate algorithm (ITU-T I.371): a count is stored as the time at which it is back at zero, and every use
moves that time ahead by the rate's period divided by its times.
"""

import math
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any

from litestar.connection import ASGIConnection
from msgspec import Struct

from invitree.base.problems import TooManyRequests
from invitree.base.rates import Rate, parse_rate
from invitree.kit.data.db import Database
from invitree.kit.secrets.keys import Keyring

# A count further ahead than its span was written while the clock was ahead. It is ignored, or it would block everybody
# until then. (One second of tolerance for small clock differences.)
_CLEAR_AT = """
    CASE
        WHEN t.clear_at > clock_timestamp() + ($5::interval[])[array_position($2, EXCLUDED.scope)] + interval '1 second'
        THEN clock_timestamp() ELSE greatest(t.clear_at, clock_timestamp())
    END
"""


class Limit(Struct, frozen=True, kw_only=True):
    """A rate, its name, and the key by which uses are counted, which is stored as a keyed hash."""

    scope: str
    key: str
    rate: Rate

    @property
    def step_s(self) -> float:
        """The time one use adds, in seconds."""
        return self.rate.period_s / self.rate.times

    @property
    def step(self) -> timedelta:
        """The time one use adds."""
        return timedelta(seconds=self.step_s)

    @property
    def span(self) -> timedelta:
        """The furthest a count may be ahead of the clock."""
        return timedelta(seconds=self.rate.period_s)


def limit(scope: str, rate: str, *key: str) -> Limit:
    """Return a limit with this name, a rate such as `10/5m`, and a key made of these parts."""
    return Limit(scope=scope, key="\n".join(key), rate=parse_rate(rate))


class RateLimiter:
    """Counts uses of limits. `on=False` allows everything."""

    def __init__(self, db: Database, keys: Keyring, *, on: bool) -> None:
        self._db, self._keys, self._on = db, keys, on

    async def charge(
        self, connection: ASGIConnection[Any, Any, Any, Any], program_id: int, first: Limit, *others: Limit
    ) -> None:
        """Count one use of every limit, or raise TooManyRequests and count none.

        The response headers report what is left of `first`, which should be the caller's own limit: they must not
        reveal what others did.
        """
        if not self._on:
            return
        limits = [first, *others]
        ahead = await self._charge(program_id, limits)
        if len(ahead) == len(limits):
            add_ratelimit_headers(connection.scope, first, ahead_s=ahead[first.scope].total_seconds())
            return
        await self.refund(program_id, *(passed for passed in limits if passed.scope in ahead))
        refused = [limit for limit in limits if limit.scope not in ahead]
        waits = await self._waits(program_id, refused)
        if first in refused:
            add_ratelimit_headers(connection.scope, first, ahead_s=first.rate.period_s)
        raise TooManyRequests(retry_after_s=max(1, math.ceil(max(wait.total_seconds() for wait in waits))))

    async def refund(self, program_id: int, *limits: Limit) -> None:
        """Undo one use of each limit."""
        if self._on and limits:
            await self._take_back(program_id, limits, [limit.step for limit in limits])

    async def clear(
        self, connection: ASGIConnection[Any, Any, Any, Any], program_id: int, limit: Limit, *others: Limit
    ) -> None:
        """Reset a limit and report so in the response headers; undo one use of each of the others."""
        if self._on:
            add_ratelimit_headers(connection.scope, limit, ahead_s=0)
            # No count is further ahead than its span.
            await self._take_back(program_id, [limit, *others], [limit.span, *(limit.step for limit in others)])

    async def _take_back(self, program_id: int, limits: Sequence[Limit], spans: Sequence[timedelta]) -> None:
        await self._db.execute(
            """
            WITH held AS (
                -- Locked in the same order as in `_charge`, to avoid deadlocks.
                SELECT t.scope, t.key, given.span
                FROM throttles t
                JOIN unnest($2::text[], $3::bytea[], $4::interval[]) AS given (scope, key, span) USING (scope, key)
                WHERE t.program_id = $1
                ORDER BY t.scope, t.key
                FOR UPDATE OF t
            )
            UPDATE throttles t SET clear_at = t.clear_at - held.span
            FROM held WHERE t.program_id = $1 AND t.scope = held.scope AND t.key = held.key
            """,
            program_id,
            *self._columns(limits)[:2],
            spans,
        )

    async def purge(self, program_id: int) -> None:
        """Delete the counts that are back at zero, except those locked by a concurrent request."""
        # SKIP LOCKED because the lock order here differs from that of `_charge`: waiting could deadlock.
        # now() because an index cannot be searched with the volatile clock_timestamp().
        await self._db.execute(
            """
            DELETE FROM throttles WHERE program_id = $1 AND (scope, key) IN (
                SELECT scope, key FROM throttles WHERE program_id = $1 AND clear_at < now() FOR UPDATE SKIP LOCKED
            )
            """,
            program_id,
        )

    async def _charge(self, program_id: int, limits: Sequence[Limit]) -> dict[str, timedelta]:
        """Charge each limit whose rate allows it; return how far ahead those counts now are, by scope.

        Rows are locked in the order of their keys, to avoid deadlocks.
        """
        rows = await self._db.fetch(
            f"""
            INSERT INTO throttles AS t (program_id, scope, key, clear_at)
            SELECT $1, given.scope, given.key, clock_timestamp() + given.step
            FROM unnest($2::text[], $3::bytea[], $4::interval[]) AS given (scope, key, step)
            ORDER BY given.scope, given.key
            ON CONFLICT (program_id, scope, key) DO UPDATE
            SET clear_at = {_CLEAR_AT} + ($4::interval[])[array_position($2, EXCLUDED.scope)]
            WHERE {_CLEAR_AT} + ($4::interval[])[array_position($2, EXCLUDED.scope)]
                  <= clock_timestamp() + ($5::interval[])[array_position($2, EXCLUDED.scope)]
            RETURNING t.scope, t.clear_at - clock_timestamp() AS ahead
            """,  # noqa: S608  a constant
            program_id,
            *self._columns(limits),
        )
        return {row["scope"]: row["ahead"] for row in rows}

    async def _waits(self, program_id: int, limits: Sequence[Limit]) -> Sequence[timedelta]:
        rows = await self._db.fetch(
            """
            SELECT t.clear_at + given.step - given.span - clock_timestamp() AS wait
            FROM unnest($2::text[], $3::bytea[], $4::interval[], $5::interval[]) AS given (scope, key, step, span)
            JOIN throttles t ON t.program_id = $1 AND t.scope = given.scope AND t.key = given.key
            """,
            program_id,
            *self._columns(limits),
        )
        return [row["wait"] for row in rows] or [timedelta()]

    def _columns(self, limits: Sequence[Limit]) -> tuple[list[str], list[bytes], list[timedelta], list[timedelta]]:
        return (
            [limit.scope for limit in limits],
            [self._keys.fingerprint(limit.key) for limit in limits],
            [limit.step for limit in limits],
            [limit.span for limit in limits],
        )


def add_ratelimit_headers(scope: Any, limit: Limit, *, ahead_s: float) -> None:
    """Report what is left of a limit in the response headers (draft-ietf-httpapi-ratelimit-headers-10)."""
    # The database rounds to microseconds, so a value just under a whole use counts as that use.
    left = math.floor((limit.rate.period_s - ahead_s) / limit.step_s + 1e-3)
    reset_s = max(0, math.ceil(ahead_s))
    scope["ratelimit"] = [
        (b"ratelimit-policy", _policy(limit.scope, limit.rate)),
        (b"ratelimit", f'"{limit.scope}";r={max(0, left)};t={reset_s}'.encode()),
    ]


@cache
def _policy(scope: str, rate: Rate) -> bytes:
    return f'"{scope}";q={rate.times};w={rate.period_s}'.encode()
