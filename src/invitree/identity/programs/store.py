"""Every statement about programs."""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct

from invitree.identity.programs.rules import DEFAULT_SLUG, Activation, ReferralList
from invitree.kit.data.db import Queryable, Transaction, unscoped


class Program(Struct, frozen=True, kw_only=True):
    """A tenant and its policy."""

    id: int
    slug: str
    time_zone: str
    code_length: int
    longest_code_life_days: int
    referral_list: ReferralList
    activation: Activation
    host: str | None
    origins: Sequence[str]

    @property
    def zone(self) -> ZoneInfo:
        """The time zone in which a code's last day ends."""
        return ZoneInfo(self.time_zone)

    @property
    def longest_code_life(self) -> timedelta:
        """How far away a code's end may be."""
        return timedelta(days=self.longest_code_life_days)


_PROGRAM = """
    SELECT id, slug, time_zone, code_length, longest_code_life_days, referral_list, activation, host, origins
    FROM programs
"""


async def find_program(db: Queryable, *, program_id: int) -> Program | None:
    """Return the program with this id."""
    row = await db.fetchrow(f"{_PROGRAM} WHERE id = $1", program_id)
    return Program(**row) if row else None


@unscoped("finds which program is meant")
async def find_program_by_slug(db: Queryable, *, slug: str) -> Program | None:
    """Return the program with this slug."""
    row = await db.fetchrow(f"{_PROGRAM} WHERE slug = $1", slug)
    return Program(**row) if row else None


@unscoped("finds which program is meant")
async def find_program_of_host(db: Queryable, *, host: str) -> Program | None:
    """Return the program that claims a host name, or the default one."""
    row = await db.fetchrow(
        f"{_PROGRAM} WHERE host = $1 OR slug = $2 ORDER BY host IS NOT DISTINCT FROM $1 DESC LIMIT 1",
        host,
        DEFAULT_SLUG,
    )
    return Program(**row) if row else None


@unscoped("names all of them, for work that goes through one after the other")
async def list_program_ids(db: Queryable) -> Sequence[int]:
    """Return the id of every program."""
    return [row["id"] for row in await db.fetch("SELECT id FROM programs ORDER BY id")]


@unscoped("a browser asks beforehand without saying which program it will mean")
async def list_origins(db: Queryable) -> Iterable[str]:
    """Return the origins of every program."""
    return [origin for row in await db.fetch("SELECT origins FROM programs ORDER BY id") for origin in row["origins"]]


@unscoped("makes one")
async def insert_program(db: Queryable, *, slug: str) -> Program:
    """Write a new program. Raises asyncpg.UniqueViolationError or CheckViolationError naming the constraint."""
    row = await db.fetchrow(
        """
        INSERT INTO programs (slug) VALUES ($1)
        RETURNING id, slug, time_zone, code_length, longest_code_life_days, referral_list, activation, host, origins
        """,
        slug,
    )
    return Program(**row)


async def lock_program(tx: Transaction, *, program_id: int) -> Program | None:
    """Return a program that nobody else changes until the transaction ends."""
    row = await tx.fetchrow(f"{_PROGRAM} WHERE id = $1 FOR UPDATE", program_id)
    return Program(**row) if row else None


async def update_program(
    db: Queryable,
    *,
    program_id: int,
    time_zone: str,
    code_length: int,
    longest_code_life_days: int,
    referral_list: str,
    activation: str,
    host: str | None,
    origins: Sequence[str],
) -> None:
    """Write a program's policy; `programs.rules.complaint` says beforehand whether it can be."""
    await db.execute(
        """
        UPDATE programs
        SET time_zone = $2, code_length = $3, longest_code_life_days = $4, referral_list = $5, activation = $6,
            host = $7, origins = $8
        WHERE id = $1
        """,
        program_id,
        time_zone,
        code_length,
        longest_code_life_days,
        referral_list,
        activation,
        host,
        origins,
    )
