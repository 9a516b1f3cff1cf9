"""What every test stands on: a PostgreSQL of its own, a migrated database a module, and the application on it."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from hypothesis import settings as hypothesis_settings

from invitree.app import create_app, front, open_resources
from invitree.base.settings import Settings
from invitree.kit.context import AppContext
from invitree.kit.postgres.embedded import embedded_postgres
from invitree.kit.secrets import passwords
from invitree.kit.web.edge import Edge
from invitree.migrations.upgrade import upgrade
from tests.cast import Cast
from tests.databases import broken_invariants, database
from tests.hashes import CHEAP
from tests.postbox import Postbox
from tests.steps import require_activation

New = Callable[[], Awaitable[str]]
SECRET = "a secret of the test suite and long enough"
_ARGON2 = passwords._ARGON2
# What starts servers, browsers or processes, breaks them, or races: not for `make quick`. The rest is.
_SLOW = {
    *("attacks", "backup", "bench", "clients", "djoser", "faults", "fuzz", "migrations", "model", "oracles", "races"),
    *("service", "test_account_in_a_browser.py", "test_addresses.py", "test_apidocs.py", "test_command.py"),
    *("test_embedded.py", "test_embedded_lacks.py", "test_embedded_recovery.py", "test_keeper.py", "test_outages.py"),
    *("test_output.py", "test_pool_faults.py", "test_supply.py"),
}

# A run finds what the one before it found; and a machine that is busy is no finding.
hypothesis_settings.register_profile("same", deadline=None, derandomize=True, print_blob=True)
hypothesis_settings.load_profile("same")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow."""
    for item in items:
        if _SLOW & {item.path.parent.name, item.path.name}:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def cheap_hashes() -> Iterator[None]:
    """Hash passwords at the least cost. Processes that tests start hash at the full one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_ARGON2", CHEAP)
        yield


@pytest.fixture(scope="module")
def costly_hashes(cheap_hashes: None) -> Iterator[None]:
    """Hash passwords at the full cost, in modules that test what it costs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_ARGON2", _ARGON2)
        yield


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL of this process, with a migrated database to copy."""
    with tempfile.TemporaryDirectory(prefix="invitree-test-", dir=_fast_folder()) as folder:
        Path(folder).chmod(0o711)
        with embedded_postgres(Path(folder)) as url:
            upgrade(url)
            yield url


def _fast_folder() -> Path | None:
    """Return a folder in memory with room for a cluster, where commits need not wait for a disk, if there is one."""
    memory = Path("/dev/shm")
    is_roomy = memory.is_dir() and shutil.disk_usage(memory).free > 4_000_000_000
    return memory if is_roomy and os.access(memory, os.W_OK) else None


@pytest.fixture(scope="module")
async def database_url(postgres: str) -> AsyncIterator[str]:
    """The URL of a fresh copy of the migrated database; whatever a module did, the invariants hold at its end."""
    async with database(postgres, migrated=True) as url:
        yield url
        broken = await broken_invariants(url)
    assert broken == []


@pytest.fixture
async def new_database(postgres: str) -> AsyncIterator[New]:
    """What makes a database without tables and returns its URL."""
    async with AsyncExitStack() as made:
        yield lambda: made.enter_async_context(database(postgres))


def as_admin(url: str) -> str:
    """Return the URL of the cluster's own database as its superuser."""
    return url.replace("://invitree@/invitree", "://postgres@/postgres")


@pytest.fixture(scope="module")
def settings(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """The settings of a one-process service on this module's database. The tests of limits turn them on."""
    return Settings(
        database_url=database_url,
        data_dir=str(tmp_path_factory.mktemp("data")),
        secret_key=SECRET,
        workers=1,
        pool_size=32,
        throttle="off",
    )


@pytest.fixture(scope="module")
async def ctx(settings: Settings) -> AsyncIterator[AppContext]:
    """What the process has open."""
    async with open_resources(settings) as opened:
        yield opened


def client_for(ctx: AppContext) -> httpx.AsyncClient:
    """Return a client of the application with this open, in this process but through its whole ASGI surface."""
    app = create_app(ctx.settings)
    app.state["context"] = ctx
    transport = httpx.ASGITransport(app=front(app, access_log=False))  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=transport, base_url="http://invitree.test")


@pytest.fixture(scope="module")
async def client(ctx: AppContext) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application."""
    async with client_for(ctx) as opened:
        yield opened


@pytest.fixture(scope="module")
async def long_way(ctx: AppContext) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application without the short way."""
    app = create_app(ctx.settings)
    app.state["context"] = ctx
    transport = httpx.ASGITransport(app=Edge(app, access_log=False))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://invitree.test") as opened:
        yield opened


@pytest.fixture(scope="module")
def postbox(ctx: AppContext) -> Postbox:
    """The mail of a module's tests."""
    return Postbox(ctx)


@pytest.fixture
async def empty_postbox(postbox: Postbox) -> None:
    """Take the mail of earlier tests away."""
    await postbox.collect()


@pytest.fixture(scope="module")
async def activation_required(ctx: AppContext) -> None:
    """Have the default program ask for confirmed addresses, or there is no link to confirm one."""
    await require_activation(ctx)


@pytest.fixture(scope="module")
def cast(client: httpx.AsyncClient, ctx: AppContext) -> Cast:
    """The people of a module's tests."""
    return Cast(client, ctx)
