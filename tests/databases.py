"""Databases of their own, filled quickly with rows that break nothing which must hold, and what tells two apart."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from subprocess import run
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from invitree.invariants import INVARIANTS
from invitree.kit.data.db import Queryable
from invitree.kit.data.invariants import Broken, check
from invitree.kit.postgres.programs import bundled_programs

# What text can be, for whatever carries it from one database to another.
ODD = "a\ttab, a\nnewline, a \\. and \\N, 'quotes', \"quotes\", $$, ёж, \U0001f994"

# Users in pairs, the even ones brought by the one before them: of every table of the first schema.
_FIRST = (
    """
    INSERT INTO users (program_id, email, email_key, email_identity, username, password_hash, is_active)
    SELECT p.id, n || '@example.com', n || '@example.com', n || '@example.com', 'user ' || n, $2 || n, n % 100 <> 0
    FROM programs p, generate_series(1, $1::bigint) n WHERE p.slug = 'default'
    """,
    """
    INSERT INTO codes (program_id, user_id, code, expires_at)
    SELECT program_id, id, 'CODE' || id, clock_timestamp() + interval '1 year' FROM users WHERE id % 2 = 1
    """,
    """
    INSERT INTO referrals (program_id, referrer_id, referee_id, code_id, created_at)
    SELECT u.program_id, c.user_id, u.id, c.id, clock_timestamp()
    FROM users u JOIN codes c ON c.program_id = u.program_id AND c.user_id = u.id - 1 ORDER BY u.id
    """,
    "INSERT INTO sessions (program_id, user_id, token_hash) SELECT program_id, id, sha256(id::text::bytea) FROM users",
    "INSERT INTO sessions (program_id, user_id) SELECT program_id, id FROM users",
    """
    INSERT INTO refresh_tokens (program_id, session_id, token_hash, expires_at, used_at)
    SELECT program_id, id, sha256(id::text::bytea), clock_timestamp(), clock_timestamp()
    FROM sessions WHERE token_hash IS NULL
    """,
    """
    INSERT INTO refresh_tokens (program_id, session_id, token_hash, expires_at, parent_id)
    SELECT program_id, session_id, sha256('next ' || id::text::bytea), clock_timestamp() + interval '30 days', id
    FROM refresh_tokens
    """,
)
# What the second brought.
_IDENTITY = (
    """
    INSERT INTO one_time_tokens (program_id, user_id, kind, token_hash, new_email, expires_at)
    SELECT program_id, id, 'email_change', sha256(id::text::bytea), $1, clock_timestamp() FROM users
    """,
    """
    INSERT INTO events (program_id, user_id, actor, kind, ip_prefix)
    SELECT program_id, id, 'self', 'user.created', $1 FROM users
    """,
    """
    INSERT INTO throttles (program_id, scope, key, clear_at)
    SELECT program_id, $1, sha256(id::text::bytea), clock_timestamp() FROM users
    """,
    """
    INSERT INTO pgqueuer (priority, entrypoint, payload, status) SELECT 0, 'nothing', convert_to($1, 'UTF8'), 'queued'
    FROM users LIMIT 100
    """,
)
# What each revision since brought.
_LATER = {
    "0003": "INSERT INTO imported_users SELECT program_id, $1, id, id FROM users",
    "0004": """
    INSERT INTO idempotency_keys (program_id, key_hash, fingerprint, user_id, status, body)
    SELECT program_id, sha256(id::text::bytea), '', id, 201, convert_to($1, 'UTF8') FROM users
    """,
    "0005": "INSERT INTO invariant_checks (name, broken_rows) VALUES ($1, 0)",
}
_HASH = """SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY md5(t::text) COLLATE "C")) FROM {} t"""


@asynccontextmanager
async def database(postgres: str, *, migrated: bool = False) -> AsyncIterator[str]:
    """Yield the URL of a database without tables, or of a copy of the migrated one."""
    name, own = f"t{uuid4().hex}", urlunsplit(urlsplit(postgres)._replace(path="/postgres"))
    template = "TEMPLATE invitree" if migrated else ""
    await execute(own, f"CREATE DATABASE {name} {template} OWNER invitree", admin=True)
    yield urlunsplit(urlsplit(postgres)._replace(path=f"/{name}"))
    await execute(own, f"DROP DATABASE {name} (FORCE)", admin=True)


async def execute(url: str, statement: str, *, admin: bool = False) -> Any:
    """Run one statement, as the server's superuser if asked to; return the first value that it finds."""
    db = await asyncpg.connect(url.replace("://invitree@", "://postgres@") if admin else url)
    found = await db.fetchval(statement)
    await db.close()
    return found


async def broken_invariants(url: str) -> list[Broken]:
    """Return what does not hold in a database."""
    db = await asyncpg.connect(url)
    found = await broken_on(db)
    await db.close()
    return found


async def broken_on(db: Queryable) -> list[Broken]:
    """Return what does not hold as a connection sees it."""
    return [broken for invariant in INVARIANTS if (broken := await check(db, invariant))]


async def fill(url: str, *, users: int, at: str) -> None:
    """Fill every table of a database whose schema is of the revision `at`."""
    db = await asyncpg.connect(url)
    made, *others = _FIRST
    await db.execute(made, users, ODD)
    for statement in others:
        await db.execute(statement)
    later = [statement for revision, statement in _LATER.items() if at >= revision]
    for statement in (*(_IDENTITY if at >= "0002" else ()), *later):
        await db.execute(statement, ODD)
    await db.close()


async def table_names(db: Queryable) -> list[str]:
    """Return the tables in order, a partitioned one without its partitions."""
    rows = await db.fetch(
        """
        SELECT relname FROM pg_class
        WHERE relkind IN ('r', 'p') AND NOT relispartition AND relnamespace = 'public'::regnamespace ORDER BY relname
        """
    )
    return [row["relname"] for row in rows]


async def contents(url: str) -> Mapping[str, Any]:
    """Return how many rows each table has, with a hash of them, and where each sequence stands."""
    db = await asyncpg.connect(url)
    found: dict[str, Any] = {}
    for table in await table_names(db):
        [row] = await db.fetch(_HASH.format(table))
        found[table] = tuple(row)
    for sequence in await db.fetch("SELECT sequencename AS name, last_value FROM pg_sequences ORDER BY sequencename"):
        found[sequence["name"]] = sequence["last_value"]
    await db.close()
    return found


def schema(url: str) -> str:
    """Return a database's schema as SQL."""
    command = [str(bundled_programs() / "pg_dump"), "--schema-only", "--no-owner", "--no-privileges", url]
    done = run(command, capture_output=True, text=True, check=True)
    # From PostgreSQL 18 on a NOT NULL has a name, which an older one does not keep.
    said = re.sub(r" CONSTRAINT \w+_not_null NOT NULL", " NOT NULL", done.stdout)
    return "\n".join(line for line in said.splitlines() if not line.startswith(("--", "\\", "SET ")))
