"""The consumer side of jobs: PgQueuer, with reconnects, retries with backoff, and handling of unknown outcomes.

Jobs run at least once, rarely more often. PgQueuer picks a job up again when its heartbeat has been missing for
`_HEARTBEAT_TIMEOUT`: its worker was killed after running it and before recording that, or lost the database at that
point and ended before it came back. The outcome of such an attempt is in doubt. Attempts are counted before they begin,
and a job has at most `_MAX_IN_DOUBT` in doubt. The outcome is recorded even if PgQueuer's log cannot be written.
"""

import asyncio
import logging
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, cast

import asyncpg
import msgspec
import structlog
from pgqueuer.adapters.drivers.asyncpg import AsyncpgPoolDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.logconfig import logger as pgqueuer_logger
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job
from pgqueuer.domain.settings import DBSettings

from invitree.kit.data.connections import connect
from invitree.kit.data.db import OUTAGES
from invitree.kit.process.retries import RetryLog
from invitree.kit.work.jobs import WORKER, GiveUp, TryAgain

JobFunction = Callable[[bytes, int], Awaitable[None]]

# 13 attempts in about three and a half hours, then one an hour for five days: problems with mail are often noticed only
# after a weekend.
DELAYS_S = (*(min(5.0 * 2**exponent, 3600.0) for exponent in range(12)), *(3600.0,) * 116)
AT_ONCE = 10
"""The number of jobs that a worker runs concurrently."""

_MAX_IN_DOUBT = 4
_DOUBT_PENALTY = 4  # steps of the delays that each attempt in doubt skips
_JOB_TIMEOUT_S = 60.0
_GRACE_S = 10.0  # for running jobs when the worker is stopped
_HEARTBEAT_TIMEOUT = timedelta(seconds=30)
_POLL_INTERVAL = timedelta(seconds=1)  # for jobs of a dead worker and those retried by hand, which notify nobody
_FIRST_WAIT_S, _MAX_WAIT_S = 0.5, 5.0  # for the database
_STATEMENT_S = 5.0
_log = structlog.get_logger()


async def consume(
    url: str, jobs: Mapping[str, JobFunction], *, stop: asyncio.Event, delays_s: Sequence[float] = DELAYS_S
) -> None:
    """Run jobs of these names until `stop` is set; running jobs then have ten seconds to finish.

    A job is called with its payload and its id. If it raises GiveUp it is kept as failed; on TryAgain it is retried
    after the next of `delays_s`, and kept as failed when there is none left. After any other error its outcome is in
    doubt: only TryAgain says that the job had no effect. Database errors are never raised.
    """
    pgqueuer_logger.addFilter(_relog)
    consumer = _Consumer(jobs, stop, delays_s)
    retries = RetryLog("queue.lost", first_s=_FIRST_WAIT_S, longest_s=_MAX_WAIT_S)
    while not stop.is_set():
        started_s = time.monotonic()
        try:
            await consumer.work(url)
        except Exception as error:
            if time.monotonic() - started_s > 2 * _MAX_WAIT_S:
                retries.succeeded()  # there was a connection
            # PgQueuer's message tells how to install its schema by hand, which does not apply here.
            reason = "no schema" if isinstance(error, RuntimeError) else str(error).partition("\n")[0]
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), retries.failed(f"{type(error).__name__}: {reason}"))


class _GivenUp(Exception):
    """Tells PgQueuer that a job has failed permanently."""


@dataclass
class _Queries(Queries):
    """PgQueuer's statements, except that an attempt's outcome is recorded even if logging it fails.

    PgQueuer does both in one statement. If it failed, a finished job would stay in the queue and run again every
    `_HEARTBEAT_TIMEOUT`.
    """

    unrecorded: set[int] = field(default_factory=set)

    async def keep_headers(self, job: Job) -> None:
        """Save the job's headers."""
        headers = msgspec.json.encode(job.headers or None).decode()
        await self.driver.execute("UPDATE pgqueuer SET headers = $2::jsonb WHERE id = $1", job.id, headers)

    async def log_jobs(self, job_status: Any) -> None:
        failed = [job.id for job, status, _ in job_status if status == "failed"]
        done = [job.id for job, status, _ in job_status if status != "failed"]
        try:
            await super().log_jobs(job_status)
        except (asyncpg.PostgresError, TimeoutError) as error:
            await self.driver.execute(
                """
                WITH done AS (DELETE FROM pgqueuer WHERE id = ANY($1::bigint[]))
                UPDATE pgqueuer SET status = 'failed', updated = now(), queue_manager_id = NULL
                WHERE id = ANY($2::bigint[])
                """,
                done,
                failed,
            )
            _log.warning("job.not_logged", ids=done + failed, error=type(error).__name__)
        self.unrecorded.difference_update(done)
        for job, status, _ in job_status:
            if status == "successful":
                _log.info("job.done", job=job.entrypoint, id=job.id, attempt=job.attempts + 1)

    async def retry_job(self, job: Job, delay: timedelta, traceback_record: Any) -> None:
        try:
            await self.keep_headers(job)
            await self._reschedule(job, delay, traceback_record)
        except (*OUTAGES, asyncpg.PostgresError) as error:
            # PgQueuer would fail the job for this. Left unchanged, it is picked up again after _HEARTBEAT_TIMEOUT.
            _log.warning("job.left", id=job.id, error=type(error).__name__)

    async def _reschedule(self, job: Job, delay: timedelta, traceback_record: Any) -> None:
        try:
            await super().retry_job(job, delay, traceback_record)
        except (asyncpg.PostgresError, TimeoutError) as error:
            await self.driver.execute(
                """
                UPDATE pgqueuer SET status = 'queued', execute_after = now() + $2::interval, attempts = attempts + 1,
                    updated = now(), queue_manager_id = NULL
                WHERE id = $1
                """,
                job.id,
                delay,
            )
            _log.warning("job.not_logged", ids=[job.id], error=type(error).__name__)


class _Consumer:
    """The state of a worker that survives a lost connection."""

    def __init__(self, jobs: Mapping[str, JobFunction], stop: asyncio.Event, delays_s: Sequence[float]) -> None:
        self._jobs, self._stop, self._delays_s = jobs, stop, delays_s
        self._limits: set[asyncio.Timeout] = set()
        self._unrecorded: set[int] = set()
        self._obstacles: dict[str, str] = {}

    async def work(self, url: str) -> None:
        """Run jobs until stopped. Raises the errors of PgQueuer and asyncpg if the connection is lost."""
        pool = await asyncpg.create_pool(
            url,
            connect=cast(Any, connect),
            min_size=0,
            max_size=4,  # one listens
            timeout=_STATEMENT_S,
            command_timeout=_STATEMENT_S,
            server_settings={"application_name": WORKER},
        )
        try:
            # The default names, which the migration and `kit.work.jobs` use. PgQueuer would otherwise read variables
            # such as CHANNEL and FUNCTION from the environment.
            names = DBSettings.model_construct()
            parts = (QueryBuilderEnvironment(names), QueryQueueBuilder(names), QuerySchedulerBuilder(names))
            queries = _Queries(AsyncpgPoolDriver(pool), *parts, unrecorded=self._unrecorded)
            manager = QueueManager(queries, channel=names.channel)
            for name, function in self._jobs.items():
                attempt = partial(self._attempt, queries, function)
                manager.entrypoint(name, on_failure="hold", accepts_context=False)(attempt)
            await self._run(manager)
            async with asyncio.timeout(_STATEMENT_S):
                await pool.close()
        finally:
            pool.terminate()

    async def _run(self, manager: QueueManager) -> None:
        stopping = asyncio.create_task(self._end(manager))
        try:
            await manager.run(
                # One at a time: each outcome is recorded at once instead of after ten jobs.
                batch_size=1,
                max_concurrent_tasks=AT_ONCE,
                dequeue_timeout=_POLL_INTERVAL,
                heartbeat_timeout=_HEARTBEAT_TIMEOUT,
                shutdown_on_listener_failure=True,
            )
        finally:
            stopping.cancel()

    async def _end(self, manager: QueueManager) -> None:
        await self._stop.wait()
        manager.shutdown.set()
        for limit in self._limits:
            limit.reschedule(asyncio.get_running_loop().time() + _GRACE_S)

    async def _attempt(self, queries: _Queries, function: JobFunction, job: Job) -> None:
        if job.id in self._unrecorded:
            return  # done, but the connection was lost before that was recorded
        log = _log.bind(job=job.entrypoint, id=job.id, attempt=job.attempts + 1)
        doubts_before = _in_doubt(job)
        if doubts_before >= _MAX_IN_DOUBT:
            raise self._given_up("the worker ended in the middle of it, again and again", doubts_before, log)
        if doubts_before:
            log.warning("job.repeated", in_doubt=doubts_before)
        job.headers = {**(job.headers or {}), "in_doubt": doubts_before + 1}
        try:
            await queries.keep_headers(job)
        except (*OUTAGES, asyncpg.PostgresError) as error:
            raise RetryRequested(reason=type(error).__name__) from None
        try:
            async with asyncio.timeout(_GRACE_S if self._stop.is_set() else _JOB_TIMEOUT_S) as limit:
                self._limits.add(limit)
                await function(job.payload or b"", job.id)
            self._unrecorded.add(job.id)
        # Cancellation too: PgQueuer deletes jobs that are cancelled.
        except (Exception, asyncio.CancelledError) as error:
            is_stopped = self._stop.is_set() and (limit.expired() or isinstance(error, asyncio.CancelledError))
            raise self._outcome(job, error, log, is_stopped=is_stopped) from None
        finally:
            self._limits.discard(limit)
        if self._obstacles.pop(job.entrypoint, None):
            with suppress(Exception):  # the job is done even if logging fails
                _log.info("jobs.unblocked", job=job.entrypoint)

    def _outcome(self, job: Job, error: BaseException, log: Any, *, is_stopped: bool) -> RetryRequested | _GivenUp:
        """Return the exception for PgQueuer after a failed attempt. It is logged and stored, so it contains no data."""
        reason = str(error) if isinstance(error, GiveUp | TryAgain) else type(error).__name__
        doubts, obstacle = _in_doubt(job), ""
        if isinstance(error, TryAgain):
            doubts, obstacle = doubts - (not error.in_doubt), error.obstacle
        job.headers = ({"in_doubt": doubts} if doubts else {}) | ({"obstacle": obstacle} if obstacle else {})
        if not isinstance(error, GiveUp | TryAgain | TimeoutError | asyncio.CancelledError):
            # Where it happened without the message, which may contain an address.
            log.error("job.crashed", error=reason, where="".join(traceback.format_tb(error.__traceback__)))
        if isinstance(error, GiveUp) or job.attempts >= len(self._delays_s) or doubts >= _MAX_IN_DOUBT:
            return self._given_up(reason, 0 if isinstance(error, GiveUp) else doubts, log)
        if is_stopped:
            log.warning("job.interrupted")
            return RetryRequested(reason="the worker was stopped")
        delay_s = self._delays_s[min(job.attempts + _DOUBT_PENALTY * doubts, len(self._delays_s) - 1)]
        if not obstacle:
            log.warning("job.postponed", reason=reason, delay_s=delay_s)
        elif self._obstacles.get(job.entrypoint) != obstacle:
            # One line for all waiting jobs, until the obstacle changes.
            self._obstacles[job.entrypoint] = obstacle
            _log.error("jobs.blocked", job=job.entrypoint, obstacle=obstacle, reason=reason)
        return RetryRequested(timedelta(seconds=delay_s), reason)

    def _given_up(self, reason: str, doubts: int, log: Any) -> _GivenUp:
        if doubts:
            reason = f"{reason} (it may have been done, up to {doubts} times)"
        log.error("job.given_up", reason=reason)
        return _GivenUp(reason)


def _in_doubt(job: Job) -> int:
    """Return how many attempts of a job have an unknown outcome."""
    count = (job.headers or {}).get("in_doubt", 0)
    return count if isinstance(count, int) else 0


def _relog(record: logging.LogRecord) -> bool:
    """Log PgQueuer's warnings without values and tracebacks; the outcomes of jobs are logged elsewhere."""
    error = record.exc_info[0] if record.exc_info else None
    if record.levelno >= logging.WARNING and error is not _GivenUp:
        _log.warning("queue.complaint", what=str(record.msg), error=error.__name__ if error else "")
    return False
