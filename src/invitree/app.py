"""The application: every room's routes, and what a process has open while it serves them."""

import asyncio
import gc
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from litestar import Litestar, Router
from litestar.types import ASGIApp

from invitree.base.settings import Settings, read_settings, usable_cores
from invitree.fastpath import FastPath
from invitree.identity.programs.store import list_origins
from invitree.kit.clock import Clock
from invitree.kit.context import AppContext
from invitree.kit.data.cache import Cache
from invitree.kit.data.db import Database
from invitree.kit.data.notifications import Listener
from invitree.kit.limits.local_rate_limiter import LocalRateLimiter
from invitree.kit.limits.rate_limiter import RateLimiter
from invitree.kit.process.imports import block_import
from invitree.kit.process.log import configure_logging
from invitree.kit.process.metrics import reserve_space
from invitree.kit.secrets.keys import Keyring
from invitree.kit.secrets.passwords import Hasher
from invitree.kit.web.apidocs import docs_handlers
from invitree.kit.web.body import BodyRequest
from invitree.kit.web.cors import Origins
from invitree.kit.web.edge import Edge
from invitree.kit.web.responses import BODY_LIMIT_BYTES, EXCEPTION_HANDLERS, answer_options
from invitree.openapi import MANUAL
from invitree.rooms import ROOMS

_ORPHAN_CHECK_S = 0.2
_QUEUE_A_CONNECTION = 50  # the quickest of questions are asked so often in a tenth of a second


def serve() -> ASGIApp:
    """Return the application for a web server, set up by the environment. The factory that `invitree serve` names."""
    # Ctrl-C reaches everything in the terminal's process group; this process ends when `invitree serve` says so.
    os.setpgrp()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    reserve_space()
    settings = read_settings(os.environ)
    configure_logging(settings.log_format)
    return front(create_app(settings), access_log=settings.access_log)


def front(app: Litestar, *, access_log: bool) -> ASGIApp:
    """Return the application behind what every request passes first."""
    return Edge(
        FastPath(app),
        access_log=access_log,
        is_full=lambda in_hand: _is_full(app.state["context"], in_hand),
        origins=lambda: app.state["context"].origins.known,
    )


def _is_full(ctx: AppContext, in_hand: int) -> bool:
    # What waits for the hash of a password must not keep out what does not.
    return in_hand >= _QUEUE_A_CONNECTION * ctx.settings.pool_size + ctx.hasher.capacity or ctx.db.is_saturated()


def create_app(settings: Settings) -> Litestar:
    """Return the application; what it needs is opened when it starts and closed when it stops."""
    below: dict[str, list[Any]] = {}
    for room in ROOMS:
        below.setdefault(room.prefix, []).extend(room.routes)
    routes = [Router(prefix, route_handlers=handlers) for prefix, handlers in below.items()]
    # Litestar loads a plugin for pydantic where it finds it: half a second, 20 MB. PgQueuer brings it, for the worker.
    with block_import("pydantic"):
        return Litestar(
            route_handlers=[*routes, *docs_handlers],
            lifespan=[partial(_opened, settings=settings)],
            openapi_config=MANUAL,
            exception_handlers=EXCEPTION_HANDLERS,
            request_class=BodyRequest,
            before_request=answer_options,
            request_max_body_size=BODY_LIMIT_BYTES,
            logging_config=None,
        )


@asynccontextmanager
async def _opened(app: Litestar, *, settings: Settings) -> AsyncIterator[None]:
    async with open_resources(settings) as ctx:
        app.state["context"] = ctx
        # What is loaded now lives as long as the process: the collector need not look at it again.
        gc.freeze()
        # Its own word, for by now it may be dead, and another one the parent.
        starter = multiprocessing.parent_process()
        orphaned = asyncio.create_task(_die_when_orphaned((starter and starter.pid) or os.getppid()))
        try:
            yield
        finally:
            orphaned.cancel()


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[AppContext]:
    """Open what a process needs to serve or to do jobs, and close it in reverse order."""
    db, keys = Database.at(settings.database_url, size=settings.pool_size), Keyring(settings.secret_keys)
    is_limited = settings.throttle == "on"
    ctx = AppContext(
        settings=settings,
        db=db,
        clock=Clock(),
        keys=keys,
        hasher=Hasher(threads=max(1, len(usable_cores()) // settings.workers)),
        throttle=RateLimiter(db, keys, on=is_limited),
        tally=LocalRateLimiter(db, keys, on=is_limited),
        caches={name: Cache(max_size=size(settings)) for room in ROOMS for name, size in room.caches.items()},
        origins=Origins(settings.origins, read=partial(list_origins, db)),
        erasures=[room.erase for room in ROOMS if room.erase],
    )
    db.invalidators = {topic: partial(take, ctx) for room in ROOMS for topic, take in room.invalidators.items()}
    handlers = {topic: partial(take, ctx) for room in ROOMS for topic, take in room.handlers.items()}
    listener = Listener(
        settings.database_url,
        clock=ctx.clock,
        caches=ctx.caches,
        handlers={**db.invalidators, **handlers},
        on_connect=ctx.origins.schedule_reload,
    )
    await listener.start()
    await ctx.origins.start()
    await ctx.tally.start()
    try:
        yield ctx
    finally:
        await listener.stop()
        await ctx.origins.stop()
        await ctx.tally.stop()
        ctx.hasher.close()
        await ctx.db.close()


async def _die_when_orphaned(parent: int) -> None:
    """End this process soon after the one that started it, so that a `kill -9` there does not leave the port taken."""
    await until_orphaned(parent)
    signal.raise_signal(signal.SIGKILL)


async def until_orphaned(parent: int) -> None:
    """Return soon after the process `parent` has ended, which started this one."""
    while os.getppid() == parent:  # noqa: ASYNC110  there is no event for it
        await asyncio.sleep(_ORPHAN_CHECK_S)
