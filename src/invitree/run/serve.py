"""Running the service: database and migration, web processes, the worker, and a graceful shutdown."""

import asyncio
import errno
import gc
import multiprocessing
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import structs

import invitree
from invitree.base.addresses import VARIABLES
from invitree.base.settings import Settings, SettingsError, check_settings
from invitree.kit.data.checks import check_reachable, check_usable
from invitree.kit.data.connections import connect, warn_about_ignored
from invitree.kit.postgres.embedded import EmbeddedError, cluster_identity, embedded_postgres, is_running
from invitree.kit.process.children import Keeper, allow_files, ignore_termination, is_terminating, termination_signals
from invitree.kit.process.imports import block_import, lazy_import
from invitree.kit.process.metrics import reserve_space
from invitree.migrations import HEAD
from invitree.migrations.upgrade import revision, upgrade

_SPARE_CONNECTIONS = 45  # for a worker (16), commands, psql, and PostgreSQL's reserve
_MAX_CONNECTIONS = 8_192  # of clients to one web process
_BACKLOG = 4_096  # connections not accepted yet
_MIN_CONNECTIONS = 100  # fewer are not worth running for
_OWN_FILES = 64  # open files of a web process besides connections
_TIMEOUT_S = 60.0
_MAX_LOADING_S = 10.0  # to wait for imports at exit
_CHECK_S = 2.0  # between checks of the embedded database
_MAX_CHECK_S = 16.0  # between restarts of one that keeps failing


class CannotServe(Exception):
    """The service cannot run. The message is one line for the operator."""


@contextmanager
def database(settings: Settings, *, keep: bool = False) -> Iterator[Settings]:
    """Yield the settings with the URL of a running database: the configured one, or the embedded one, started here.

    `keep` restarts the embedded one whenever it dies. Raises UnusableDatabase or EmbeddedError.
    """
    if settings.database_url:
        warn_about_ignored(settings.database_url)
        asyncio.run(check_reachable(settings.database_url))
        yield settings
    else:
        connections = settings.workers * (settings.pool_size + 1) + _SPARE_CONNECTIONS
        folder, pg_settings = Path(settings.data_dir), {"max_connections": str(connections)}
        with (
            embedded_postgres(folder, settings=pg_settings) as url,
            _keep_running(folder, pg_settings) if keep else nullcontext(),
        ):
            yield structs.replace(settings, database_url=url)


@contextmanager
def _keep_running(folder: Path, pg_settings: Mapping[str, str]) -> Iterator[None]:
    """Restart the embedded database whenever it dies during the block, perhaps for lack of disk space or memory.

    Terminates this process, and raises CannotServe, if the database's directory was replaced.
    """
    stopping, identity, was_replaced = threading.Event(), cluster_identity(folder), threading.Event()

    def monitor() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # the main thread handles signals
        wait_s, reported, ended_s = _CHECK_S, "", 0.0
        while not stopping.wait(wait_s):
            try:
                if cluster_identity(folder) != identity:
                    was_replaced.set()
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                if is_running(folder):
                    if time.monotonic() - ended_s > _TIMEOUT_S:
                        wait_s, reported = _CHECK_S, ""
                    continue
                wait_s, ended_s = min(wait_s * 2, _MAX_CHECK_S), time.monotonic()
                if not reported:
                    _report("the embedded PostgreSQL has ended; starting it again")
                with embedded_postgres(folder, settings=pg_settings):
                    reported = ""  # `database` still holds it, so it keeps running
            except (EmbeddedError, OSError) as error:
                if reported != str(error):
                    _report(reported := str(error))

    keeper = threading.Thread(target=monitor, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        stopping.set()
        keeper.join()
        if was_replaced.is_set():
            raise CannotServe(f"the database in {folder.resolve()} was moved, removed or replaced while it was in use")


def _report(line: str) -> None:
    print(f"invitree: {line}", file=sys.stderr, flush=True)


def migrate(url: str) -> bool:
    """Migrate the database at `url` to this version's schema; return whether there was anything to do.

    Raises UnusableDatabase, NewerSchema if a newer Invitree has migrated it, SchemaBusy if its tables are in use for
    too long, and asyncpg's errors.
    """

    async def current() -> str | None:
        connection = await connect(url, timeout=5)
        try:
            return await revision(connection)
        finally:
            await connection.close()

    asyncio.run(check_usable(url))
    if asyncio.run(current()) == HEAD:
        return False
    upgrade(url, report=_report)
    return True


def with_secret(settings: Settings) -> Settings:
    """Return the settings with a secret key: the given one, or one generated once and kept in the data directory."""
    if settings.secret_key:
        return settings
    path = Path(settings.data_dir) / "secret_key"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileExistsError):
            _write_once(path, secrets.token_urlsafe(48))
        complete = structs.replace(settings, secret_key=path.read_text(encoding="utf-8").strip() or ",")
        check_settings(complete)
    except OSError as error:
        raise CannotServe(f"the secret in {path} cannot be used: {error.strerror}") from None
    except (UnicodeError, SettingsError):
        raise CannotServe(
            f"{path} holds no secret; remove it to get a new one (everybody will have to log in again)"
        ) from None
    return complete


def _write_once(path: Path, text: str) -> None:
    """Create a private file with this text, completely or not at all. Raises FileExistsError."""
    number, draft = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        Path(draft).unlink()


def serve(settings: Settings, *, worker: bool = True) -> None:
    """Run the service until SIGINT, SIGTERM or SIGHUP, with a worker process unless `worker` is false.

    Raises CannotServe, EmbeddedError or NewerSchema.
    """
    max_connections = _max_connections(settings.pool_size)
    os.environ["PYTHONSAFEPATH"] = "1"  # child processes must not import from the working directory
    with _metrics_folder() as metrics, ExitStack() as opened:
        address = opened.enter_context(_reserve_port(settings.host, settings.port))
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics  # read when the application is imported
        loading = threading.Thread(target=_preload, daemon=True)
        loading.start()  # the slowest part, in parallel with the database's start
        # Wait for imports even after an error: they must not run at interpreter exit. A signal may leave them hanging.
        opened.callback(loading.join, _MAX_LOADING_S)
        complete = with_secret(opened.enter_context(database(settings, keep=True)))
        if migrate(complete.database_url):
            print("The database has the current schema.", flush=True)
        _export(complete)
        loading.join()
        message = _startup_message(address, given=settings)
        keeper = opened.enter_context(_worker_keeper()) if worker else None
        threading.Thread(target=_announce, args=(address, settings.port, message, keeper), daemon=True).start()
        try:
            if is_terminating():
                raise KeyboardInterrupt
            _run_workers(complete, address, max_connections)
        finally:
            ignore_termination()
    print("Stopped.", flush=True)


def _preload() -> None:
    """Import the application once, before the web processes are forked."""
    reserve_space()
    gc.disable()  # imports create no garbage, and collecting takes a tenth of the time
    try:
        # Optional dependencies that are not used: structlog would import rich (a fifth of the time), Litestar yaml, and
        # Granian dotenv.
        lazy_import("yaml")
        with block_import("rich"), block_import("dotenv"):
            import granian.server  # noqa: F401

            from invitree import app  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def _metrics_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="invitree-metrics-")
    except OSError as error:
        raise CannotServe(f"there is no place for temporary files, TMPDIR must name one: {error.strerror}") from None


def _worker_keeper() -> Keeper:
    # Not `-m`, which puts the working directory first on sys.path; with `-c`, -P prevents that.
    program = "from invitree.cli import main; main()"
    command = [sys.executable, "-P", "-c", program, "worker", "--parent", str(os.getpid())]
    return Keeper(command, name="worker", report=_report)


@contextmanager
def _reserve_port(host: str, port: int) -> Iterator[str]:
    """Reserve a port; yield the address that `host` resolves to. Raises CannotServe if the port is taken."""
    with ExitStack() as held:
        try:
            if sys.platform == "linux":
                # Granian binds the port only after the database has started, and with SO_REUSEPORT, so it would
                # silently share the port with another service. An abstract socket name has one owner, and is released
                # when the process ends.
                held.enter_context(socket.socket(socket.AF_UNIX)).bind(f"\0invitree serves port {port}")
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except socket.gaierror:
            raise CannotServe(f"{host} is not an address of this machine") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise CannotServe(f"port {port} on {host} is taken; choose another with --port") from None
            raise CannotServe(f"cannot listen on {host}:{port}: {error.strerror}") from None
        yield str(address[0])


def _export(settings: Settings) -> None:
    """Export the settings to the environment, where the web processes read them."""
    for field, value in structs.asdict(settings).items():
        name = f"INVITREE_{field.upper()}"
        os.environ.pop(f"{name}_FILE", None)
        os.environ[name] = str(value)
    for variable in VARIABLES:  # already part of the URL, and not for the embedded database
        os.environ.pop(variable, None)


def _run_workers(settings: Settings, address: str, max_connections: int) -> None:
    from granian.constants import Interfaces, Loops
    from granian.log import LogLevels
    from granian.server import Server

    if sys.platform == "linux":
        # A web process forked after the imports starts at once and shares the memory of the code.
        multiprocessing.set_start_method("fork", force=True)
        os.register_at_fork(after_in_child=_reset_signals)
    server: Any = Server(
        "invitree.app:serve",
        factory=True,
        address=address,
        port=settings.port,
        workers=settings.workers,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        websockets=False,
        log_level=LogLevels.warning,
        respawn_failed_workers=True,
        workers_kill_timeout=15,
        backlog=_BACKLOG,
        backpressure=max_connections,
    )
    # On SIGHUP, Granian would restart the web processes, which, being forked, would not be any different.
    on_hangup = server.signal_handler_interrupt if signal.SIGHUP in termination_signals() else signal.SIG_IGN
    server.signal_handler_reload = on_hangup
    server.main_loop_interrupt = StickyInterrupt(server)
    server.on_startup(lambda: server.signal_handler_interrupt() if is_terminating() else None)
    try:
        # Our own loader: Granian's puts the working directory first on sys.path.
        server.serve(target_loader=_application, wrap_loader=False)
    except SystemExit as end:
        # It does not matter if Ctrl-C killed a web process before Granian stopped it.
        if end.code and not server.interrupt_signal:
            raise CannotServe("the web processes did not start or keep running; see the lines above") from None


def _application() -> Any:
    from invitree.app import serve as application

    return application()


def _max_connections(pool_size: int) -> int:
    """Return the maximum number of client connections to a web process, raising the limit on open files if possible.

    Clients beyond it get no response at all, so it is far more than can be served: slow and idle clients must not block
    others. `kit/web/edge.py` sheds the load of too many requests. Raises CannotServe.
    """
    own = _OWN_FILES + 2 * pool_size  # canceling a query takes a second connection
    allowed = files_allowed(
        own + _MIN_CONNECTIONS, wanted=own + _MAX_CONNECTIONS, why=f"with INVITREE_POOL_SIZE={pool_size}"
    )
    return min(_MAX_CONNECTIONS, allowed - own)


def files_allowed(needed: int, *, wanted: int, why: str) -> int:
    """Raise the limit on open files to `wanted` if possible; return the resulting limit.

    Raises CannotServe if it is lower than `needed`.
    """
    if (allowed := allow_files(wanted)) < needed:
        raise CannotServe(
            f"{needed} open files are needed {why}, and the system allows {allowed}: "
            "raise the hard limit (ulimit -Hn, or LimitNOFILE= of systemd)"
        )
    return allowed


class StickyInterrupt(threading.Event):
    """The event that wakes Granian's main loop, which stays set once the server is to stop.

    The loop clears the event when it replaces a web process that has died. As Ctrl-C kills them all, the signal may
    arrive just before that, and Granian would lose it.
    """

    def __init__(self, server: Any) -> None:
        super().__init__()
        self._server = server

    def clear(self) -> None:
        """Clear the event, unless the server is to stop."""
        super().clear()
        if self._server.interrupt_signal:
            self.set()


def _reset_signals() -> None:
    """Restore default signal handling in a forked web process until it serves: the parent's handlers have no effect."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _startup_message(address: str, *, given: Settings) -> str:
    """Return the startup message with the service's URLs."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  a wildcard includes the loopback address
    base = f"http://{f'[{host}]' if ':' in host else host}:{given.port}"
    folder = Path(given.data_dir).resolve()
    return (
        f"Invitree {invitree.__version__} is ready.\n"
        f"  API         {base}/\n"
        f"  Reference   {base}/docs/\n"
        f"  Try it      {base}/docs/try/\n"
        f"  Database    {'INVITREE_DATABASE_URL' if given.database_url else f'embedded PostgreSQL in {folder}'}\n"
        f"  Mail        {urlsplit(given.smtp_url).hostname if given.smtp_url else folder / 'outbox'}\n"
        f"Press Ctrl-C to stop."
    )


def _announce(address: str, port: int, message: str, keeper: Keeper | None) -> None:
    """Print the startup message once a web process responds, and then keep the worker running.

    Must not import or resolve anything, because web processes are forked meanwhile.
    """
    # Signals must reach the main thread: one delivered to another thread would not wake it.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        time.sleep(0.02)
        # Wait for a response, not just a connection: the port is open before the web processes have started.
        with suppress(OSError), socket.create_connection((address, port), timeout=5) as asking:
            asking.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            if asking.recv(5) == b"HTTP/":
                print(message, flush=True)
                break
    if keeper is not None:
        keeper.keep()
