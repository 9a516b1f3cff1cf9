"""Jobs as rows: written, retried and forgotten exactly as PgQueuer does it, without PgQueuer."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import msgspec
import pytest
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.types import JobId

from invitree.kit.work.jobs import enqueue, list_jobs, prune_job_log, retry_jobs

PAYLOAD = {"kind": "activation", "user_id": 5}
# What is different of any two rows.
OWN = {"id", "job_id", "created", "updated", "heartbeat", "execute_after"}


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Any]:
    """A connection to a database without jobs."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_statistics")
    yield connection
    await connection.close()


async def rows(db: Any, table: str) -> list[dict[str, Any]]:
    """Return what a table holds, but for ids and times."""
    found = await db.fetch(f"SELECT * FROM {table} ORDER BY id")
    return [{name: value for name, value in row.items() if name not in OWN} for row in found]


async def fail(db: Any, *, reason: str = "550 no") -> int:
    """Leave a job that was given up after three attempts; return its id."""
    await enqueue(db, job="send_mail", payload=PAYLOAD)
    number: int = await db.fetchval(
        "UPDATE pgqueuer SET status = 'failed', attempts = 2 WHERE id = (SELECT max(id) FROM pgqueuer) RETURNING id"
    )
    await db.execute(
        "INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority, traceback) "
        "VALUES ($1, 'failed', 'send_mail', 0, $2::jsonb)",
        number,
        msgspec.json.encode({"exception_message": reason}).decode(),
    )
    return number


async def test_enqueue_writes_what_pgqueuer_writes(db: Any) -> None:
    await enqueue(db, job="send_mail", payload=PAYLOAD)
    ours = [await rows(db, table) for table in ("pgqueuer", "pgqueuer_log")]
    times = await db.fetchrow(
        "SELECT created = updated AND created = heartbeat AND created = execute_after FROM pgqueuer"
    )
    await db.execute("TRUNCATE pgqueuer, pgqueuer_log")
    await Queries.from_asyncpg_connection(db).enqueue("send_mail", msgspec.json.encode(PAYLOAD))
    assert ours == [await rows(db, table) for table in ("pgqueuer", "pgqueuer_log")]
    assert len(ours[0]) == len(ours[1]) == 1
    assert times[0] is True


async def test_a_job_is_there_exactly_if_the_transaction_commits(db: Any) -> None:
    transaction = db.transaction()
    await transaction.start()
    await enqueue(db, job="send_mail", payload=PAYLOAD)
    assert len(await rows(db, "pgqueuer")) == 1
    await transaction.rollback()
    assert await rows(db, "pgqueuer") == await rows(db, "pgqueuer_log") == []


async def test_retry_writes_what_pgqueuer_writes(db: Any) -> None:
    number = await fail(db)
    assert await retry_jobs(db, ids=[number]) == [number]
    ours = [await rows(db, table) for table in ("pgqueuer", "pgqueuer_log")]
    await db.execute("TRUNCATE pgqueuer, pgqueuer_log")
    number = await fail(db)
    await Queries.from_asyncpg_connection(db).requeue_jobs([JobId(number)])
    assert ours == [await rows(db, table) for table in ("pgqueuer", "pgqueuer_log")]
    assert ours[0][0]["attempts"] == 0


async def test_only_what_was_given_up_is_retried(db: Any) -> None:
    failed = await fail(db)
    await enqueue(db, job="send_mail", payload=PAYLOAD)
    before = await db.fetchrow("SELECT * FROM pgqueuer WHERE id <> $1", failed)
    assert await retry_jobs(db, ids=[failed, before["id"], 10**12]) == [failed]
    assert await db.fetchrow("SELECT * FROM pgqueuer WHERE id <> $1", failed) == before


async def test_the_list_tells_how_often_when_and_why(db: Any) -> None:
    failed = await fail(db, reason="450 later")
    await db.execute("UPDATE pgqueuer_log SET created = created - interval '1 hour'")
    await db.execute(
        "INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority, traceback) "
        """VALUES ($1, 'failed', 'send_mail', 0, '{"exception_message": "550 no"}')""",
        failed,
    )
    await enqueue(db, job="send_mail", payload=PAYLOAD)
    await enqueue(db, job="another", payload=PAYLOAD)
    first, second = await list_jobs(db, job="send_mail")
    assert (first.id, first.status, first.attempts, first.next_at, first.reason) == (
        failed,
        "failed",
        3,
        None,
        "550 no",
    )
    assert (second.status, second.attempts, second.reason) == ("queued", 0, None)
    assert second.next_at == second.created_at
    assert msgspec.json.decode(second.payload) == PAYLOAD
    assert await list_jobs(db, job="send_mail", failed=True) == [first]


async def test_old_news_are_forgotten_but_not_why_a_job_has_failed(db: Any) -> None:
    failed = await fail(db)
    await enqueue(db, job="send_mail", payload=PAYLOAD)
    await db.execute("DELETE FROM pgqueuer WHERE status = 'queued'")  # done
    await Queries.from_asyncpg_connection(db).aggregate_logs()
    assert len(await rows(db, "pgqueuer_log")) == 3
    await prune_job_log(db, older_than=timedelta(hours=1))
    assert len(await rows(db, "pgqueuer_log")) == 3
    for table in ("pgqueuer_log", "pgqueuer_statistics"):
        await db.execute(f"UPDATE {table} SET created = created - interval '2 hours'")
    await prune_job_log(db, older_than=timedelta(hours=1))
    assert await db.fetch("SELECT DISTINCT job_id FROM pgqueuer_log") == [(failed,)]
    assert await rows(db, "pgqueuer_statistics") == []
    assert [job.reason for job in await list_jobs(db, job="send_mail")] == ["550 no"]
