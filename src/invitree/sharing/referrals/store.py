"""SQL for referrals."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from invitree.kit.data.db import Queryable


class Person(Struct, frozen=True, kw_only=True):
    """A referrer or referee."""

    referral_id: int
    user_id: int
    email: str
    email_key: str
    registered_at: datetime


async def insert_referral(
    db: Queryable, *, program_id: int, referrer_id: int, referee_id: int, code_id: int, created_at: datetime
) -> None:
    """Insert a referral: who brought whom, by which code, and when the code was found active."""
    await db.execute(
        """
        INSERT INTO referrals (program_id, referrer_id, referee_id, code_id, created_at) VALUES ($1, $2, $3, $4, $5)
        """,
        program_id,
        referrer_id,
        referee_id,
        code_id,
        created_at,
    )


async def list_referrals(
    db: Queryable, *, program_id: int, referrer_id: int, before: int, limit: int
) -> Sequence[Person]:
    """Return a page of a user's referees, newest first, with referral ids below `before`."""
    rows = await db.fetch(
        """
        SELECT r.id AS referral_id, u.id AS user_id, u.email, u.email_key, u.created_at AS registered_at
        FROM referrals r JOIN users u ON u.program_id = r.program_id AND u.id = r.referee_id
        WHERE r.program_id = $1 AND r.referrer_id = $2 AND r.id < $3
        ORDER BY r.id DESC LIMIT $4
        """,
        program_id,
        referrer_id,
        before,
        limit,
    )
    return [Person(**row) for row in rows]


async def find_referrer(db: Queryable, *, program_id: int, referee_id: int) -> Person | None:
    """Return a user's referrer."""
    row = await db.fetchrow(
        """
        SELECT r.id AS referral_id, u.id AS user_id, u.email, u.email_key, u.created_at AS registered_at
        FROM referrals r JOIN users u ON u.program_id = r.program_id AND u.id = r.referrer_id
        WHERE r.program_id = $1 AND r.referee_id = $2
        """,
        program_id,
        referee_id,
    )
    return Person(**row) if row else None


async def is_member(db: Queryable, *, program_id: int, user_id: int) -> bool:
    """Return whether a user belongs to the program."""
    found: bool = await db.fetchval(
        "SELECT EXISTS (SELECT FROM users WHERE program_id = $1 AND id = $2)", program_id, user_id
    )
    return found
