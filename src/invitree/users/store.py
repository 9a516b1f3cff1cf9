"""Every statement about users."""

from msgspec import Struct

from invitree.base.emails import Email
from invitree.kit.db import Queryable


class User(Struct, frozen=True, kw_only=True):
    """An account as it was written."""

    id: int
    email: str
    username: str


class Credentials(Struct, frozen=True, kw_only=True):
    """What a login is checked against."""

    user_id: int
    password_hash: str
    is_active: bool


async def insert_user(
    db: Queryable, *, program_id: int, email: Email, username: str, password_hash: str, is_staff: bool
) -> User:
    """Write a new user. Raises asyncpg.UniqueViolationError naming the constraint."""
    row = await db.fetchrow(
        """
        INSERT INTO users (program_id, email, email_key, email_identity, username, password_hash, is_staff)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        RETURNING id, email, username
        """,
        program_id,
        email.typed,
        email.key,
        email.identity,
        username,
        password_hash,
        is_staff,
    )
    return User(**row)


async def find_credentials_by_email(db: Queryable, *, program_id: int, email_key: str) -> Credentials | None:
    """Return the credentials of the user with this address."""
    row = await db.fetchrow(
        """
        SELECT id AS user_id, password_hash, is_active FROM users WHERE program_id = $1 AND email_key = $2
        """,
        program_id,
        email_key,
    )
    return Credentials(**row) if row else None


async def find_credentials_by_username(db: Queryable, *, program_id: int, username: str) -> Credentials | None:
    """Return the credentials of the user with this name."""
    row = await db.fetchrow(
        """
        SELECT id AS user_id, password_hash, is_active FROM users WHERE program_id = $1 AND username = $2
        """,
        program_id,
        username,
    )
    return Credentials(**row) if row else None
