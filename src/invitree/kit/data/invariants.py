"""Invariants: promises about the data, each with the query that finds rows that break it."""

from collections.abc import Sequence
from datetime import datetime

import structlog
from msgspec import Struct

from invitree.kit.data.db import Database, Queryable


class Invariant(Struct, frozen=True):
    """A promise about the data and the query that finds what breaks it."""

    name: str
    promise: str
    query: str


class Broken(Struct, frozen=True):
    """An invariant that does not hold, with how many rows break it and some of them."""

    invariant: Invariant
    count: int
    examples: Sequence[str]


_EXAMPLES = 5
_log = structlog.get_logger()


async def check(db: Queryable, invariant: Invariant) -> Broken | None:
    """Return what breaks an invariant, or None where it holds."""
    rows = await db.fetch(invariant.query)
    if not rows:
        return None
    examples = [", ".join(f"{name}={value}" for name, value in row.items()) for row in rows[:_EXAMPLES]]
    return Broken(invariant, len(rows), examples)


class LastCheck(Struct, frozen=True):
    """What was found of an invariant, and when."""

    name: str
    broken_rows: int
    checked_at: datetime


async def last_checks(db: Queryable) -> Sequence[LastCheck]:
    """Return what `watch` found last of each invariant."""
    rows = await db.fetch("SELECT name, broken_rows, checked_at FROM invariant_checks ORDER BY name")
    return [LastCheck(*row) for row in rows]


async def watch(db: Database, invariants: Sequence[Invariant]) -> None:
    """Check every invariant, log what is broken, and keep what was found for `/metrics`."""
    await db.execute(
        "DELETE FROM invariant_checks WHERE name <> ALL ($1)", [invariant.name for invariant in invariants]
    )
    for invariant in invariants:
        broken = await check(db, invariant)
        await db.execute(
            """
            INSERT INTO invariant_checks (name, broken_rows) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET broken_rows = $2, checked_at = clock_timestamp()
            """,
            invariant.name,
            broken.count if broken else 0,
        )
        if broken:
            _log.error(
                "invariant.broken",
                name=invariant.name,
                promise=invariant.promise,
                rows=broken.count,
                examples=broken.examples,
            )
