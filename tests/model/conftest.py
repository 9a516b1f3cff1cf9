"""A service whose time stands still until a test moves it: the process's clock and the database's, both."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import asyncpg
import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from msgspec import structs

from invitree.app import open_resources
from invitree.base.settings import Settings
from invitree.identity.programs.actions import create_program, set_policy
from invitree.identity.programs.store import Program
from invitree.kit.clock import Clock
from invitree.kit.context import AppContext
from invitree.kit.data.invariants import Broken
from invitree.migrations.upgrade import upgrade
from tests.cast import Cast, Person
from tests.conftest import SECRET, client_for
from tests.databases import broken_invariants, database

# An evening before a night in which, in New York, an hour is left out.
BEGINNING = datetime(2026, 3, 7, 22, tzinfo=UTC)
_TRUST = timedelta(seconds=1)

# These stand before PostgreSQL's own for every statement of the service, and for the defaults of its columns.
_STOPPED = (
    "CREATE SCHEMA stopped",
    "CREATE TABLE stopped.clock (shows timestamptz NOT NULL)",
    *(
        f"CREATE FUNCTION stopped.{name}() RETURNS timestamptz LANGUAGE sql AS 'SELECT shows FROM stopped.clock'"
        for name in ("clock_timestamp", "statement_timestamp", "now")
    ),
)


class StoppedClock(Clock):
    """Shows what it is set to."""

    shows = BEGINNING

    def seconds(self) -> float:
        """Return what it shows, in seconds since 1970."""
        return self.shows.timestamp()


class World:
    """A service in this process, for a test that is not async: it runs in a thread of its own."""

    def __init__(self, portal: BlockingPortal, ctx: AppContext, client: httpx.AsyncClient) -> None:
        self._portal, self._client = portal, client
        self.ctx, self.cast = ctx, Cast(client, ctx)
        self._numbers = count(1)
        self.set_time(BEGINNING)
        self.foreign_code = portal.call(self._code_of_another_program)

    def ask(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """Return the answer to a request."""
        return self._portal.call(lambda: self._client.request(method, path, **sent))

    def set_time(self, now: datetime) -> None:
        """Let it be this time everywhere, with the heartbeats come that would have come."""
        self._portal.call(self._set_time, now)

    def new_program(self) -> Program:
        """Return a program of which nobody knows yet, with a host of its own."""
        slug = f"p{next(self._numbers)}"
        program = self._portal.call(lambda: create_program(self.ctx.db, slug=slug))
        return self.set_policy(program, host=f"{slug}.test")

    def set_policy(self, program: Program, **changes: Any) -> Program:
        """Change a program's policy, as the operator does."""
        return self._portal.call(lambda: set_policy(self.ctx.db, program_id=program.id, **changes))

    def new_staff(self, program: Program) -> Person:
        """Return somebody who sees everything of a program."""
        return self._portal.call(lambda: self.cast.member(staff=True, program=program))

    def fetch(self, query: str, *args: Any) -> list[Mapping[str, Any]]:
        """Return the rows of one statement."""
        return self._portal.call(self.ctx.db.fetch, query, *args)

    def broken(self) -> list[Broken]:
        """Return the invariants that do not hold."""
        return self._portal.call(broken_invariants, self.ctx.settings.database_url)

    async def _set_time(self, now: datetime) -> None:
        await self.ctx.db.execute("UPDATE stopped.clock SET shows = $1", now)
        assert isinstance(self.ctx.clock, StoppedClock)
        self.ctx.clock.shows = now
        for cache in self.ctx.caches.values():
            cache.trust(until=(now + _TRUST).timestamp())

    async def _code_of_another_program(self) -> str:
        stranger = await self.cast.stranger()
        return await self.cast.code(stranger, expiration_date=(BEGINNING.date() + timedelta(days=366)).isoformat())


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    """The thread in which the service runs."""
    with start_blocking_portal() as opened:
        yield opened


@pytest.fixture(scope="module")
def stopped_url(postgres: str, portal: BlockingPortal) -> Iterator[str]:
    """The URL of a migrated database whose time stands still."""
    with portal.wrap_async_context_manager(database(postgres)) as url:
        portal.call(_stop_time, url)
        upgrade(url)
        yield url


@pytest.fixture(scope="module")
def world(stopped_url: str, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service on that database."""
    settings = Settings(
        database_url=stopped_url, data_dir=str(tmp_path_factory.mktemp("data")), secret_key=SECRET, throttle="off"
    )
    with ExitStack() as opened:
        context = opened.enter_context(portal.wrap_async_context_manager(open_resources(settings)))
        ctx = structs.replace(context, clock=StoppedClock())
        client = client_for(ctx)
        opened.enter_context(portal.wrap_async_context_manager(client))
        yield World(portal, ctx, client)


async def _stop_time(url: str) -> None:
    db = await asyncpg.connect(url)
    for statement in _STOPPED:
        await db.execute(statement)
    await db.execute("INSERT INTO stopped.clock VALUES ($1)", BEGINNING)
    name = await db.fetchval("SELECT current_database()")
    await db.execute(f"ALTER DATABASE {name} SET search_path = public, stopped, pg_catalog")
    await db.close()
