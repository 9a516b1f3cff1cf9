"""Tables partitioned by month, so that old rows are dropped with their partition instead of being deleted.

A partition is named `<table>_YYYY_MM`, except the first, which has no lower bound. Months are in UTC.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from invitree.kit.data.db import Transaction

_MONTHS_AHEAD = 3
"""If no worker runs for longer than this, writes fail."""


class _Partition(Struct, frozen=True):
    name: str
    ends: datetime


async def keep_months(tx: Transaction, *, table: str, older_than: timedelta) -> Sequence[str]:
    """Create partitions for the coming months, and drop those that ended longer ago than `older_than`.

    Returns the names of the dropped partitions. Raises asyncpg.LockNotAvailableError if the table is locked for long;
    try again later. Rows of a new partition cannot be changed, not even by its owner.
    """
    await tx.execute("SET LOCAL lock_timeout = '300ms'")  # later statements queue behind this one
    partitions = await _partitions(tx, table)
    for row in await _missing(tx, since=partitions[-1].ends):
        name = f"{table}_{row['month']:%Y_%m}"
        # ATTACH instead of CREATE TABLE … PARTITION OF, which would block readers and writers.
        await tx.execute(
            f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)"
        )
        bounds = f"FROM ('{row['month']}') TO ('{row['ends']}')"
        await tx.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES {bounds}")
    for name in await _unprotected(tx, table):
        await tx.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {name} FROM CURRENT_USER")
    now = await tx.fetchval("SELECT now()")
    old = [partition.name for partition in partitions if now - partition.ends > older_than]
    for name in old:
        await tx.execute(f"DROP TABLE {name}")
    return old


async def _partitions(tx: Transaction, table: str) -> list[_Partition]:
    rows = await tx.fetch(
        r"""
        SELECT c.oid::regclass::text AS name,
            substring(pg_get_expr(c.relpartbound, c.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz AS ends
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = $1::text::regclass ORDER BY ends
        """,
        table,
    )
    return [_Partition(**row) for row in rows]


async def _missing(tx: Transaction, *, since: datetime) -> list[Any]:
    found: list[Any] = await tx.fetch(
        """
        SELECT month, month + interval '1 month' AS ends
        FROM generate_series($1, now() + make_interval(months => $2), interval '1 month') month
        """,
        since,
        _MONTHS_AHEAD,
    )
    return found


async def _unprotected(tx: Transaction, table: str) -> list[str]:
    """Return the tables, of a table and its partitions, without privileges set: new and restored ones."""
    rows = await tx.fetch(
        """
        SELECT c.oid::regclass::text AS name FROM pg_class c
        WHERE c.relacl IS NULL AND (c.oid = $1::text::regclass
            OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = $1::text::regclass))
        """,
        table,
    )
    return [row["name"] for row in rows]
