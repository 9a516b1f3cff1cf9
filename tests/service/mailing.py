"""A worker in the test's process that sends letters, and what became of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from invitree.base.settings import Settings
from invitree.kit.context import AppContext
from invitree.kit.email.messages import Letter, deliver, message_id
from invitree.kit.work.jobs import enqueue
from invitree.run.worker import run as run_worker

SOON = (0.05,) * 12


async def send(ctx: AppContext, payload: bytes, job_id: int) -> None:
    """The job of these tests."""
    said = msgspec.json.decode(payload)
    if said["kind"] == "crash":
        raise ZeroDivisionError(f"cannot divide {said['email_key']}")
    letter = Letter(
        to=said["email_key"],
        subject="Hello",
        text="Hello\n",
        html="<p>Hello</p>",
        language="en",
        message_id=message_id(ctx.settings, job_id=job_id, payload=payload),
    )
    await deliver(letter, settings=ctx.settings, patience_s=said.get("patience_s", 5))


JOBS = {"send_mail": send}


@asynccontextmanager
async def working(settings: Settings, delays_s: Sequence[float] = SOON) -> AsyncIterator[asyncio.Event]:
    """Run a worker in this process for the length of a block; yield what stops it."""
    stop = asyncio.Event()
    worker = asyncio.create_task(run_worker(settings, JOBS, stop=stop, periodic=[], delays_s=delays_s))
    try:
        yield stop
    finally:
        stop.set()
        await worker


async def ask(db: Any, *, kind: str = "activation", to: str = "anna@example.com", **more: Any) -> int:
    """Have a letter sent; return the id of its job."""
    await enqueue(db, job="send_mail", payload={"kind": kind, "email_key": to, **more})
    number: int = await db.fetchval("SELECT max(id) FROM pgqueuer")
    return number


async def statuses(db: Any) -> list[str]:
    """Return the status of every job that is not done."""
    return [row["status"] for row in await db.fetch("SELECT status::text FROM pgqueuer ORDER BY id")]


def in_status(db: Any, *expected: str) -> Callable[[], Awaitable[bool]]:
    """Return whether the jobs that are not done are these."""

    async def holds() -> bool:
        return await statuses(db) == list(expected)

    return holds


async def reasons(db: Any) -> list[str]:
    """Return why attempts have failed."""
    query = "SELECT traceback ->> 'exception_message' AS said FROM pgqueuer_log WHERE traceback IS NOT NULL ORDER BY id"
    return [row["said"] for row in await db.fetch(query)]


async def make_stale(db: Any) -> None:
    """Let so much time pass that a job of which nothing is heard is taken up again."""
    await db.execute("UPDATE pgqueuer SET heartbeat = now() - interval '31 seconds' WHERE status = 'picked'")
