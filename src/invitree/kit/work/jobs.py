"""Jobs: rows that the worker takes up, written in the caller's transaction and so there exactly if it commits."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from msgspec import Struct

from invitree.kit.data.db import Queryable

WORKER = "invitree worker"
"""What the connections of a worker call themselves."""


class GiveUp(Exception):
    """Raised by a job that can never be done. The message is the reason, without secrets and personal data."""


class TryAgain(Exception):
    """Raised by a job that cannot be done now. The message is the reason, without secrets and personal data.

    `in_doubt` tells that it may have been done all the same. `obstacle` names, in the same words each time, what stands
    in the way of all jobs of this kind until the operator mends it.
    """

    def __init__(self, reason: str, *, in_doubt: bool = False, obstacle: str = "") -> None:
        super().__init__(reason)
        self.in_doubt, self.obstacle = in_doubt, obstacle


class Job(Struct, frozen=True, kw_only=True):
    """A job that is not done: `queued`, `picked` (being done just now) or `failed` (given up)."""

    id: int
    status: Literal["queued", "picked", "failed"]
    payload: bytes
    attempts: int
    """How often it was begun."""
    created_at: datetime
    next_at: datetime | None
    """When it is tried next; None unless it is queued."""
    reason: str | None
    """Why the last attempt failed."""


class Backlog(Struct, frozen=True, kw_only=True):
    """How the jobs of one name are doing."""

    waiting: int = 0
    blocked: int = 0
    """Of those that wait: how many met an obstacle that the operator has to remove."""
    given_up: int = 0
    most_in_doubt: int = 0
    """The most attempts of one job that began and were not seen to end, or ended in doubt: it may have been done so
    often."""
    oldest_s: float = 0.0
    """How long the oldest that waits has been there."""


async def enqueue(db: Queryable, *, job: str, payload: Any) -> None:
    """Have the worker do the job of this name, with a payload that JSON can hold and that has no secrets.

    Writes what PgQueuer's own `enqueue` writes (a test compares the two): importing it would take a web process 0.6 s
    and 20 MB for one statement.
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
    """Return the jobs of this name that are not done, or only those given up, the oldest first."""
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
    """Return how the jobs of this name are doing."""
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
    """Queue jobs that were given up anew, with all their attempts before them. Return which of `ids` these were.

    Writes what PgQueuer's own `requeue_jobs` writes, which does not say what it has found.
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
    """Bring back what a clock that was ahead and was put right has left in the future.

    Else a job would wait, or count as being done by a worker that has died, for as long as the clock was ahead.
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
    """Delete the jobs that were given up longer ago than this; return how many there were."""
    status = await db.execute(
        "DELETE FROM pgqueuer WHERE status = 'failed' AND updated < now() - $1::interval", older_than
    )
    return int(status.removeprefix("DELETE "))


async def has_worker(db: Queryable) -> bool:
    """Return whether any worker is connected, on whichever machine."""
    found: bool = await db.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1
        )
        """,
        WORKER,
    )
    return found


async def prune_job_log(db: Queryable, *, older_than_s: float) -> None:
    """Delete what PgQueuer has noted of jobs longer ago than this; it never does by itself.

    What tells why a job that is still there has failed is kept.
    """
    await db.execute(
        """
        DELETE FROM pgqueuer_log l
        WHERE l.created < now() - make_interval(secs => $1)
            AND NOT EXISTS (SELECT FROM pgqueuer q WHERE q.id = l.job_id)
        """,
        older_than_s,
    )
    await db.execute("DELETE FROM pgqueuer_statistics WHERE created < now() - make_interval(secs => $1)", older_than_s)
