"""A PostgreSQL of the test's own and the service on it, both as processes that can be harmed."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil

from invitree.kit.postgres.embedded import embedded_postgres
from tests.conftest import SECRET, as_admin
from tests.faults.journal import Journal
from tests.faults.load import PATIENCE_S, Load
from tests.kit.postmasters import postmaster
from tests.process import Service
from tests.waiting import eventually

_BUSY = """
    SELECT state, query FROM pg_stat_activity
    WHERE application_name = 'invitree' AND state IS DISTINCT FROM 'idle'
"""


class Cluster:
    """A PostgreSQL with the settings it has in production."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened = ExitStack()
        self.url = ""

    def start(self) -> None:
        """Start it, also after `crash`."""
        started = ExitStack()
        self.url = started.enter_context(embedded_postgres(self._folder))
        self._opened.close()
        self._opened = started

    def stop(self) -> None:
        """Stop it."""
        self._opened.close()

    def processes(self) -> list[psutil.Process]:
        """Return its processes."""
        first = psutil.Process(postmaster(self._folder))
        return [first, *first.children()]

    def crash(self) -> None:
        """End it at once, as `pg_ctl stop -m immediate` does."""
        processes = self.processes()
        processes[0].send_signal(signal.SIGQUIT)
        assert psutil.wait_procs(processes, timeout=PATIENCE_S)[1] == []

    def freeze(self) -> None:
        """Stop all its processes in the middle of what they do."""
        for process in self.processes():
            process.suspend()

    def thaw(self) -> None:
        """Let them go on."""
        for process in reversed(self.processes()):
            process.resume()

    def log(self) -> str:
        """Return what it has written down."""
        return (self._folder / "postgres.log").read_text()

    async def ask(self, query: str, *, admin: bool = False) -> list[Any]:
        """Return the rows of a query."""
        db = await asyncpg.connect(as_admin(self.url) if admin else self.url)
        try:
            rows: list[Any] = await db.fetch(query)
            return rows
        finally:
            await db.close()

    async def becomes_idle(self) -> None:
        """Wait until the service has no statement under way and is inside no transaction."""
        await eventually(self._is_idle)

    async def _is_idle(self) -> bool:
        return await self.ask(_BUSY) == []


class Stage:
    """The service on a database, under a load."""

    def __init__(self, cluster: Cluster, service: Service, load: Load) -> None:
        self.cluster, self.service, self.load = cluster, service, load

    def web_processes(self) -> list[psutil.Process]:
        """Return those that answer requests, the oldest first."""
        children = psutil.Process(self.service.process.pid).children()
        return sorted(children, key=lambda child: child.create_time())

    async def status(self, path: str) -> int:
        """Return the status of an address over a new connection, 0 without an answer."""
        try:
            async with httpx.AsyncClient(base_url=self.service.url, timeout=PATIENCE_S) as client:
                return (await client.get(path)).status_code
        except httpx.TransportError:
            return 0

    async def is_serving(self) -> bool:
        """Return whether a member is told their code."""
        return (await self.load.read(self.load.members[0])).status == 200

    def memory_mib(self) -> float:
        """Return how much memory the web processes hold."""
        return sum(process.memory_info().rss for process in self.web_processes()) / 2**20

    async def has_refused(self) -> bool:
        """Return whether something was refused."""
        return self.load.count(503) > 0

    async def is_refused(self) -> bool:
        """Return whether the last that each of two clients or more heard is a 503."""
        return {answer.status for answer in self.load.answers[-2:]} == {503}

    async def refuses_and_lives(self) -> None:
        """Wait until nothing can be done without the database; the service says that it is alive and not ready."""
        await eventually(self.is_refused)
        assert await self.status("/healthz") == 200
        assert await self.status("/readyz") == 503

    async def compare(self) -> None:
        """Compare what clients were told with what the database has, before and after all is asked again."""
        await self.cluster.becomes_idle()
        await self.load.journal.compare(self.cluster.url)
        await self.load.settle()
        assert self.load.journal.count("unknown") == 0
        await self.load.journal.compare(self.cluster.url)
        assert self.load.strange == [], self.load.strange[:3]


@asynccontextmanager
async def cluster(place: Path) -> AsyncIterator[Cluster]:
    """Run the PostgreSQL in `place` for the length of a block."""
    made = Cluster(place / "data")
    await asyncio.to_thread(made.start)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.stop)


@asynccontextmanager
async def stage(
    on: Cluster, place: Path, *, url: str = "", workers: int = 2, members: int = 6, forgives: bool = False, **more: str
) -> AsyncIterator[Stage]:
    """Run the service for the length of a block; its database is at `url` if that is not where the cluster is."""
    environment = {
        "INVITREE_DATABASE_URL": url or on.url,
        "INVITREE_SECRET_KEY": SECRET,
        "INVITREE_DATA_DIR": str(place / "service"),
        "INVITREE_THROTTLE": "off",
        **{f"INVITREE_{name.upper()}": value for name, value in more.items()},
    }
    service = Service("--workers", str(workers), "--no-worker", env=environment)
    journal = Journal(place / "journal")
    load = Load(service.url, journal, forgives=forgives)
    try:
        await asyncio.to_thread(service.wait_until_ready)
        await load.prepare(members=members)
        yield Stage(on, service, load)
    finally:
        await load.client.aclose()
        journal.close()
        if service.process.poll() is None:
            await asyncio.to_thread(service.stop)
