"""What those who run the service ask of it: is it alive, is it ready, how is it doing."""

import hmac
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import asyncpg
from litestar import MediaType, Response, get
from msgspec import Struct
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Metric, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from invitree.base.problems import NotFound, Unavailable
from invitree.identity.email.actions import JOB
from invitree.kit.context import Request, app_context
from invitree.kit.data.checks import find_fault
from invitree.kit.data.db import OUTAGES, Database
from invitree.kit.data.invariants import last_checks
from invitree.kit.process.retries import RetryLog
from invitree.kit.web.responses import answers
from invitree.kit.work.jobs import backlog, has_worker
from invitree.migrations import HEAD
from invitree.migrations.upgrade import revision

_retries = RetryLog("not_ready")


class StatusOut(Struct):
    """All is well."""

    status: str = "ok"


class ReadyOut(StatusOut):
    """Requests can be served."""

    worker: Literal["running", "missing"] = "running"
    """`missing`: nobody sends mail or does other jobs. What is asked for is kept, and done when there is a worker."""


@get(
    "/healthz",
    summary="Alive?",
    response_description="The process is alive.",
    tags=["Operations"],
    responses=answers(),
    sync_to_thread=False,
)
def healthz() -> StatusOut:
    """Answer while the process is alive; asks nothing of the database. For a liveness probe."""
    return StatusOut()


@get("/readyz", summary="Ready?", response_description="Ready to serve.", tags=["Operations"], responses=answers())
async def readyz(request: Request) -> ReadyOut:
    """Answer 200 when the database answers, can be written to, and has the schema this version needs, else 503.

    A missing worker is told and does not make it 503: it is missed by all instances alike, and taking them out of a
    load balancer would only end what works.
    """
    db = app_context(request).db
    try:
        fault = await find_fault(db)
        found = await revision(db)
        worker = await has_worker(db)
    except (*OUTAGES, asyncpg.PostgresError) as error:
        _retries.failed(f"{type(error).__name__}: {error}")
        raise Unavailable from None
    if fault:
        _retries.failed(fault)
        raise Unavailable
    if found != HEAD:
        _retries.failed(f"the schema is {found}, and {HEAD} is needed")
        raise Unavailable
    _retries.succeeded()
    return ReadyOut(worker="running" if worker else "missing")


@get("/metrics", include_in_schema=False)
async def metrics(request: Request) -> Response[bytes]:
    """Return the metrics of all processes to whoever has `INVITREE_METRICS_TOKEN`; without that setting, a 404."""
    token = app_context(request).settings.metrics_token
    given = request.headers.get("authorization", "")
    if not token or not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise NotFound
    db = app_context(request).db
    content = _of_processes() + await _of_database(db) + await _of_mail(db)
    return Response(content, headers={"Content-Type": CONTENT_TYPE_LATEST}, media_type=MediaType.TEXT)


def _of_processes() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    everyone = CollectorRegistry()
    MultiProcessCollector(everyone)  # type: ignore[no-untyped-call]
    return generate_latest(everyone)


async def _of_database(db: Database) -> bytes:
    """Return what is known of the workers, whichever machine they run on; nothing while the database is away."""
    worker = GaugeMetricFamily("invitree_worker_running", "1 if there is a worker, which sends mail, else 0.")
    broken = GaugeMetricFamily(
        "invitree_invariant_broken_rows", "Rows that broke an invariant when it was checked last.", labels=["invariant"]
    )
    checked = GaugeMetricFamily(
        "invitree_invariant_checked_timestamp_seconds", "When it was checked last.", labels=["invariant"]
    )
    with suppress(*OUTAGES):
        worker.add_metric([], await has_worker(db))
        for found in await last_checks(db):
            broken.add_metric([found.name], found.broken_rows)
            checked.add_metric([found.name], found.checked_at.timestamp())
    return _text([worker, broken, checked])


async def _of_mail(db: Database) -> bytes:
    """Return how the mail is doing that waits or was given up; nothing while the database is away."""
    with suppress(*OUTAGES):
        found = await backlog(db, job=JOB)
        gauges = {
            "invitree_mail_waiting": ("Mail that waits to be sent.", found.waiting),
            "invitree_mail_blocked": ("Mail that waits for the operator to mend how mail is sent.", found.blocked),
            "invitree_mail_given_up": ("Mail that was given up and is kept.", found.given_up),
            "invitree_mail_repeats_max": ("The most times that one mail may have gone out.", found.most_in_doubt),
            "invitree_mail_oldest_waiting_seconds": ("How long the oldest mail has waited.", found.oldest_s),
        }
        return _text([GaugeMetricFamily(name, text, value=value) for name, (text, value) in gauges.items()])
    return b""


def _text(families: Sequence[Metric]) -> bytes:
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families


HANDLERS = [healthz, readyz, metrics]
