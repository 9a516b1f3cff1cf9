"""Jobs for the worker, enqueued in the caller's transaction."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from msgspec import Struct

from invitree.kit.data.db import Queryable

WORKER = "invitree worker"
"""The application_name of a worker's connections."""


class GiveUp(Exception):
    """Raised by a job that can never succeed. The message is the reason, without secrets and personal data."""


class TryAgain(Exception):
    """Raised by a job that failed for now. The message is the reason, without secrets and personal data.

    `in_doubt`: the job may have taken effect after all. `obstacle`: a stable name of what blocks all jobs of this kind
    until the operator fixes it.
    """

    def __init__(self, reason: str, *, in_doubt: bool = False, obstacle: str = "") -> None:
        super().__init__(reason)
        self.in_doubt, self.obstacle = in_doubt, obstacle


class Job(Struct, frozen=True, kw_only=True):
    """An unfinished job: `queued`, `picked` (running) or `failed` (given up)."""

    id: int
    status: Literal["queued", "picked", "failed"]
    payload: bytes
    attempts: int
    """The number of attempts, including a running one."""
    created_at: datetime
    next_at: datetime | None
    """The time of the next attempt; None unless queued."""
    reason: str | None
    """The error of the last failed attempt."""


class Backlog(Struct, frozen=True, kw_only=True):
    """Statistics on the unfinished jobs of one name."""

    waiting: int = 0
    blocked: int = 0
    """How many of those waiting met an obstacle that the operator has to remove."""
    given_up: int = 0
    most_in_doubt: int = 0
    """The largest number of attempts of one job with an unknown outcome: it may have taken effect that often."""
    oldest_s: float = 0.0
    """The age of the oldest waiting job, in seconds."""


async def enqueue(db: Queryable, *, job: str, payload: Any) -> None:
    """Enqueue a job with a payload that can be encoded as JSON and contains no secrets.

    Writes the same rows as PgQueuer's `enqueue` (a test compares them), because importing PgQueuer would cost a web
    process 0.6 s and 20 MB.
    """
    await db.execute(
        """
        WITH added AS (
            INSERT INTO pgqueuer (priority, entrypoint, payload, headers, status)
            VALUES (0, $1, $2, 'null', 'queued')
            RETURNING id
        )
        INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority) SELECT id, 'queued', $1, 0 FROM added
        """,
        job,
        msgspec.json.encode(payload),
    )


async def list_jobs(db: Queryable, *, job: str, failed: bool = False) -> list[Job]:
    """Return the unfinished jobs of this name, or only those given up, oldest first."""
    rows = await db.fetch(
        """
        SELECT q.id, q.status::text, q.payload, q.attempts + CASE q.status WHEN 'queued' THEN 0 ELSE 1 END AS attempts,
            q.created AS created_at, CASE q.status WHEN 'queued' THEN q.execute_after END AS next_at, last.reason
        FROM pgqueuer q LEFT JOIN LATERAL (
            SELECT l.traceback ->> 'exception_message' AS reason FROM pgqueuer_log l
            WHERE l.job_id = q.id AND l.traceback IS NOT NULL ORDER BY l.created DESC, l.id DESC LIMIT 1
        ) last ON TRUE
        WHERE q.entrypoint = $1 AND (q.status = 'failed' OR NOT $2)
        ORDER BY q.id
        """,
        job,
        failed,
    )
    return [Job(**dict(row)) for row in rows]


async def backlog(db: Queryable, *, job: str) -> Backlog:
    """Return statistics on the unfinished jobs of this name."""
    row = await db.fetchrow(
        """
        SELECT count(*) FILTER (WHERE status <> 'failed') AS waiting,
            count(*) FILTER (WHERE status <> 'failed' AND headers ? 'obstacle') AS blocked,
            count(*) FILTER (WHERE status = 'failed') AS given_up,
            coalesce(max((headers ->> 'in_doubt')::int), 0) AS most_in_doubt,
            coalesce(extract(
                epoch FROM statement_timestamp() - min(created) FILTER (WHERE status <> 'failed')
            ), 0)::float AS oldest_s
        FROM pgqueuer WHERE entrypoint = $1
        """,
        job,
    )
    return Backlog(**dict(row)) if row else Backlog()


async def retry_jobs(db: Queryable, *, ids: Sequence[int]) -> list[int]:
    """Requeue jobs that were given up, with a fresh number of attempts. Return the ids of those requeued.

    Writes the same rows as PgQueuer's `requeue_jobs`, which does not return the ids.
    """
    rows = await db.fetch(
        """
        WITH queued AS (
            UPDATE pgqueuer SET status = 'queued', execute_after = now(), updated = now(), attempts = 0,
                queue_manager_id = NULL, headers = 'null'
            WHERE id = ANY($1::bigint[]) AND status = 'failed'
            RETURNING id, entrypoint, priority
        ), logged AS (
            INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority)
            SELECT id, 'queued', entrypoint, priority FROM queued
        )
        SELECT id FROM queued ORDER BY id
        """,
        list(ids),
    )
    return [row["id"] for row in rows]


async def cap_future_times(db: Queryable, *, longest_delay: timedelta) -> None:
    """Correct times in the future, written while the clock was ahead.

    Otherwise a job would wait, or a dead worker's job would count as running, for as long as the clock was ahead.
    """
    await db.execute(
        """
        UPDATE pgqueuer SET heartbeat = least(heartbeat, now()), execute_after = least(execute_after, now())
        WHERE (status = 'picked' AND heartbeat > now() + interval '1 minute')
            OR (status = 'queued' AND execute_after > now() + $1::interval + interval '1 minute')
        """,
        longest_delay,
    )


async def delete_given_up_jobs(db: Queryable, *, older_than: timedelta) -> int:
    """Delete the jobs that were given up longer ago than this; return their number."""
    status = await db.execute(
        "DELETE FROM pgqueuer WHERE status = 'failed' AND updated < now() - $1::interval", older_than
    )
    return int(status.removeprefix("DELETE "))


async def has_worker(db: Queryable) -> bool:
    """Return whether any worker is connected, on any machine."""
    found: bool = await db.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1
        )
        """,
        WORKER,
    )
    return found


async def prune_job_log(db: Queryable, *, older_than: timedelta) -> None:
    """Delete PgQueuer's log and statistics that are older than this; PgQueuer itself never does.

    The log of unfinished jobs is kept, because it has their errors.
    """
    await db.execute(
        """
        DELETE FROM pgqueuer_log l
        WHERE l.created < now() - $1::interval
            AND NOT EXISTS (SELECT FROM pgqueuer q WHERE q.id = l.job_id)
        """,
        older_than,
    )
    await db.execute("DELETE FROM pgqueuer_statistics WHERE created < now() - $1::interval", older_than)
