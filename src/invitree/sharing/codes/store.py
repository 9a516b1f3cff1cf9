"""Every statement about codes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from invitree.kit.data.db import Queryable, Transaction


class Code(Struct, frozen=True):
    """A code that can be shown."""

    id: int
    user_id: int
    code: str
    expires_at: datetime


class OwnedCode(Struct, frozen=True):
    """A code that can be shown, and the key of its owner's address."""

    code: Code
    email_key: str


class LockedCode(Struct, frozen=True, kw_only=True):
    """A code that cannot be revoked until the transaction ends, alive or not."""

    id: int
    user_id: int
    code: str
    expires_at: datetime
    revoked_at: datetime | None
    owner_is_active: bool


class Owner(Struct, frozen=True, kw_only=True):
    """Whose codes cannot be changed by anybody else until the transaction ends."""

    email_key: str
    is_confirmed: bool


# To people O is 0, and I and L are 1. The index `codes_by_reading` has this expression.
_READS_ALIKE = "program_id = $1 AND translate(code, 'OIL', '011') = translate($2, 'OIL', '011')"

# The code that is spelled so, dead or alive, then those that only read so and are alive: as many as
# `_pick_intended` needs.
_CANDIDATES = f"""
    FROM codes c
    CROSS JOIN LATERAL (SELECT email_key, is_active FROM users WHERE program_id = $1 AND id = c.user_id OFFSET 0) u
    WHERE {_READS_ALIKE}
      AND (c.code = $2 OR (c.revoked_at IS NULL AND c.expires_at > clock_timestamp() AND u.is_active))
    ORDER BY c.code <> $2
    LIMIT 2
"""  # noqa: S608  a constant


async def find_active_code(db: Queryable, *, program_id: int, email_key: str) -> Code | None:
    """Return the live code under which this person can be named as referrer."""
    row = await db.fetchrow(
        """
        SELECT c.id, c.user_id, c.code, c.expires_at
        FROM users u JOIN codes c ON c.program_id = u.program_id AND c.user_id = u.id
        WHERE u.program_id = $1 AND u.email_key = $2 AND u.is_active
          AND c.revoked_at IS NULL AND c.expires_at > clock_timestamp()
        """,
        program_id,
        email_key,
    )
    return Code(*row) if row else None


async def find_own_code(db: Queryable, *, program_id: int, user_id: int) -> Code | None:
    """Return the live code of a user."""
    row = await db.fetchrow(
        """
        SELECT id, user_id, code, expires_at FROM codes
        WHERE program_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > clock_timestamp()
        """,
        program_id,
        user_id,
    )
    return Code(*row) if row else None


async def find_active_code_by_text(db: Queryable, *, program_id: int, code: str) -> OwnedCode | None:
    """Return the live code that is meant by a spelling, and whose it is."""
    rows = await db.fetch(
        f"""
        SELECT c.id, c.user_id, c.code, c.expires_at, u.email_key,
               c.revoked_at IS NULL AND c.expires_at > clock_timestamp() AND u.is_active AS is_open
        {_CANDIDATES}
        """,
        program_id,
        code,
    )
    row = _pick_intended(rows, code)
    return OwnedCode(Code(*row[:4]), row["email_key"]) if row and row["is_open"] else None


async def lock_owner(tx: Transaction, *, program_id: int, user_id: int) -> Owner | None:
    """Let one transaction at a time change this user's codes; None where the user is not active."""
    row = await tx.fetchrow(
        """
        SELECT email_key, confirmed_at IS NOT NULL AS is_confirmed FROM users
        WHERE program_id = $1 AND id = $2 AND is_active
        FOR NO KEY UPDATE
        """,
        program_id,
        user_id,
    )
    return Owner(**row) if row else None


async def revoke_expired(db: Queryable, *, program_id: int, user_id: int) -> None:
    """Make room for a new code where the old one has expired."""
    await db.execute(
        """
        UPDATE codes SET revoked_at = clock_timestamp()
        WHERE program_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at <= clock_timestamp()
        """,
        program_id,
        user_id,
    )


async def revoke(db: Queryable, *, program_id: int, user_id: int) -> bool:
    """Revoke the live code of a user; return whether there was one.

    The row is locked by a statement of its own: the time of revocation must come after the wait for a sign-up that is
    using the code, and an UPDATE works out its values before it waits.
    """
    code_id = await db.fetchval(
        """
        SELECT id FROM codes
        WHERE program_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at > clock_timestamp()
        FOR UPDATE
        """,
        program_id,
        user_id,
    )
    if code_id is None:
        return False
    await db.execute(
        "UPDATE codes SET revoked_at = clock_timestamp() WHERE program_id = $1 AND id = $2", program_id, code_id
    )
    return True


async def insert_code(db: Queryable, *, program_id: int, user_id: int, code: str, expires_at: datetime) -> Code | None:
    """Write a new code; return None where the program has, or ever had, a code that reads like it.

    Raises asyncpg.UniqueViolationError naming `codes_one_live` where the user has a live code.
    """
    row = await db.fetchrow(
        f"""
        INSERT INTO codes (program_id, code, user_id, expires_at)
        SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT FROM codes WHERE {_READS_ALIKE})
        ON CONFLICT (program_id, code) DO NOTHING
        RETURNING id, user_id, code, expires_at
        """,  # noqa: S608  a constant
        program_id,
        code,
        user_id,
        expires_at,
    )
    return Code(*row) if row else None


async def lock_code(tx: Transaction, *, program_id: int, code: str) -> LockedCode | None:
    """Return the code that is meant by a spelling as it stands, and keep it from being revoked in this transaction."""
    rows = await tx.fetch(
        f"""
        SELECT c.id, c.user_id, c.code, c.expires_at, c.revoked_at, u.is_active AS owner_is_active
        {_CANDIDATES}
        FOR SHARE OF c
        """,
        program_id,
        code,
    )
    row = _pick_intended(rows, code)
    return LockedCode(**row) if row else None


def _pick_intended(rows: Sequence[Any], code: str) -> Any:
    """Return the code that somebody means who typed this one, of the rows of `_CANDIDATES`.

    It is the one that is spelled so, even if it is dead: what its owner printed must not count for somebody else. Only
    where the program never had one, look-alikes are tried, and only those that are alive: a dead one says nothing
    against the one that somebody can have meant. Of two of them, neither is meant.
    """
    is_one = rows and (rows[0]["code"] == code or len(rows) == 1)
    return rows[0] if is_one else None
