"""Running the service: a database that is there and migrated, web processes in front of it, and a clean end."""

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
from invitree.kit.data.connections import connect, tell_ignored
from invitree.kit.postgres.embedded import EmbeddedError, cluster_identity, embedded_postgres, is_running
from invitree.kit.process.children import Keeper, allow_files, endings, ignore_endings, is_told_to_end
from invitree.kit.process.imports import block_import, lazy_import
from invitree.kit.process.metrics import reserve_space
from invitree.migrations import HEAD
from invitree.migrations.upgrade import revision, upgrade

_SPARE_CONNECTIONS = 45  # for a worker (16), commands and psql, and PostgreSQL's own reserve
_MOST_CONNECTIONS = 8_192  # of clients, to a web process
_BACKLOG = 4_096  # of clients who are not connected yet
_FEWEST_CONNECTIONS = 100  # with which a web process is of use
_OWN_FILES = 64  # that a web process has open besides connections
_PATIENCE_S = 60.0
_LONGEST_LOADING_S = 10.0  # where it is not needed any more
_LOOK_S = 2.0  # between looks at the embedded database
_LONGEST_LOOK_S = 16.0  # where it ends again and again


class CannotServe(Exception):
    """The service cannot run; the message is one line for the person who started it."""


@contextmanager
def database(settings: Settings, *, keep: bool = False) -> Iterator[Settings]:
    """Yield the settings with the URL of a database that answers: the given one, or the embedded one, started here.

    `keep` has the embedded one started again whenever it ends by itself. Raises UnusableDatabase or EmbeddedError.
    """
    if settings.database_url:
        tell_ignored(settings.database_url)
        asyncio.run(check_reachable(settings.database_url))
        yield settings
    else:
        connections = settings.workers * (settings.pool_size + 1) + _SPARE_CONNECTIONS
        folder, how = Path(settings.data_dir), {"max_connections": str(connections)}
        with embedded_postgres(folder, settings=how) as url, _kept(folder, how) if keep else nullcontext():
            yield structs.replace(settings, database_url=url)


@contextmanager
def _kept(folder: Path, how: Mapping[str, str]) -> Iterator[None]:
    """Look after the embedded database for the length of a block: a full disk or a lack of memory may have ended it.

    Ends the process where the database's folder is another one by now. Raises CannotServe then.
    """
    leaving, began_as, is_lost = threading.Event(), cluster_identity(folder), threading.Event()

    def look_after() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
        wait_s, said, ended_s = _LOOK_S, "", 0.0
        while not leaving.wait(wait_s):
            try:
                if cluster_identity(folder) != began_as:
                    is_lost.set()
                    os.kill(os.getpid(), signal.SIGTERM)
                    return
                if is_running(folder):
                    if time.monotonic() - ended_s > _PATIENCE_S:
                        wait_s, said = _LOOK_S, ""
                    continue
                wait_s, ended_s = min(wait_s * 2, _LONGEST_LOOK_S), time.monotonic()
                if not said:
                    _tell("the embedded PostgreSQL has ended; starting it again")
                with embedded_postgres(folder, settings=how):
                    said = ""  # whoever yields in `database` goes on using it
            except (EmbeddedError, OSError) as error:
                if said != str(error):
                    _tell(said := str(error))

    keeper = threading.Thread(target=look_after, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        leaving.set()
        keeper.join()
        if is_lost.is_set():
            raise CannotServe(f"the database in {folder.resolve()} was moved, removed or replaced while it was in use")


def _tell(line: str) -> None:
    print(f"invitree: {line}", file=sys.stderr, flush=True)


def migrate(url: str) -> bool:
    """Bring the database at `url` to this version's schema; return whether there was anything to do.

    Raises UnusableDatabase, NewerSchema where a newer Invitree has been there, SchemaBusy where others keep using the
    tables, and what asyncpg raises where the database refuses.
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
    upgrade(url, tell=_tell)
    return True


def with_secret(settings: Settings) -> Settings:
    """Return the settings with a secret: the given one, or one made at the first start and kept in the data folder."""
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
    """Write a file that nobody else can read, whole or not at all. Raises FileExistsError."""
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
    """Run the service until SIGINT, SIGTERM or SIGHUP, with a worker beside it unless told otherwise.

    Raises CannotServe, EmbeddedError or NewerSchema.
    """
    most = _most_connections(settings.pool_size)
    os.environ["PYTHONSAFEPATH"] = "1"  # no child imports what lies about where this was started
    with _metrics_folder() as metrics, ExitStack() as opened:
        address = opened.enter_context(_own_port(settings.host, settings.port))
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics  # read when the application is imported
        loading = threading.Thread(target=_load, daemon=True)
        loading.start()  # what takes longest, while the database starts
        # Also after an error: an import must not meet the interpreter's end, unless a signal has left its lock taken.
        opened.callback(loading.join, _LONGEST_LOADING_S)
        complete = with_secret(opened.enter_context(database(settings, keep=True)))
        if migrate(complete.database_url):
            print("The database has the current schema.", flush=True)
        _pass_on(complete)
        loading.join()
        greeting = _greeting(address, given=settings)
        keeper = opened.enter_context(_worker_keeper()) if worker else None
        threading.Thread(target=_greet, args=(address, settings.port, greeting, keeper), daemon=True).start()
        try:
            if is_told_to_end():
                raise KeyboardInterrupt
            _run_workers(complete, address, most)
        finally:
            ignore_endings()
    print("Stopped.", flush=True)


def _load() -> None:
    """Import what the web processes need, once for all of them."""
    reserve_space()
    gc.disable()  # nothing of this is garbage, and looking for some takes a tenth of the time
    try:
        # structlog loads rich where it finds it, a fifth of the time, for tracebacks that are not printed with it here;
        # Litestar loads a writer of YAML, Granian a reader of .env files.
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
    # Not `-m`, which puts the folder that this was started in before all others; -P keeps `-c` from doing so.
    program = "from invitree.cli import main; main()"
    command = [sys.executable, "-P", "-c", program, "worker", "--parent", str(os.getpid())]
    return Keeper(command, name="worker", tell=_tell)


@contextmanager
def _own_port(host: str, port: int) -> Iterator[str]:
    """Keep a port for this service; yield the address that `host` stands for. Raises CannotServe where it is taken."""
    with ExitStack() as held:
        try:
            if sys.platform == "linux":
                # Granian binds the port only when the database is there, and its sockets would share it without a word
                # with those of another service (SO_REUSEPORT). A name in the abstract namespace has one owner, and goes
                # with the process.
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


def _pass_on(settings: Settings) -> None:
    """Put the settings where the web processes read them."""
    for field, value in structs.asdict(settings).items():
        name = f"INVITREE_{field.upper()}"
        os.environ.pop(f"{name}_FILE", None)
        os.environ[name] = str(value)
    for variable in VARIABLES:  # the address is complete, and that of the embedded database listens to none
        os.environ.pop(variable, None)


def _run_workers(settings: Settings, address: str, most: int) -> None:
    from granian.constants import Interfaces, Loops
    from granian.log import LogLevels
    from granian.server import Server

    if sys.platform == "linux":
        # Forked with everything imported, a web process is there at once and shares the memory of the code.
        multiprocessing.set_start_method("fork", force=True)
        os.register_at_fork(after_in_child=_end_when_told)
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
        backpressure=most,
    )
    # Granian would start the web processes anew, which are forked and so would be as they were.
    on_hangup = server.signal_handler_interrupt if signal.SIGHUP in endings() else signal.SIG_IGN
    server.signal_handler_reload = on_hangup
    server.main_loop_interrupt = LastingInterrupt(server)
    server.on_startup(lambda: server.signal_handler_interrupt() if is_told_to_end() else None)
    try:
        # A loader of our own: Granian's puts the folder that this was started in before all others.
        server.serve(target_loader=_application, wrap_loader=False)
    except SystemExit as end:
        # A web process that Ctrl-C ended before it was told to end makes no difference.
        if end.code and not server.interrupt_signal:
            raise CannotServe("the web processes did not start or keep running; see the lines above") from None


def _application() -> Any:
    from invitree.app import serve as application

    return application()


def _most_connections(pool_size: int) -> int:
    """Return how many clients may be connected to a web process; raises what the system allows it, as far as it may.

    Those beyond are not even told that they have to wait, so this is far more than can be served: whoever is connected
    and slow, or silent, must not keep others out. `kit/web/edge.py` refuses those who ask for too much. Raises
    CannotServe.
    """
    own = _OWN_FILES + 2 * pool_size  # to give a query up, PostgreSQL has to be told over another connection
    allowed = files_allowed(
        own + _FEWEST_CONNECTIONS, wanted=own + _MOST_CONNECTIONS, why=f"with INVITREE_POOL_SIZE={pool_size}"
    )
    return min(_MOST_CONNECTIONS, allowed - own)


def files_allowed(needed: int, *, wanted: int, why: str) -> int:
    """Return how many files a process may open, raised to as many as are wanted if that is possible.

    Raises CannotServe where it may open fewer than are needed.
    """
    if (allowed := allow_files(wanted)) < needed:
        raise CannotServe(
            f"{needed} open files are needed {why}, and the system allows {allowed}: "
            "raise the hard limit (ulimit -Hn, or LimitNOFILE= of systemd)"
        )
    return allowed


class LastingInterrupt(threading.Event):
    """What wakes Granian's loop, never to be lost.

    The loop clears it when it replaces a web process that has ended. Ctrl-C in a terminal ends them all, and the signal
    may come just before: Granian would forget that it was told to stop.
    """

    def __init__(self, server: Any) -> None:
        super().__init__()
        self._server = server

    def clear(self) -> None:
        """Forget what has been dealt with; that the server is to stop never is."""
        super().clear()
        if self._server.interrupt_signal:
            self.set()


def _end_when_told() -> None:
    """Let signals end a web process until it serves: the handlers it was forked with would only tell its own copy."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _greeting(address: str, *, given: Settings) -> str:
    """Return what says where everything is."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104  everywhere is also here
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


def _greet(address: str, port: int, greeting: str, keeper: Keeper | None) -> None:
    """Greet once a web process answers; from then on keep the worker running.

    Imports and resolves nothing: it runs while web processes are forked.
    """
    # Signals are for the main thread: one that another thread takes does not wake it.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        time.sleep(0.02)
        # An answer, and not a connection: the port is open before the web processes are there.
        with suppress(OSError), socket.create_connection((address, port), timeout=5) as asking:
            asking.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            if asking.recv(5) == b"HTTP/":
                print(greeting, flush=True)
                break
    if keeper is not None:
        keeper.keep()
