"""Every statement about letters and the tokens in them."""

from collections.abc import Sequence
from datetime import timedelta

from msgspec import Struct

from invitree.identity.email.rules import LinkKind
from invitree.kit.data.db import Queryable


class Recipient(Struct, frozen=True, kw_only=True):
    """Whom a letter is for."""

    user_id: int
    email: str
    email_key: str
    username: str
    is_active: bool
    is_confirmed: bool


class Token(Struct, frozen=True, kw_only=True):
    """A one-time token as it stands."""

    id: int
    user_id: int
    is_used: bool
    is_alive: bool
    new_email: str | None


_RECIPIENT = """
    SELECT id AS user_id, email, email_key, username, is_active, confirmed_at IS NOT NULL AS is_confirmed FROM users
    WHERE program_id = $1 AND deactivated_at IS NULL AND deleted_at IS NULL
"""


async def find_recipient(db: Queryable, *, program_id: int, user_id: int) -> Recipient | None:
    """Return a user who was neither deactivated nor deleted."""
    row = await db.fetchrow(f"{_RECIPIENT} AND id = $2", program_id, user_id)
    return Recipient(**row) if row else None


async def find_recipient_by_email(db: Queryable, *, program_id: int, email_key: str) -> Recipient | None:
    """Return the user with this address, who was neither deactivated nor deleted."""
    row = await db.fetchrow(f"{_RECIPIENT} AND email_key = $2", program_id, email_key)
    return Recipient(**row) if row else None


async def insert_token(
    db: Queryable,
    *,
    program_id: int,
    user_id: int,
    kind: LinkKind,
    token_hash: bytes,
    new_email: str | None,
    ttl: timedelta,
) -> None:
    """Write a one-time token."""
    await db.execute(
        """
        INSERT INTO one_time_tokens (program_id, user_id, kind, token_hash, new_email, expires_at)
        VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6)
        """,
        program_id,
        user_id,
        kind,
        token_hash,
        new_email,
        ttl,
    )


async def find_token(db: Queryable, *, program_id: int, kind: LinkKind, hashes: Sequence[bytes]) -> Token | None:
    """Return the token of this kind with one of these hashes, used and expired ones too."""
    row = await db.fetchrow(
        """
        SELECT id, user_id, new_email, used_at IS NOT NULL AS is_used,
               used_at IS NULL AND expires_at > clock_timestamp() AS is_alive
        FROM one_time_tokens WHERE program_id = $1 AND kind = $2 AND token_hash = ANY($3)
        """,
        program_id,
        kind,
        hashes,
    )
    return Token(**row) if row else None


async def start_expiry(db: Queryable, *, program_id: int, hashes: Sequence[bytes], ttl: timedelta) -> bytes | None:
    """Let an unused token live from now on; return its hash, or None where there is none."""
    token_hash: bytes | None = await db.fetchval(
        """
        UPDATE one_time_tokens SET expires_at = clock_timestamp() + $3
        WHERE program_id = $1 AND token_hash = ANY($2) AND used_at IS NULL
        RETURNING token_hash
        """,
        program_id,
        hashes,
        ttl,
    )
    return token_hash


async def use_token(db: Queryable, *, program_id: int, token_id: int) -> bool:
    """Use a token up; return False where it was used before, or is dead."""
    status = await db.execute(
        """
        UPDATE one_time_tokens SET used_at = clock_timestamp()
        WHERE program_id = $1 AND id = $2 AND used_at IS NULL AND expires_at > clock_timestamp()
        """,
        program_id,
        token_id,
    )
    return status == "UPDATE 1"


async def delete_unused_tokens(db: Queryable, *, program_id: int, user_id: int) -> None:
    """End every link that was sent to a user and not followed yet."""
    await db.execute(
        "DELETE FROM one_time_tokens WHERE program_id = $1 AND user_id = $2 AND used_at IS NULL", program_id, user_id
    )


async def erase_person(db: Queryable, *, program_id: int, user_id: int, email_key: str) -> None:
    """Delete every token of a user, followed or not, and every letter that waits or was given up."""
    await db.execute("DELETE FROM one_time_tokens WHERE program_id = $1 AND user_id = $2", program_id, user_id)
    await db.execute(
        """
        DELETE FROM pgqueuer
        WHERE entrypoint = 'send_mail' AND status IN ('queued', 'failed')
          AND convert_from(payload, 'UTF8')::jsonb @> jsonb_build_object('program_id', $1::bigint)
          AND (convert_from(payload, 'UTF8')::jsonb @> jsonb_build_object('user_id', $2::bigint)
               OR convert_from(payload, 'UTF8')::jsonb @> jsonb_build_object('email_key', $3::text))
        """,
        program_id,
        user_id,
        email_key,
    )


async def delete_expired_tokens(db: Queryable, *, program_id: int, most: int) -> bool:
    """Delete tokens that have been dead for a day; until then, following a link again is told what it is.

    One that was not used is kept for a month: its letter may still wait, and gives it a new life when it is sent. At
    most so many; return whether there may be more.
    """
    tag = await db.execute(
        """
        DELETE FROM one_time_tokens WHERE program_id = $1 AND id = ANY (ARRAY(
            SELECT id FROM one_time_tokens
            WHERE program_id = $1 AND expires_at < now()
                - CASE WHEN used_at IS NULL THEN interval '1 month' ELSE interval '1 day' END
            LIMIT $2
        ))
        """,
        program_id,
        most,
    )
    return tag == f"DELETE {most}"
