"""Each invariant finds what breaks it, and nothing else does."""

from collections.abc import AsyncIterator, Collection
from typing import Any

import asyncpg
import pytest

from invitree.invariants import INVARIANTS
from invitree.migrations import HEAD
from tests.databases import broken_on, fill

ANSWER = """
    INSERT INTO idempotency_keys (program_id, key_hash, fingerprint, user_id, status, body)
    SELECT program_id, 'key', '', id, 201, '' FROM users ORDER BY id LIMIT 1
"""
FIRST, LAST = "(SELECT min(id) FROM referrals)", "(SELECT max(id) FROM referrals)"
MANY_MAY_LIVE = "DROP INDEX refresh_tokens_one_live"
ANOTHER_TOKEN = """
    INSERT INTO refresh_tokens (program_id, session_id, parent_id, used_at, token_hash, expires_at)
    SELECT program_id, session_id, {}, 'another', expires_at FROM refresh_tokens WHERE used_at IS NULL LIMIT 1
"""
REFERRED = f"FROM referrals r WHERE r.id = {FIRST} AND codes.program_id = r.program_id AND codes.id = r.code_id"
SHADOW = """
    CREATE VIEW shadow.pg_settings AS
    SELECT name, CASE name WHEN 'fsync' THEN 'off' ELSE setting END AS setting FROM pg_catalog.pg_settings
"""
# Foreign keys of what may be nobody's: then it is the program alone that it points at.
NOBODYS = {"audit_program", "idempotency_keys_program"}
# What is done, by the superuser and past triggers and foreign keys; and what is broken then.
CASES: dict[str, tuple[Collection[str], Collection[str]]] = {
    "a second live code": (
        [
            "DROP INDEX codes_one_live",
            """
            INSERT INTO codes (program_id, user_id, code, expires_at)
            SELECT program_id, user_id, 'TWO', expires_at FROM codes LIMIT 1
            """,
        ],
        ["I1"],
    ),
    "a second referrer": (
        [
            "ALTER TABLE referrals DROP CONSTRAINT referrals_one_referrer",
            f"""
            INSERT INTO referrals (program_id, referrer_id, referee_id, created_at)
            SELECT last.program_id, last.referrer_id, first.referee_id, last.created_at
            FROM referrals last, referrals first WHERE last.id = {LAST} AND first.id = {FIRST}
            """,
        ],
        ["I2a"],
    ),
    "somebody who brought themselves": (
        [
            "ALTER TABLE referrals DROP CONSTRAINT referrals_not_oneself",
            f"UPDATE referrals SET referrer_id = referee_id, code_id = NULL WHERE id = {FIRST}",
        ],
        ["I2a", "I2b"],
    ),
    "a circle": (
        [
            f"""
            UPDATE referrals r SET referrer_id = other.referee_id, code_id = NULL FROM referrals other
            WHERE (r.id = {FIRST} AND other.id = {LAST}) OR (r.id = {LAST} AND other.id = {FIRST})
            """
        ],
        ["I2b"],
    ),
    "somebody who was brought after bringing others": (
        [
            f"""
            UPDATE referrals r SET referrer_id = last.referee_id, code_id = NULL FROM referrals last
            WHERE r.id = {FIRST} AND last.id = {LAST}
            """
        ],
        ["I2b"],
    ),
    "a referral by another's code": (
        [f"UPDATE referrals SET code_id = (SELECT max(id) FROM codes) WHERE id = {FIRST}"],
        ["I3"],
    ),
    "a referral before its code": (
        [f"UPDATE codes SET created_at = r.created_at + interval '1 microsecond' {REFERRED}"],
        ["I3"],
    ),
    "a referral at the end of its code": ([f"UPDATE codes SET expires_at = r.created_at {REFERRED}"], ["I3"]),
    "a referral after its code was revoked": (
        [f"UPDATE codes SET revoked_at = r.created_at - interval '1 microsecond' {REFERRED}"],
        ["I3"],
    ),
    "a referral in the last moment of its code": (
        [
            f"UPDATE codes SET expires_at = r.created_at + interval '1 microsecond' {REFERRED}",
            f"UPDATE codes SET revoked_at = r.created_at {REFERRED}",
        ],
        [],
    ),
    "a second unused refresh token": ([MANY_MAY_LIVE, ANOTHER_TOKEN.format("NULL, NULL")], ["I4a"]),
    "a successor of an unused refresh token": (
        [MANY_MAY_LIVE, "UPDATE refresh_tokens SET used_at = CASE WHEN used_at IS NULL THEN clock_timestamp() END"],
        ["I4b"],
    ),
    "a second successor": (
        [
            "ALTER TABLE refresh_tokens DROP CONSTRAINT refresh_tokens_one_successor",
            ANOTHER_TOKEN.format("parent_id, clock_timestamp()"),
        ],
        ["I4b"],
    ),
    "a user without an event": (
        [
            """
            INSERT INTO audit (program_id, user_id, actor, kind)
            SELECT program_id, min(id), 'self', 'account.created' FROM users GROUP BY program_id
            """
        ],
        ["I5"],
    ),
    "a second answer": (["ALTER TABLE idempotency_keys DROP CONSTRAINT idempotency_keys_pkey", ANSWER], ["I7"]),
    "a session of nobody": (["UPDATE sessions SET user_id = -1 WHERE id = (SELECT max(id) FROM sessions)"], ["I9"]),
    "a commit that does not wait": (["SET LOCAL synchronous_commit = off"], ["I10"]),
    "a disk that is not waited for": (
        ["CREATE SCHEMA shadow", SHADOW, "SET LOCAL search_path = shadow, public, pg_catalog"],
        ["I10"],
    ),
    "nothing": ([], []),
}


@pytest.fixture(scope="module")
async def filled(database_url: str) -> str:
    """The URL, as the superuser, of a database with some rows in every table."""
    await fill(database_url, users=10, at=HEAD)
    admin = database_url.replace("://invitree@", "://postgres@")
    db = await asyncpg.connect(admin)
    await db.execute(ANSWER)
    await db.close()
    return admin


@pytest.fixture
async def db(filled: str) -> AsyncIterator[Any]:
    """A connection on which anything can be done and nothing is kept."""
    connection = await asyncpg.connect(filled)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SET LOCAL session_replication_role = replica")
    yield connection
    await transaction.rollback()
    await connection.close()


def test_every_invariant_is_broken_here() -> None:
    assert {name for _, names in CASES.values() for name in names} == {invariant.name for invariant in INVARIANTS}


@pytest.mark.parametrize("case", CASES)
async def test_an_invariant_finds_what_breaks_it(db: Any, case: str) -> None:
    statements, names = CASES[case]
    for statement in statements:
        await db.execute(statement)
    assert [broken.invariant.name for broken in await broken_on(db)] == list(names)


async def test_a_row_that_points_at_nothing_is_found_in_every_table(db: Any) -> None:
    """As far as a foreign key says where it should point: each is passed by once."""
    keys = await db.fetch(
        """
        SELECT c.conname AS name, c.conrelid::regclass::text AS child, a.attname AS last
        FROM pg_constraint c
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[cardinality(c.conkey)]
        WHERE c.contype = 'f' AND c.conparentid = 0
        """
    )
    assert keys
    for key in keys:
        nobodys = ", user_id = NULL" if key["name"] in NOBODYS else ""
        point = db.transaction()
        await point.start()
        await db.execute(
            f"""
            UPDATE {key["child"]} SET {key["last"]} = -1{nobodys}
            WHERE ctid = (SELECT ctid FROM {key["child"]} LIMIT 1)
            """
        )
        examples = [
            example for broken in await broken_on(db) for example in broken.examples if broken.invariant.name == "I9"
        ]
        await point.rollback()
        assert any(f"of={key['child']}, " in example for example in examples), key["name"]
