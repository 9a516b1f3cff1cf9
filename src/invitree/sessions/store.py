"""Every statement about sessions and refresh tokens."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from invitree.kit.db import Queryable


class Caller(Struct, frozen=True, kw_only=True):
    """The person behind a request."""

    program_id: int
    session_id: int
    user_id: int
    email: str
    username: str
    is_staff: bool

    def sees_all_of(self, user_id: int) -> bool:
        """Return whether this person may see what only that user, or staff, may."""
        return self.is_staff or self.user_id == user_id


class Family(Struct, frozen=True, kw_only=True):
    """The session of a refresh token."""

    session_id: int
    user_id: int


class RefreshToken(Struct, frozen=True, kw_only=True):
    """A refresh token as it stands, with the database's time of looking at it."""

    id: int
    expires_at: datetime
    used_at: datetime | None
    successor_hash: bytes | None
    successor_unused: bool
    now: datetime


_CALLER = """
    SELECT s.program_id, s.id AS session_id, u.id AS user_id, u.email, u.username, u.is_staff
    FROM sessions s JOIN users u ON u.program_id = s.program_id AND u.id = s.user_id
    WHERE s.program_id = $1 AND u.is_active
"""


async def find_caller_by_token(db: Queryable, *, program_id: int, hashes: Sequence[bytes]) -> Caller | None:
    """Return the active user whose session token has one of these hashes."""
    row = await db.fetchrow(f"{_CALLER} AND s.token_hash = ANY($2)", program_id, hashes)
    return Caller(**row) if row else None


async def find_caller_by_session(db: Queryable, *, program_id: int, session_id: int, user_id: int) -> Caller | None:
    """Return the active user of a session that has not ended."""
    row = await db.fetchrow(f"{_CALLER} AND s.id = $2 AND s.user_id = $3", program_id, session_id, user_id)
    return Caller(**row) if row else None


async def insert_session(db: Queryable, *, program_id: int, user_id: int, token_hash: bytes | None) -> int:
    """Begin a session: with a token's hash, or with None for one that lives by refresh tokens. Return its id."""
    session_id: int = await db.fetchval(
        "INSERT INTO sessions (program_id, user_id, token_hash) VALUES ($1, $2, $3) RETURNING id",
        program_id,
        user_id,
        token_hash,
    )
    return session_id


async def delete_session(db: Queryable, *, program_id: int, session_id: int) -> None:
    """End a session and with it all its tokens."""
    await db.execute("DELETE FROM sessions WHERE program_id = $1 AND id = $2", program_id, session_id)


async def delete_sessions(db: Queryable, *, program_id: int, user_id: int) -> None:
    """End every session of a user."""
    await db.execute("DELETE FROM sessions WHERE program_id = $1 AND user_id = $2", program_id, user_id)


async def delete_family(db: Queryable, *, program_id: int, hashes: Sequence[bytes]) -> None:
    """End the session that a refresh token belongs to, used or not."""
    await db.execute(
        """
        DELETE FROM sessions s USING refresh_tokens t
        WHERE s.program_id = $1 AND t.program_id = s.program_id AND t.session_id = s.id AND t.token_hash = ANY($2)
        """,
        program_id,
        hashes,
    )


async def lock_family(db: Queryable, *, program_id: int, hashes: Sequence[bytes]) -> Family | None:
    """Return the session of a refresh token, holding everyone else off it until the transaction ends.

    The session is locked before any of its tokens, as its deletion does, so that the two never wait for each other.
    """
    row = await db.fetchrow(
        """
        SELECT s.id AS session_id, s.user_id
        FROM sessions s JOIN users u ON u.program_id = s.program_id AND u.id = s.user_id
        WHERE s.program_id = $1 AND u.is_active AND s.id = (
            SELECT session_id FROM refresh_tokens WHERE program_id = $1 AND token_hash = ANY($2)
        )
        FOR UPDATE OF s
        """,
        program_id,
        hashes,
    )
    return Family(**row) if row else None


async def find_refresh_token(db: Queryable, *, program_id: int, hashes: Sequence[bytes]) -> RefreshToken | None:
    """Return an active user's refresh token and what is known of its successor."""
    row = await db.fetchrow(
        """
        SELECT t.id, t.expires_at, t.used_at, n.token_hash AS successor_hash,
               n.id IS NOT NULL AND n.used_at IS NULL AS successor_unused, clock_timestamp() AS now
        FROM refresh_tokens t
        JOIN sessions s ON s.program_id = t.program_id AND s.id = t.session_id
        JOIN users u ON u.program_id = s.program_id AND u.id = s.user_id
        LEFT JOIN refresh_tokens n ON n.program_id = t.program_id AND n.parent_id = t.id
        WHERE t.program_id = $1 AND t.token_hash = ANY($2) AND u.is_active
        """,
        program_id,
        hashes,
    )
    return RefreshToken(**row) if row else None


async def use_refresh_token(db: Queryable, *, program_id: int, token_id: int) -> bool:
    """Mark a refresh token as used; return False where somebody did so before."""
    status = await db.execute(
        """
        UPDATE refresh_tokens SET used_at = clock_timestamp()
        WHERE program_id = $1 AND id = $2 AND used_at IS NULL
        """,
        program_id,
        token_id,
    )
    return status == "UPDATE 1"


async def insert_refresh_token(
    db: Queryable, *, program_id: int, session_id: int, parent_id: int | None, token_hash: bytes, life: timedelta
) -> None:
    """Write the next refresh token of a family, or its first with no parent."""
    await db.execute(
        """
        INSERT INTO refresh_tokens (program_id, session_id, parent_id, token_hash, expires_at)
        VALUES ($1, $2, $3, $4, clock_timestamp() + $5)
        """,
        program_id,
        session_id,
        parent_id,
        token_hash,
        life,
    )
