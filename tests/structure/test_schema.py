"""The rules of the schema, asked of PostgreSQL's own catalog after the migrations."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from invitree import migrations
from invitree.migrations.upgrade import revision
from tests.databases import table_names

TENANT = {"users", "sessions", "refresh_tokens", "codes", "referrals", "one_time_tokens", "audit", "imported_users",
          "idempotency_keys"}  # fmt: skip
UNLOGGED = {"throttles"}
OF_ALL_PROGRAMS = {"programs", "invariant_checks"}
NOT_OURS = {"alembic_version", "pgqueuer", "pgqueuer_log", "pgqueuer_schedules", "pgqueuer_statistics"}


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Any]:
    """A connection to a migrated database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", migrations.__path__[0])
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [migrations.HEAD]


async def test_migrations_bring_an_empty_database_to_head(db: Any) -> None:
    assert await revision(db) == migrations.HEAD
    assert set(await table_names(db)) == TENANT | UNLOGGED | OF_ALL_PROGRAMS | NOT_OURS
    assert await db.fetchval("SELECT slug FROM programs") == "default"


async def test_the_default_program_has_the_promised_policy(db: Any) -> None:
    row = await db.fetchrow("SELECT time_zone, code_length, longest_code_life_days, referral_list FROM programs")
    assert tuple(row) == ("UTC", 10, 366, "masked")


async def test_program_id_leads_every_key_of_every_tenant_table(db: Any) -> None:
    rows = await db.fetch(
        """
        SELECT c.conrelid::regclass::text AS of, c.conname AS name, a.attname AS first, c.contype AS kind
        FROM pg_constraint c JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        WHERE c.contype IN ('p', 'u', 'f') AND c.connamespace = 'public'::regnamespace
        """
    )
    ours = [row for row in rows if row["of"] in TENANT | UNLOGGED]
    assert {row["of"] for row in ours} == TENANT | UNLOGGED
    assert [(row["of"], row["name"]) for row in ours if row["first"] != "program_id"] == []
    indexes = await db.fetch(
        """
        SELECT i.indrelid::regclass::text AS of, i.indexrelid::regclass::text AS name, a.attname AS first
        FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE i.indrelid::regclass::text = ANY($1)
        """,
        list(TENANT | UNLOGGED),
    )
    assert [row["name"] for row in indexes if row["first"] != "program_id"] == []


async def test_every_tenant_table_hangs_under_a_program(db: Any) -> None:
    rows = await db.fetch(
        "SELECT conrelid::regclass::text AS child, confrelid::regclass::text AS parent FROM pg_constraint "
        "WHERE contype = 'f'"
    )
    parents: dict[str, set[str]] = {}
    for row in rows:
        parents.setdefault(row["child"], set()).add(row["parent"])
    for table in TENANT:
        seen, todo = set(), {table}
        while todo:
            seen |= todo
            todo = {parent for child in todo for parent in parents.get(child, ())} - seen
        assert "programs" in seen, table


async def test_a_foreign_key_has_an_index_on_its_own_side(db: Any) -> None:
    rows = await db.fetch(
        """
        SELECT c.conname FROM pg_constraint c
        WHERE c.contype = 'f' AND NOT EXISTS (
            SELECT FROM pg_index i
            WHERE i.indrelid = c.conrelid AND i.indpred IS NULL
              AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey
        )
        """
    )
    assert [row["conname"] for row in rows] == []


async def test_what_was_added_gently_was_also_finished(db: Any) -> None:
    for query in (
        "SELECT conname FROM pg_constraint WHERE NOT convalidated",
        "SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid",
    ):
        assert await db.fetch(query) == []


async def test_types_are_the_house_types(db: Any) -> None:
    columns = await db.fetch(
        """
        SELECT table_name, column_name, data_type, column_default, is_identity FROM information_schema.columns
        WHERE table_schema = 'public' AND table_name <> ALL($1)
        """,
        [*NOT_OURS, "events"],
    )
    allowed = {"bigint", "integer", "text", "boolean", "bytea", "timestamp with time zone", "ARRAY"}
    assert {row["data_type"] for row in columns} <= allowed
    for row in columns:
        if row["column_name"] == "id":
            assert row["data_type"] == "bigint"
            assert row["column_default"].startswith("nextval")
            assert row["is_identity"] == "NO"
        if row["column_name"].endswith("_id"):
            assert row["data_type"] == "bigint"


async def test_a_row_cannot_point_into_another_program(db: Any) -> None:
    transaction = db.transaction()
    await transaction.start()
    other = await db.fetchval("INSERT INTO programs (slug) VALUES ('other') RETURNING id")
    home = await db.fetchval("SELECT id FROM programs WHERE slug = 'default'")
    user = await db.fetchval(
        """
        INSERT INTO users (program_id, email, email_key, email_identity, username, password_hash)
        VALUES ($1, 'x', 'x', 'x', 'x', 'x') RETURNING id
        """,
        home,
    )
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await db.execute(
            "INSERT INTO codes (program_id, user_id, code, expires_at) VALUES ($1, $2, 'AAAA', now() + '1 day')",
            other,
            user,
        )
    await transaction.rollback()
