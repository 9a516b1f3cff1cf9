"""The worker: does the jobs that requests have left in the database, and what is due on a timer."""

import asyncio
import importlib
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial

import asyncpg
import structlog
from msgspec import structs

from invitree.app import open_resources, until_orphaned
from invitree.base.settings import Settings
from invitree.identity.programs.store import list_program_ids
from invitree.invariants import INVARIANTS
from invitree.kit.context import AppContext
from invitree.kit.data.db import OUTAGES, Database
from invitree.kit.data.invariants import watch
from invitree.kit.process.children import ignore_termination, is_terminating, termination_signals
from invitree.kit.process.log import configure_logging
from invitree.kit.room import PeriodicTask
from invitree.kit.work.jobs import cap_future_times, delete_given_up_jobs, prune_job_log
from invitree.kit.work.queue import AT_ONCE, DELAYS_S, consume
from invitree.rooms import ROOMS

JobHandler = Callable[[AppContext, bytes, int], Awaitable[None]]

_LOG_KEPT = timedelta(days=7)  # what PgQueuer notes of jobs
_AT_ONCE = 5_000  # rows deleted by one statement, which has five seconds
_LONGEST_CHECK_S = 600.0
_log = structlog.get_logger()


async def prune_jobs(ctx: AppContext) -> None:
    """Delete what PgQueuer noted of jobs, and the jobs that were given up, which were kept for as long as is asked."""
    await prune_job_log(ctx.db, older_than=_LOG_KEPT)
    older_than = timedelta(days=ctx.settings.retention_days)
    if given_up := await delete_given_up_jobs(ctx.db, older_than=older_than):
        _log.info("jobs.forgotten", given_up=given_up)


async def fix_future_times(ctx: AppContext) -> None:
    """Let no job wait for the end of a time that a clock has left in the future."""
    await cap_future_times(ctx.db, longest_delay=timedelta(seconds=max(DELAYS_S)))


async def purge_expired(ctx: AppContext) -> None:
    """Delete what has expired in every room, and rate-limit counters that are clear, program by program."""
    for program_id in await list_program_ids(ctx.db):
        for room in ROOMS:
            for purge in room.purges:
                while await purge(ctx.db, program_id=program_id, most=_AT_ONCE):
                    pass
        await ctx.throttle.purge(program_id)


async def watch_invariants(ctx: AppContext) -> None:
    """Check what must always hold, each by one query that may read whole tables."""
    db = Database.at(ctx.settings.database_url, size=1, statement_timeout_s=_LONGEST_CHECK_S)
    try:
        await watch(db, INVARIANTS)
    finally:
        await db.close()


def job_handlers() -> Mapping[str, JobHandler]:
    """Return, by the name that `kit.work.jobs.enqueue` is given, what does the job, of its payload and its id."""
    modules = [importlib.import_module(room.jobs) for room in ROOMS if room.jobs]
    return {name: handler for module in modules for name, handler in module.JOBS.items()}


PERIODIC_TASKS: Sequence[tuple[float, PeriodicTask]] = [
    *(task for room in ROOMS for task in room.periodic),
    (3600.0, prune_jobs),
    (60.0, fix_future_times),
    (600.0, purge_expired),
    (3600.0, watch_invariants),
]
"""How often, in seconds, and what. With several workers, one at a time does it."""


def work(settings: Settings, *, parent: int | None = None) -> None:
    """Do jobs until SIGTERM, SIGINT or SIGHUP, or until `parent` is no longer the process that started this."""
    configure_logging(settings.log_format)
    try:
        asyncio.run(_work_until_told_to_stop(settings, parent))
    finally:
        ignore_termination()


async def _work_until_told_to_stop(settings: Settings, parent: int | None) -> None:
    stop = asyncio.Event()
    for number in termination_signals():
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if is_terminating():
        stop.set()
    watch = asyncio.create_task(_stop_when_orphaned(parent, stop)) if parent else None
    jobs = job_handlers()
    _log.info("worker.started", jobs=list(jobs))
    await run(settings, jobs, stop=stop)
    _log.info("worker.stopped")
    if watch is not None:
        watch.cancel()


async def _stop_when_orphaned(parent: int, stop: asyncio.Event) -> None:
    await until_orphaned(parent)
    stop.set()


async def run(
    settings: Settings,
    jobs: Mapping[str, JobHandler],
    *,
    stop: asyncio.Event,
    periodic: Sequence[tuple[float, PeriodicTask]] = PERIODIC_TASKS,
    delays_s: Sequence[float] = DELAYS_S,
) -> None:
    """Do jobs and periodic tasks until `stop` is set; jobs under way then have ten seconds to end."""
    async with open_resources(structs.replace(settings, pool_size=AT_ONCE)) as ctx:
        under_way = [asyncio.create_task(_repeat(ctx, every_s, task)) for every_s, task in periodic]
        try:
            bound = {name: partial(job, ctx) for name, job in jobs.items()}
            await consume(settings.database_url, bound, stop=stop, delays_s=delays_s)
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


async def _repeat(ctx: AppContext, every_s: float, task: PeriodicTask) -> None:
    while True:
        # Not all at the same moment, and soon after a start: a worker that is started anew every day does them too.
        await asyncio.sleep(min(every_s, 60.0) * random.uniform(0.5, 1.0))  # noqa: S311
        try:
            await _run_exclusively(ctx, task)
        except (*OUTAGES, asyncpg.PostgresError) as error:
            _log.warning("chore.failed", what=task.__name__, error=type(error).__name__)
        except Exception:
            _log.exception("chore.crashed", what=task.__name__)
        await asyncio.sleep(every_s)


async def _run_exclusively(ctx: AppContext, task: PeriodicTask) -> None:
    """Run a task unless another worker is running it."""
    async with ctx.db.transaction() as db:
        # It waits here while other connections work.
        await db.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        name = f"invitree does: {task.__module__}.{task.__qualname__}"
        if await db.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", name):
            await task(ctx)
