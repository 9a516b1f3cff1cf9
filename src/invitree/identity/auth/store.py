"""Every statement about sessions and refresh tokens."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from msgspec import Struct

from invitree.kit.data.db import Queryable, Transaction

_SEEN_EVERY = timedelta(minutes=5)
Scope = Literal["staff"]


class Principal(Struct, frozen=True, kw_only=True):
    """Who is calling, as their credentials prove: in which program, and what they may do there."""

    program_id: int
    scopes: Sequence[Scope]


class UserSession(Principal, frozen=True, kw_only=True):
    """A user who is logged in. `is_outdated` where the session was not seen for minutes, or its token's hash is of a
    secret that has a successor."""

    session_id: int
    user_id: int
    email: str
    username: str
    is_outdated: bool

    @property
    def is_staff(self) -> bool:
        """Whether this user is one of the program's staff."""
        return "staff" in self.scopes

    def sees_all_of(self, user_id: int) -> bool:
        """Return whether this user may see what only that user, or staff, may."""
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
    successor_expires_at: datetime | None
    now: datetime


class Session(Struct, frozen=True, kw_only=True):
    """Somebody logged in on a device."""

    id: int
    device: str
    ip_prefix: str
    created_at: datetime
    last_seen_at: datetime


_SESSION = """
    SELECT s.program_id, s.id AS session_id, u.id AS user_id, u.email, u.username,
           CASE WHEN u.is_staff THEN ARRAY['staff'] ELSE ARRAY[]::text[] END AS scopes,
           s.last_seen_at < clock_timestamp() - $2::interval OR coalesce(s.token_hash <> $3, false) AS is_outdated
    FROM sessions s JOIN users u ON u.program_id = s.program_id AND u.id = s.user_id
    WHERE s.program_id = $1 AND u.is_active
"""


async def find_session_by_token(db: Queryable, *, program_id: int, hashes: Sequence[bytes]) -> UserSession | None:
    """Return the active user whose session token has one of these hashes."""
    row = await db.fetchrow(f"{_SESSION} AND s.token_hash = ANY($4)", program_id, _SEEN_EVERY, hashes[0], hashes)
    return UserSession(**row) if row else None


async def find_session(db: Queryable, *, program_id: int, session_id: int, user_id: int) -> UserSession | None:
    """Return the active user of a session that has not ended."""
    row = await db.fetchrow(
        f"{_SESSION} AND s.id = $4 AND s.user_id = $5", program_id, _SEEN_EVERY, None, session_id, user_id
    )
    return UserSession(**row) if row else None


async def touch_session(
    db: Queryable, *, program_id: int, session_id: int, ip_prefix: str, token_hash: bytes | None
) -> None:
    """Note that a session is in use, and from where; with a hash, put it in the place of the token's."""
    await db.execute(
        """
        UPDATE sessions SET last_seen_at = clock_timestamp(), ip_prefix = $3, token_hash = coalesce($4, token_hash)
        WHERE program_id = $1 AND id = $2
        """,
        program_id,
        session_id,
        ip_prefix,
        token_hash,
    )


async def list_sessions(
    db: Queryable, *, program_id: int, user_id: int, after: int | None, limit: int
) -> Sequence[Session]:
    """Return a page of where a user is logged in, the latest used first, from those after the session `after`."""
    rows = await db.fetch(
        """
        SELECT id, device, ip_prefix, created_at, last_seen_at FROM sessions s
        WHERE program_id = $1 AND user_id = $2 AND (token_hash IS NOT NULL OR EXISTS (
            SELECT FROM refresh_tokens t
            WHERE t.program_id = s.program_id AND t.session_id = s.id AND t.used_at IS NULL
              AND t.expires_at > clock_timestamp()
        )) AND ($3::bigint IS NULL OR (last_seen_at, id) < (
            SELECT last_seen_at, id FROM sessions WHERE program_id = $1 AND user_id = $2 AND id = $3
        ))
        ORDER BY last_seen_at DESC, id DESC
        LIMIT $4
        """,
        program_id,
        user_id,
        after,
        limit,
    )
    return [Session(**row) for row in rows]


async def insert_session(
    db: Queryable,
    *,
    program_id: int,
    user_id: int,
    password_hash: str | None,
    token_hash: bytes | None,
    device: str,
    ip_prefix: str,
) -> int | None:
    """Begin a session and record the login: with a token's hash, or with None for one that lives by refresh tokens.

    Return its id; None where a hash was given that is no longer the one of an active user's password. Whoever changes
    that meanwhile waits, and then ends the session too. One statement, for a login costs a hash and little more.
    """
    session_id: int | None = await db.fetchval(
        """
        WITH held AS (
            SELECT id FROM users
            WHERE program_id = $1 AND id = $2 AND ($3::text IS NULL OR (password_hash = $3 AND is_active))
            FOR SHARE
        ), told AS (
            INSERT INTO audit (program_id, kind, user_id, actor, actor_id, ip_prefix)
            SELECT $1, 'login.succeeded', id, 'self', id, $6 FROM held
        )
        INSERT INTO sessions (program_id, user_id, token_hash, device, ip_prefix)
        SELECT $1, id, $4, $5, $6 FROM held
        RETURNING id
        """,
        program_id,
        user_id,
        password_hash,
        token_hash,
        device,
        ip_prefix,
    )
    return session_id


async def delete_session(db: Queryable, *, program_id: int, user_id: int, session_id: int) -> bool:
    """End a session of a user and with it all its tokens; return False where there is none."""
    status = await db.execute(
        "DELETE FROM sessions WHERE program_id = $1 AND user_id = $2 AND id = $3", program_id, user_id, session_id
    )
    return status == "DELETE 1"


async def delete_sessions(db: Queryable, *, program_id: int, user_id: int, but: int | None = None) -> None:
    """End every session of a user, but the one with the id that may be given."""
    await db.execute(
        "DELETE FROM sessions WHERE program_id = $1 AND user_id = $2 AND id IS DISTINCT FROM $3",
        program_id,
        user_id,
        but,
    )


async def has_more_sessions(db: Queryable, *, program_id: int, user_id: int, most: int) -> bool:
    """Return whether a user has more sessions than so many."""
    has_more: bool = await db.fetchval(
        "SELECT EXISTS (SELECT FROM sessions WHERE program_id = $1 AND user_id = $2 OFFSET $3)",
        program_id,
        user_id,
        most,
    )
    return has_more


async def delete_idlest_sessions(db: Queryable, *, program_id: int, user_id: int, most: int) -> int:
    """End those sessions of a user that were idle longest, until so many are left; return how many ended.

    They are locked in the order of their ids, so that two of these never wait for each other.
    """
    status = await db.execute(
        """
        WITH doomed AS (
            SELECT id FROM sessions WHERE program_id = $1 AND id IN (
                SELECT id FROM sessions WHERE program_id = $1 AND user_id = $2
                ORDER BY last_seen_at DESC, id DESC OFFSET $3
            )
            ORDER BY id
            FOR UPDATE
        )
        DELETE FROM sessions s USING doomed WHERE s.program_id = $1 AND s.id = doomed.id
        """,
        program_id,
        user_id,
        most,
    )
    return int(status.rpartition(" ")[2])


async def delete_family(db: Queryable, *, program_id: int, hashes: Sequence[bytes]) -> int | None:
    """End the session that a refresh token belongs to, used or not; return whose it was."""
    user_id: int | None = await db.fetchval(
        """
        DELETE FROM sessions s USING refresh_tokens t
        WHERE s.program_id = $1 AND t.program_id = s.program_id AND t.session_id = s.id AND t.token_hash = ANY($2)
        RETURNING s.user_id
        """,
        program_id,
        hashes,
    )
    return user_id


async def delete_ended_sessions(db: Queryable, *, program_id: int, most: int) -> bool:
    """Delete what can prove nothing any more: used refresh tokens past their life, and sessions whose last has expired.

    At most so many of each; return whether there may be more. A used token is kept through its life: presented again,
    it tells of a theft.
    """
    # By its one unused token, which is its last. now() here: clock_timestamp() may be another for each row, so that
    # PostgreSQL searches no index for what is before it.
    sessions = await db.execute(
        """
        DELETE FROM sessions WHERE program_id = $1 AND id IN (
            SELECT session_id FROM refresh_tokens
            WHERE program_id = $1 AND used_at IS NULL AND expires_at < now() LIMIT $2
        )
        """,
        program_id,
        most,
    )
    # With what points at them, so that I4b holds.
    tokens = await db.fetchval(
        """
        WITH dead AS (
            DELETE FROM refresh_tokens WHERE program_id = $1 AND id IN (
                SELECT id FROM refresh_tokens
                WHERE program_id = $1 AND used_at IS NOT NULL AND expires_at < now() LIMIT $2
            )
            RETURNING id
        ), orphaned AS (
            UPDATE refresh_tokens SET parent_id = NULL WHERE program_id = $1 AND parent_id IN (SELECT id FROM dead)
        )
        SELECT count(*) FROM dead
        """,
        program_id,
        most,
    )
    return sessions == f"DELETE {most}" or tokens == most


async def lock_family(tx: Transaction, *, program_id: int, hashes: Sequence[bytes]) -> Family | None:
    """Return the session of a refresh token, holding everyone else off it until the transaction ends.

    The session is locked before any of its tokens, as its deletion does, so that the two never wait for each other.
    """
    row = await tx.fetchrow(
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
               n.expires_at AS successor_expires_at,
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
    db: Queryable, *, program_id: int, session_id: int, parent_id: int | None, token_hash: bytes, ttl: timedelta
) -> datetime:
    """Write the next refresh token of a family, or its first with no parent; return when it ends."""
    expires_at: datetime = await db.fetchval(
        """
        INSERT INTO refresh_tokens (program_id, session_id, parent_id, token_hash, expires_at)
        VALUES ($1, $2, $3, $4, clock_timestamp() + $5)
        RETURNING expires_at
        """,
        program_id,
        session_id,
        parent_id,
        token_hash,
        ttl,
    )
    return expires_at
