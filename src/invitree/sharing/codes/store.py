"""SQL for codes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from msgspec import Struct

from invitree.kit.data.db import Queryable, Transaction


class Code(Struct, frozen=True):
    """A code as shown to its owner and in lookups."""

    id: int
    user_id: int
    code: str
    expires_at: datetime


class OwnedCode(Struct, frozen=True):
    """A code and its owner's email key."""

    code: Code
    email_key: str


class LockedCode(Struct, frozen=True, kw_only=True):
    """A code, active or not, locked against revocation until the transaction ends."""

    id: int
    user_id: int
    code: str
    expires_at: datetime
    revoked_at: datetime | None
    owner_is_active: bool


class Owner(Struct, frozen=True, kw_only=True):
    """A user whose codes are locked against concurrent changes until the transaction ends."""

    email_key: str
    is_confirmed: bool


# Look-alikes: O reads as 0, and I and L as 1. The index `codes_by_reading` has the same expression.
_IS_LOOK_ALIKE = "program_id = $1 AND translate(code, 'OIL', '011') = translate($2, 'OIL', '011')"

# The code with this spelling, active or not, then active look-alikes; two rows are enough for `_pick_intended`.
_CANDIDATES = f"""
    FROM codes c
    CROSS JOIN LATERAL (SELECT email_key, is_active FROM users WHERE program_id = $1 AND id = c.user_id OFFSET 0) u
    WHERE {_IS_LOOK_ALIKE}
      AND (c.code = $2 OR (c.revoked_at IS NULL AND c.expires_at > clock_timestamp() AND u.is_active))
    ORDER BY c.code <> $2
    LIMIT 2
"""  # noqa: S608  a constant


async def find_active_code(db: Queryable, *, program_id: int, email_key: str) -> Code | None:
    """Return the active code of the active user with this address."""
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
    """Return a user's active code."""
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
    """Return the active code meant by a text, with its owner."""
    rows = await db.fetch(
        f"""
        SELECT c.id, c.user_id, c.code, c.expires_at, u.email_key,
               c.revoked_at IS NULL AND c.expires_at > clock_timestamp() AND u.is_active AS is_active
        {_CANDIDATES}
        """,
        program_id,
        code,
    )
    row = _pick_intended(rows, code)
    return OwnedCode(Code(*row[:4]), row["email_key"]) if row and row["is_active"] else None


async def lock_owner(tx: Transaction, *, program_id: int, user_id: int) -> Owner | None:
    """Lock a user against concurrent changes of their codes; return None if the user is not active."""
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
    """Mark a user's expired code as revoked, so that a new one can be inserted."""
    await db.execute(
        """
        UPDATE codes SET revoked_at = clock_timestamp()
        WHERE program_id = $1 AND user_id = $2 AND revoked_at IS NULL AND expires_at <= clock_timestamp()
        """,
        program_id,
        user_id,
    )


async def revoke(db: Queryable, *, program_id: int, user_id: int) -> bool:
    """Revoke a user's active code; return whether there was one.

    A separate statement locks the row: the time of revocation must be taken after waiting for a sign-up that uses the
    code, and an UPDATE computes its values before it waits.
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
    """Insert a code; return None if the program has, or ever had, a look-alike of it.

    Raises asyncpg.UniqueViolationError on `codes_one_live` if the user has an active code.
    """
    row = await db.fetchrow(
        f"""
        INSERT INTO codes (program_id, code, user_id, expires_at)
        SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT FROM codes WHERE {_IS_LOOK_ALIKE})
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
    """Return the code meant by a text, locked against revocation until the transaction ends."""
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
    """Return the code that somebody meant by typing this one, of the rows of `_CANDIDATES`.

    An exact match wins even if it is no longer active: a code that its owner has printed must not count for somebody
    else. Otherwise a look-alike is meant if exactly one is active; of two, neither is.
    """
    is_clear = rows and (rows[0]["code"] == code or len(rows) == 1)
    return rows[0] if is_clear else None
