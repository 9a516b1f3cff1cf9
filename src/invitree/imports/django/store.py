"""SQL for reading the Django service's file, and for writing imported rows."""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec import structs

from invitree.imports.django.rules import Code, DjangoData, OldCode, OldReferral, OldToken, OldUser, User
from invitree.kit.data.db import Queryable, Transaction

_TIMEOUT_S = 2.0

# The possible names of each column; a final None makes it optional. Rows are ordered by the first column.
_Names = Sequence[str | None]
_USER: Mapping[str, _Names] = {
    "id": ("id",),
    "username": ("username",),
    "email": ("email",),
    "password": ("password",),
    "is active": ("is_active", None),
    "is staff": ("is_staff", None),
    "is superuser": ("is_superuser", None),
    "joined": ("date_joined", None),
}
_CODE: Mapping[str, _Names] = {
    "id": ("id",),
    "owner": ("user_id", "owner_id", "referrer_id", "author_id", "creator_id"),
    "code": ("code", "referral_code"),
    "end": (
        *("expiration_date", "expires_at", "expiry_date", "expire_date", "expired_at", "expires", "expiration"),
        *("valid_until", "valid_to", "end_date"),
    ),
    "is active": ("is_active", "active", None),
}
_TOKEN: Mapping[str, _Names] = {"owner": ("user_id",), "key": ("key",), "created": ("created", None)}
_REFERRAL: Mapping[str, _Names] = {
    "id": ("id",),
    "referrer": ("referrer_id", "inviter_id", "referral_owner_id", "parent_id", "invited_by_id"),
    "referee": (
        *("referee_id", "referred_id", "referral_id", "referral_user_id", "referred_user_id", "invitee_id"),
        *("invited_id", "invited_user_id", "child_id", "user_id"),
    ),
    "created": (
        *("created_at", "created", "created_on", "date_created", "creation_date", "registered_at", "referred_at"),
        *("registration_date", "date_joined", "joined_at", "date", "timestamp", None),
    ),
}


class Unreadable(Exception):
    """The file cannot be imported. The message is one line."""


def read_django_file(path: Path) -> DjangoData:
    """Read the Django service's SQLite file, without writing to it. Raises Unreadable."""
    if not path.is_file():
        raise Unreadable(f"there is no file {path}")
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=_TIMEOUT_S)) as file:
            file.isolation_level = None
            file.text_factory = lambda raw: raw.decode("utf-8", "replace")
            file.execute("BEGIN")  # a consistent snapshot, in case the service is running
            return DjangoData(
                users=[_user(*row) for row in _read(file, "auth_user", _USER)],
                codes=[_code(*row) for row in _read(file, "stakewolle_referralcode", _CODE)],
                tokens=[_token(*row) for row in _read(file, "authtoken_token", _TOKEN, is_optional=True)],
                referrals=[_referral(*row) for row in _read(file, "stakewolle_referralrelationship", _REFERRAL)],
            )
    except sqlite3.Error as error:
        raise Unreadable(f"{path} cannot be read: {error}") from None


def _read(
    file: sqlite3.Connection, table: str, columns: Mapping[str, _Names], *, is_optional: bool = False
) -> Iterable[Any]:
    """Return the rows of a table, with these columns under whichever of their names it has."""
    found = [name for (name,) in file.execute("SELECT name FROM pragma_table_info(?)", (table,))]
    if not found and is_optional:
        return ()
    if not found:
        raise Unreadable(f"the file has no table {table}; is it the database of the Django service?")
    chosen: list[str] = []
    for what, names in columns.items():
        name = next((name for name in names if name in found), None)
        if name is None and None not in names:
            raise Unreadable(
                f"the table {table} cannot be understood: none of its columns ({', '.join(found)}) is its {what}"
                f" ({', '.join(filter(None, names))})"
            )
        chosen.append(f'"{name}"' if name else "NULL")
    return file.execute(f"SELECT {', '.join(chosen)} FROM {table} ORDER BY 1")  # noqa: S608  names from above


# SQLite columns may contain values of any type.
def _user(
    number: Any, name: Any, email: Any, password: Any, is_active: Any, is_staff: Any, is_superuser: Any, joined: Any
) -> OldUser:
    return OldUser(
        id=_id(number),
        username=_text(name),
        email=_text(email),
        password_hash=_text(password),
        is_active=is_active is None or bool(is_active),
        is_staff=bool(is_staff or is_superuser),
        joined=_text(joined),
    )


def _code(number: Any, owner: Any, code: Any, end: Any, is_active: Any) -> OldCode:
    is_active = is_active is None or bool(is_active)
    return OldCode(id=_id(number), user_id=_number(owner), code=_text(code), ends=_text(end), is_active=is_active)


def _token(owner: Any, key: Any, created: Any) -> OldToken:
    return OldToken(user_id=_number(owner), key=_text(key), created=_text(created))


def _referral(number: Any, referrer: Any, referee: Any, created: Any) -> OldReferral:
    return OldReferral(
        id=_id(number), referrer_id=_number(referrer), referee_id=_number(referee), created=_text(created)
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None or isinstance(value, bytes) else str(value)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _id(value: Any) -> int:
    if isinstance(value, int):
        return value
    raise Unreadable(f"the file has an id that is no number: {value!r}")


async def lock_import(tx: Transaction, *, program_id: int) -> None:
    """Lock a program against concurrent imports until the transaction ends. Sign-ups are not blocked."""
    await tx.execute("SELECT FROM programs p (program_id) WHERE p.program_id = $1 FOR NO KEY UPDATE", program_id)


async def find_imported(db: Queryable, *, program_id: int, source: str, old_ids: Collection[int]) -> dict[int, int]:
    """Return the users imported from a source before: their ids by their old ids."""
    # A lateral lookup per id: the planner does not know how the table grows, and would scan the source for each batch.
    rows = await db.fetch(
        """
        SELECT given.old_id, found.user_id
        FROM unnest($3::bigint[]) AS given (old_id)
        CROSS JOIN LATERAL (
            SELECT user_id FROM imported_users WHERE program_id = $1 AND source = $2 AND old_id = given.old_id OFFSET 0
        ) found
        """,
        program_id,
        source,
        old_ids,
    )
    return {row["old_id"]: row["user_id"] for row in rows}


async def insert_users(db: Queryable, *, program_id: int, source: str, users: Sequence[User]) -> dict[int, int]:
    """Insert users whose addresses and usernames are free; return their ids by their old ids."""
    old_ids = {user.email.key: user.old_id for user in users}
    rows = await db.fetch(
        """
        INSERT INTO users (program_id, email, email_key, email_identity, username, password_hash, is_active, is_staff,
                           created_at, deactivated_at)
        SELECT $1, email, key, identity, username, password_hash, is_active, is_staff, created_at,
               CASE WHEN NOT is_active THEN clock_timestamp() END
        FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bool[], $8::bool[],
                    $9::timestamptz[])
             WITH ORDINALITY
             AS given (email, key, identity, username, password_hash, is_active, is_staff, created_at, n)
        ORDER BY n
        ON CONFLICT DO NOTHING
        RETURNING id, email_key
        """,
        program_id,
        *_columns([(*structs.astuple(user.email), *structs.astuple(user)[2:]) for user in users], 8),
    )
    written = {old_ids[row["email_key"]]: row["id"] for row in rows}
    await _remember(db, program_id=program_id, source=source, written=written)
    return written


async def _remember(db: Queryable, *, program_id: int, source: str, written: Mapping[int, int]) -> None:
    await db.execute(
        """
        INSERT INTO imported_users (program_id, source, old_id, user_id)
        SELECT $1, $2, old_id, user_id FROM unnest($3::bigint[], $4::bigint[]) AS given (old_id, user_id)
        """,
        program_id,
        source,
        list(written.keys()),
        list(written.values()),
    )
    await db.execute(
        """
        INSERT INTO audit (program_id, kind, user_id, actor)
        SELECT $1, 'account.created', user_id, 'operator' FROM unnest($2::bigint[]) AS given (user_id)
        """,
        program_id,
        list(written.values()),
    )


async def find_taken_emails(db: Queryable, *, program_id: int, email_keys: Collection[str]) -> set[str]:
    """Return which of these addresses are taken."""
    rows = await db.fetch(
        """
        SELECT given.email_key
        FROM unnest($2::text[]) AS given (email_key)
        CROSS JOIN LATERAL (
            SELECT FROM users WHERE program_id = $1 AND users.email_key = given.email_key OFFSET 0
        ) found
        """,
        program_id,
        email_keys,
    )
    return {row["email_key"] for row in rows}


async def insert_codes(db: Queryable, *, program_id: int, codes: Sequence[tuple[int, Code]]) -> set[str]:
    """Insert codes of users without any, if their texts are free; return those inserted."""
    rows = await db.fetch(
        """
        INSERT INTO codes (program_id, user_id, code, created_at, expires_at, revoked_at)
        SELECT $1, user_id, code, created_at, expires_at, CASE WHEN is_revoked THEN clock_timestamp() END
        FROM unnest($2::bigint[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::bool[]) WITH ORDINALITY
             AS given (user_id, code, created_at, expires_at, is_revoked, n)
        ORDER BY n
        ON CONFLICT (program_id, code) DO NOTHING
        RETURNING code
        """,
        program_id,
        *_columns([(user_id, *structs.astuple(code)[1:]) for user_id, code in codes], 5),
    )
    return {row["code"] for row in rows}


async def respell_codes(db: Queryable, *, program_id: int, codes: Sequence[tuple[int, Code]]) -> list[str]:
    """Restore the given spelling of codes in which O, I and L were folded; return their owners' email keys.

    A spelling taken by another code is not restored. Only imports write an O, I or L, and one import at a time.
    """
    rows = await db.fetch(
        """
        UPDATE codes c SET code = given.code
        FROM unnest($2::bigint[], $3::text[], $4::timestamptz[]) AS given (user_id, code, expires_at), users u
        WHERE c.program_id = $1 AND c.user_id = given.user_id AND c.expires_at = given.expires_at
          AND c.code = translate(given.code, 'OIL', '011') AND c.code <> given.code
          AND NOT EXISTS (SELECT FROM codes taken WHERE taken.program_id = $1 AND taken.code = given.code)
          AND u.program_id = $1 AND u.id = given.user_id
        RETURNING u.email_key
        """,
        program_id,
        *_columns([(user_id, code.text, code.expires_at) for user_id, code in codes], 3),
    )
    return [row["email_key"] for row in rows]


async def insert_sessions(db: Queryable, *, program_id: int, tokens: Sequence[tuple[int, bytes, datetime]]) -> set[int]:
    """Insert sessions (user id, token hash, start). Return the users whose tokens were new."""
    rows = await db.fetch(
        """
        INSERT INTO sessions (program_id, user_id, token_hash, created_at, last_seen_at)
        SELECT $1, user_id, token_hash, created_at, created_at
        FROM unnest($2::bigint[], $3::bytea[], $4::timestamptz[]) AS given (user_id, token_hash, created_at)
        ON CONFLICT (program_id, token_hash) DO NOTHING
        RETURNING user_id
        """,
        program_id,
        *_columns(tokens, 3),
    )
    return {row["user_id"] for row in rows}


async def insert_referrals(db: Queryable, *, program_id: int, referrals: Sequence[tuple[int, int, datetime]]) -> None:
    """Insert referrals (referrer, referee, time), with ascending ids; no referee may have a referrer yet."""
    await db.execute(
        """
        INSERT INTO referrals (program_id, referrer_id, referee_id, created_at)
        SELECT $1, referrer_id, referee_id, created_at
        FROM unnest($2::bigint[], $3::bigint[], $4::timestamptz[]) WITH ORDINALITY
             AS given (referrer_id, referee_id, created_at, n)
        ORDER BY n
        """,
        program_id,
        *_columns(referrals, 3),
    )


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[row[number] for row in rows] for number in range(width)]
