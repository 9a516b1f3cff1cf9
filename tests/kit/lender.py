"""Pools of connections, and a look at what the database has of them."""

import asyncio
from itertools import count
from typing import Any

import pytest

from invitree.kit.data.db import OUTAGES
from invitree.kit.data.pool import Pool

# Takes three tenths of a second more to end when it is canceled.
STUBBORN = """
    DO $$ BEGIN PERFORM pg_sleep(30); EXCEPTION WHEN query_canceled THEN PERFORM pg_sleep(0.3); END $$
"""
PID = "SELECT pg_backend_pid()"
_numbers = count(1)


class Strict(Pool):
    """A pool that notices when it lends what is lent."""

    lent: set[Any]

    async def take(self) -> Any:
        """Lend."""
        connection = await super().take()
        assert connection not in self.lent
        self.lent.add(connection)
        assert len(self.lent) <= self._size
        return connection

    def give(self, connection: Any, *, reusable: bool = True) -> None:
        """Take back, from a borrower or from what was made for nobody."""
        self.lent.discard(connection)
        super().give(connection, reusable=reusable)


class Lender:
    """Makes pools that are known by a name in the database, and looks at what it has of them."""

    def __init__(self, url: str, watch: Any) -> None:
        self.url, self.watch, self.name = url, watch, f"pool{next(_numbers)}"
        self.pools: list[Pool] = []

    def pool(self, size: int, *, url: str = "", **how: Any) -> Strict:
        """Return a new pool."""
        named = {"application_name": self.name}
        made = Strict(url or self.url, size=size, server_settings=named, **{"timeout": 1, "command_timeout": 5, **how})
        made.lent = set()
        self.pools.append(made)
        return made

    async def count(self) -> int:
        """Return how many connections the database has of these pools."""
        found: int = await self.watch.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", self.name
        )
        return found

    async def busy(self) -> int:
        """Return how many of them run a statement or are inside a transaction."""
        found: int = await self.watch.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND state <> 'idle'", self.name
        )
        return found

    async def terminate(self, most: int = 1) -> None:
        """End some of them, whatever they do."""
        await self.watch.execute(
            """
            SELECT pg_terminate_backend(pid) FROM (
                SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY random() LIMIT $2
            ) AS chosen
            """,
            self.name,
            most,
        )


async def turn_over(turns: int = 5) -> None:
    """Let everything run that can."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def refused_as_an_outage(work: Any) -> None:
    """Check that something is refused in a way that requests are told of as a 503."""
    with pytest.raises(OUTAGES):
        await work
