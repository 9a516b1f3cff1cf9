"""Every statement about users."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from invitree.base.emails import Email
from invitree.kit.data.db import Queryable, Transaction
from invitree.kit.secrets.django_hashes import SCHEMES


class User(Struct, frozen=True, kw_only=True):
    """An account as it was written."""

    id: int
    email: str
    username: str


class Credentials(Struct, frozen=True, kw_only=True):
    """Whose password it should be, and its hash."""

    user_id: int
    password_hash: str
    is_active: bool


class LoginCandidate(Struct, frozen=True, kw_only=True):
    """Whom a login may be, if anybody, and what a failure has to look like.

    The decoys are the program's newest hash of each scheme that came from Django.
    """

    known: Credentials | None
    decoys: Sequence[str]


class Account(Struct, frozen=True, kw_only=True):
    """A locked account: nobody else changes it until the transaction ends."""

    email: str
    email_key: str
    is_active: bool
    is_confirmed: bool


async def insert_user(
    db: Queryable,
    *,
    program_id: int,
    email: Email,
    username: str,
    password_hash: str,
    is_staff: bool,
    is_active: bool,
    is_confirmed: bool,
    quietly: bool,
) -> User | None:
    """Write a new user; `quietly`, return None where somebody in the program has the address or the username.

    Else raises asyncpg.UniqueViolationError naming the constraint, which ends the transaction.
    """
    row = await db.fetchrow(
        f"""
        INSERT INTO users (program_id, email, email_key, email_identity, username, password_hash, is_staff, is_active,
                           confirmed_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, CASE WHEN $9 THEN clock_timestamp() END)
        {"ON CONFLICT DO NOTHING" if quietly else ""}
        RETURNING id, email, username
        """,  # noqa: S608  two constants
        program_id,
        email.typed,
        email.key,
        email.identity,
        username,
        password_hash,
        is_staff,
        is_active,
        is_confirmed,
    )
    return User(**row) if row else None


async def find_taken(db: Queryable, *, program_id: int, email_key: str, username: str) -> tuple[bool, bool]:
    """Return whether somebody has this address, and whether somebody has this username."""
    email, name = await db.fetchrow(
        """
        SELECT EXISTS (SELECT FROM users WHERE program_id = $1 AND email_key = $2),
               EXISTS (SELECT FROM users WHERE program_id = $1 AND username = $3)
        """,
        program_id,
        email_key,
        username,
    )
    return email, name


async def find_user(db: Queryable, *, program_id: int, user_id: int) -> User | None:
    """Return a user who was not deleted."""
    row = await db.fetchrow(
        "SELECT id, email, username FROM users WHERE program_id = $1 AND id = $2 AND deleted_at IS NULL",
        program_id,
        user_id,
    )
    return User(**row) if row else None


async def list_users(db: Queryable, *, program_id: int, after: int, limit: int) -> Sequence[User]:
    """Return a page of users by id, from those with an id above `after`."""
    rows = await db.fetch(
        """
        SELECT id, email, username FROM users
        WHERE program_id = $1 AND id > $2 AND deleted_at IS NULL
        ORDER BY id LIMIT $3
        """,
        program_id,
        after,
        limit,
    )
    return [User(**row) for row in rows]


async def lock_account(tx: Transaction, *, program_id: int, user_id: int) -> Account | None:
    """Return a user's account, which nobody else changes until the transaction ends.

    Taken before any of the user's sessions, tokens and codes, so that no two changes wait for each other.
    """
    row = await tx.fetchrow(
        """
        SELECT email, email_key, is_active, confirmed_at IS NOT NULL AS is_confirmed FROM users
        WHERE program_id = $1 AND id = $2 AND deleted_at IS NULL
        FOR NO KEY UPDATE
        """,
        program_id,
        user_id,
    )
    return Account(**row) if row else None


# One question for the account and the decoys, and one answer also where there is no such account: a question more, or
# fewer, would be heard.
_LOGIN_CANDIDATE = f"""
    SELECT u.id AS user_id, u.password_hash, u.is_active, ARRAY(
        SELECT newest.password_hash
        FROM unnest('{{{",".join(SCHEMES)}}}'::text[]) scheme CROSS JOIN LATERAL (
            SELECT password_hash FROM users
            WHERE program_id = $1 AND password_hash NOT LIKE '$%' AND split_part(password_hash, '$', 1) = scheme
            ORDER BY id DESC LIMIT 1
        ) newest
    ) AS decoys
    FROM (VALUES (true)) asked LEFT JOIN users u ON u.program_id = $1 AND
"""  # noqa: S608  nobody's text


async def find_login_candidate(db: Queryable, *, program_id: int, user_id: int) -> LoginCandidate:
    """Return what a login as the user with this id is checked against."""
    return _candidate(await db.fetchrow(f"{_LOGIN_CANDIDATE} u.id = $2", program_id, user_id))


async def find_login_candidate_by_email(db: Queryable, *, program_id: int, email_key: str) -> LoginCandidate:
    """Return what a login with this address is checked against."""
    return _candidate(await db.fetchrow(f"{_LOGIN_CANDIDATE} u.email_key = $2", program_id, email_key))


async def find_login_candidate_by_username(db: Queryable, *, program_id: int, username: str) -> LoginCandidate:
    """Return what a login with this name is checked against."""
    return _candidate(await db.fetchrow(f"{_LOGIN_CANDIDATE} u.username = $2", program_id, username))


async def find_login_candidate_by_both(
    db: Queryable, *, program_id: int, email_key: str, username: str
) -> LoginCandidate:
    """Return what a login with this address and this name, of one account, is checked against."""
    return _candidate(
        await db.fetchrow(f"{_LOGIN_CANDIDATE} u.email_key = $2 AND u.username = $3", program_id, email_key, username)
    )


def _candidate(row: Any) -> LoginCandidate:
    user_id, password_hash, is_active, decoys = row
    if user_id is None:
        return LoginCandidate(known=None, decoys=decoys)
    known = Credentials(user_id=user_id, password_hash=password_hash, is_active=is_active)
    return LoginCandidate(known=known, decoys=decoys)


async def lock_password(tx: Transaction, *, program_id: int, user_id: int, password_hash: str) -> bool:
    """Return whether an active user's password is still the one with this hash, and keep it so until the transaction
    ends: whoever changes it meanwhile waits, and then ends what this transaction began."""
    held = await tx.fetchval(
        """
        SELECT true FROM users WHERE program_id = $1 AND id = $2 AND password_hash = $3 AND is_active FOR SHARE
        """,
        program_id,
        user_id,
        password_hash,
    )
    return held is not None


async def replace_hash(db: Queryable, *, program_id: int, user_id: int, old_hash: str, new_hash: str) -> bool:
    """Write another hash in the place of one; return False where that is not there any more."""
    status = await db.execute(
        "UPDATE users SET password_hash = $4 WHERE program_id = $1 AND id = $2 AND password_hash = $3",
        program_id,
        user_id,
        old_hash,
        new_hash,
    )
    return status == "UPDATE 1"


async def reset_password(db: Queryable, *, program_id: int, user_id: int, new_hash: str) -> bool:
    """Write another password of somebody who has shown to read the account's mail, which confirms its address.

    Return False where the account was deactivated or deleted.
    """
    status = await db.execute(
        """
        UPDATE users
        SET password_hash = $3, is_active = true, confirmed_at = coalesce(confirmed_at, clock_timestamp())
        WHERE program_id = $1 AND id = $2 AND deactivated_at IS NULL AND deleted_at IS NULL
        """,
        program_id,
        user_id,
        new_hash,
    )
    return status == "UPDATE 1"


async def activate(db: Queryable, *, program_id: int, user_id: int) -> bool:
    """Confirm a user's address, and let the account act; return False where that is done already or cannot be."""
    status = await db.execute(
        """
        UPDATE users SET is_active = true, confirmed_at = clock_timestamp()
        WHERE program_id = $1 AND id = $2 AND confirmed_at IS NULL AND deactivated_at IS NULL AND deleted_at IS NULL
        """,
        program_id,
        user_id,
    )
    return status == "UPDATE 1"


async def update_username(db: Queryable, *, program_id: int, user_id: int, username: str) -> User | None:
    """Rename a user; None where there is none. Raises asyncpg.UniqueViolationError naming the constraint."""
    row = await db.fetchrow(
        """
        UPDATE users SET username = $3 WHERE program_id = $1 AND id = $2 AND deleted_at IS NULL
        RETURNING id, email, username
        """,
        program_id,
        user_id,
        username,
    )
    return User(**row) if row else None


async def update_email(db: Queryable, *, program_id: int, user_id: int, email: Email) -> None:
    """Give a user a confirmed new address. Raises asyncpg.UniqueViolationError naming the constraint."""
    await db.execute(
        """
        UPDATE users SET email = $3, email_key = $4, email_identity = $5, confirmed_at = clock_timestamp()
        WHERE program_id = $1 AND id = $2
        """,
        program_id,
        user_id,
        email.typed,
        email.key,
        email.identity,
    )


async def is_email_taken(db: Queryable, *, program_id: int, email_key: str, but: int) -> bool:
    """Return whether somebody but the user with the id `but` has this address."""
    taken: bool = await db.fetchval(
        "SELECT EXISTS (SELECT FROM users WHERE program_id = $1 AND email_key = $2 AND id <> $3)",
        program_id,
        email_key,
        but,
    )
    return taken


async def pseudonymize(db: Queryable, *, program_id: int, user_id: int) -> None:
    """Take everything that tells who somebody was from an account, and end it.

    Neither the address (`.invalid` is nobody's, RFC 2606) nor the name (with a space) can be anybody else's.
    """
    await db.execute(
        """
        UPDATE users
        SET email = pseudonym.email, email_key = pseudonym.email, email_identity = pseudonym.email,
            username = 'deleted ' || $2::bigint, password_hash = '!', is_active = false, is_staff = false,
            confirmed_at = NULL, deleted_at = clock_timestamp()
        FROM (SELECT 'deleted-' || $2::bigint || '@deleted.invalid' AS email) pseudonym
        WHERE program_id = $1 AND id = $2
        """,
        program_id,
        user_id,
    )


async def deactivate(db: Queryable, *, program_id: int, user_id: int) -> bool:
    """Keep a user out; return False where the user is out already."""
    status = await db.execute(
        """
        UPDATE users SET is_active = false, deactivated_at = clock_timestamp()
        WHERE program_id = $1 AND id = $2 AND deactivated_at IS NULL AND deleted_at IS NULL
        """,
        program_id,
        user_id,
    )
    return status == "UPDATE 1"


async def reactivate(db: Queryable, *, program_id: int, user_id: int) -> bool:
    """Let a deactivated user in again, to where the user was: one whose address is still to be confirmed, to the door.

    Return False where the user was not kept out.
    """
    status = await db.execute(
        """
        UPDATE users
        SET deactivated_at = NULL,
            is_active = confirmed_at IS NOT NULL OR (SELECT activation = 'off' FROM programs WHERE id = $1)
        WHERE program_id = $1 AND id = $2 AND deactivated_at IS NOT NULL AND deleted_at IS NULL
        """,
        program_id,
        user_id,
    )
    return status == "UPDATE 1"
