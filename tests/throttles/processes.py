"""Processes that count, with a clock that is moved by hand, and what the database knows of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import asyncpg
import pytest

from invitree.base.problems import TooManyRequests
from invitree.kit.context import AppContext
from invitree.kit.data.db import Database
from invitree.kit.limits.local_rate_limiter import LocalRateLimiter
from invitree.kit.limits.rate_limiter import Limit, limit

_numbers = count(1)


class Watch:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds


class Process:
    """The tally of a process, and what its callers see."""

    def __init__(self, ctx: AppContext, db: Database | None = None) -> None:
        self.watch = Watch()
        self.tally = LocalRateLimiter(db or ctx.db, ctx.keys, on=True, now=self.watch)

    def passes(self, *limits: Limit, program_id: int = 1) -> bool:
        """Use limits once, and return whether that was allowed."""
        try:
            self.tally.count({}, program_id, *limits)
        except TooManyRequests:
            return False
        return True

    def passed(self, times: int, *limits: Limit) -> int:
        """Use limits so many times, and return how often that was allowed."""
        return sum(self.passes(*limits) for _ in range(times))

    def left(self, one: Limit) -> str:
        """Return what a caller is told, of a use that is allowed."""
        scope: dict[str, Any] = {}
        self.tally.count(scope, 1, one)
        return str(dict(scope["ratelimit"])[b"ratelimit"].decode())

    def retry_after_s(self, one: Limit) -> int | None:
        """Return after how many seconds a caller is told to try again."""
        with pytest.raises(TooManyRequests) as caught:
            self.tally.count({}, 1, one)
        return caught.value.retry_after_s


def new(rate: str, scope: str = "test") -> Limit:
    """Return a limit that nobody has used."""
    return limit(scope, rate, f"key {next(_numbers)}")


async def ahead(ctx: AppContext, one: Limit, *, program_id: int = 1) -> float:
    """Return how many uses of a limit the database knows of."""
    seconds = await ctx.db.fetchval(
        """
        SELECT extract(epoch FROM clear_at - clock_timestamp())::float8 FROM throttles
        WHERE program_id = $1 AND scope = $2 AND key = $3
        """,
        program_id,
        one.scope,
        ctx.keys.fingerprint(one.key),
    )
    return (seconds or 0.0) / one.step_s


def is_about(uses: float, number: int) -> bool:
    """Return whether so many uses were counted, of which a little may have run out since."""
    return number - 0.5 < uses <= number


@asynccontextmanager
async def held(url: str, ctx: AppContext, one: Limit) -> AsyncIterator[None]:
    """Keep everybody off a limit's row for the length of a block."""
    connection = await asyncpg.connect(url)
    async with connection.transaction():
        await connection.execute("SELECT FROM throttles WHERE key = $1 FOR UPDATE", ctx.keys.fingerprint(one.key))
        yield
    await connection.close()


async def waits_for_a_lock(ctx: AppContext) -> None:
    """Return when somebody waits for a lock in this database."""
    async with asyncio.timeout(20):
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while not await ctx.db.fetchval(waiting):  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0.01)
