"""A database that answers and cannot carry the service: what its owner has set, or a standby."""

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from invitree.kit.data.checks import UnreachableDatabase, UnusableDatabase, check_usable
from invitree.kit.data.db import Database
from invitree.migrations.upgrade import upgrade
from tests.conftest import New
from tests.databases import execute


def name_of(url: str) -> str:
    return urlsplit(url).path[1:]


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("default_transaction_read_only = on", "is read-only"),
        ("search_path = nowhere", "search_path names no schema"),
        ("synchronous_commit = off", "synchronous_commit is off"),
    ],
)
async def test_a_setting_of_the_database_that_breaks_a_promise_is_refused(
    new_database: New, setting: str, reason: str
) -> None:
    url = await new_database()
    await check_usable(url)
    await execute(url, f"ALTER DATABASE {name_of(url)} SET {setting}")
    with pytest.raises(UnusableDatabase, match=reason) as refusal:
        await check_usable(url)
    assert "\n" not in str(refusal.value)


async def test_a_role_that_may_only_read_is_refused_by_the_name_of_a_table(new_database: New) -> None:
    url = await new_database()
    await asyncio.to_thread(upgrade, url)
    await execute(url, "REVOKE INSERT ON users FROM invitree")
    with pytest.raises(UnusableDatabase, match='"invitree" may not write to the table users'):
        await check_usable(url)


async def test_a_role_that_may_make_no_tables_is_told_what_to_grant(new_database: New) -> None:
    url = await new_database()
    await execute(url, "ALTER SCHEMA public OWNER TO postgres", admin=True)
    await execute(url, f"ALTER DATABASE {name_of(url)} OWNER TO postgres", admin=True)
    with pytest.raises(UnusableDatabase, match='GRANT CREATE ON SCHEMA public TO "invitree"'):
        await check_usable(url)


async def test_a_database_that_is_away_may_come_back() -> None:
    with pytest.raises(UnreachableDatabase, match="cannot be reached"):
        await check_usable("postgresql://invitree@127.0.0.1:1/invitree")


async def test_transactions_are_read_committed_whatever_the_database_prefers(new_database: New) -> None:
    url = await new_database()
    await execute(url, f"ALTER DATABASE {name_of(url)} SET default_transaction_isolation = serializable")
    db = Database.at(url, size=1)
    assert await db.fetchval("SHOW transaction_isolation") == "read committed"
    await db.close()


async def test_a_connection_that_meets_a_read_only_server_is_not_lent_again(new_database: New) -> None:
    url = await new_database()
    await execute(url, "CREATE TABLE notes (note text)")
    db = Database.at(url, size=1)
    before = await db.fetchval("SELECT pg_backend_pid()")
    await db.execute("SET default_transaction_read_only = on")  # as on a primary that has become a standby
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await db.execute("INSERT INTO notes VALUES ('')")
    assert await db.fetchval("SELECT pg_backend_pid()") != before
    await db.execute("INSERT INTO notes VALUES ('')")
    await db.close()
