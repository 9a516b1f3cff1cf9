"""Running the service: a database that is there and migrated, web processes in front of it, and a clean end."""

import asyncio
import errno
import gc
import multiprocessing
import os
import resource
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

import asyncpg
from msgspec import structs

import invitree
from invitree.base.addresses import VARIABLES
from invitree.base.settings import Settings, SettingsError, check_settings
from invitree.kit.connections import connect, tell_ignored
from invitree.kit.db import OUTAGES
from invitree.kit.embedded import EmbeddedError, embedded_postgres, is_running
from invitree.kit.hidden import hidden, put_off
from invitree.migrations import HEAD
from invitree.migrations.upgrade import revision, upgrade

_OLDEST_POSTGRES = 15
_SPARE_CONNECTIONS = 45  # for a worker (16), commands and psql, and PostgreSQL's own reserve
_MOST_CONNECTIONS = 8_192  # of clients, to a web process
_BACKLOG = 4_096  # of clients who are not connected yet
_SPARE_FILES = 512  # for connections to the database, and whatever else is open
_PATIENCE_S = 60.0
_LOOK_S = 2.0  # between looks at the embedded database
_WORKER_REST_S = 1.0  # between the end of a worker and the next one
_WORKER_END_S = 20.0  # its jobs have ten seconds, and then a few statements


class CannotServe(Exception):
    """The service cannot run; the message is one line for the person who started it."""


@contextmanager
def database(settings: Settings, *, keep: bool = False) -> Iterator[Settings]:
    """Yield the settings with the URL of a database that answers: the given one, or the embedded one, started here.

    `keep` has the embedded one started again whenever it ends by itself. Raises CannotServe or EmbeddedError.
    """
    if settings.database_url:
        tell_ignored(settings.database_url)
        asyncio.run(_check_server(settings.database_url))
        yield settings
    else:
        connections = settings.workers * (settings.pool_size + 1) + _SPARE_CONNECTIONS
        folder, how = Path(settings.data_dir), {"max_connections": str(connections)}
        with embedded_postgres(folder, settings=how) as url, _kept(folder, how) if keep else nullcontext():
            yield structs.replace(settings, database_url=url)


@contextmanager
def _kept(folder: Path, how: Mapping[str, str]) -> Iterator[None]:
    """Look after the embedded database for the length of a block: a full disk or a lack of memory may have ended it."""
    leaving = threading.Event()

    def look_after() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are for the main thread
        while not leaving.wait(_LOOK_S):
            if is_running(folder):
                continue
            _tell("the embedded PostgreSQL has ended; starting it again")
            try:
                with embedded_postgres(folder, settings=how):
                    pass  # whoever yields in `database` goes on using it
            except EmbeddedError as error:
                _tell(str(error))

    keeper = threading.Thread(target=look_after, daemon=True)
    keeper.start()
    try:
        yield
    finally:
        leaving.set()
        keeper.join()


def _tell(line: str) -> None:
    print(f"invitree: {line}", file=sys.stderr, flush=True)


async def _check_server(url: str) -> None:
    try:
        connection = await connect(url, timeout=5)
    except (*OUTAGES, asyncpg.PostgresError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0] or type(error).__name__
        raise CannotServe(f"the database at INVITREE_DATABASE_URL cannot be reached: {reason}") from None
    version, encoding = connection.get_server_version().major, connection.get_settings().server_encoding
    await connection.close()
    if version < _OLDEST_POSTGRES:
        raise CannotServe(f"the database is PostgreSQL {version}; {_OLDEST_POSTGRES} or newer is needed")
    if encoding != "UTF8":
        raise CannotServe(f"the database's encoding is {encoding}; UTF8 is needed")


def migrate(url: str) -> bool:
    """Bring the database at `url` to this version's schema; return whether there was anything to do.

    Raises NewerSchema where a newer Invitree has been there, SchemaBusy where others keep using the tables, and what
    asyncpg raises where the database refuses.
    """

    async def current() -> str | None:
        connection = await connect(url, timeout=5)
        try:
            return await revision(connection)
        finally:
            await connection.close()

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
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    finally:
        Path(draft).unlink()


def serve(settings: Settings, *, worker: bool = True) -> None:
    """Run the service until SIGINT or SIGTERM, with a worker beside it unless told otherwise.

    Raises CannotServe, EmbeddedError or NewerSchema.
    """
    signal.signal(signal.SIGTERM, interrupt)
    with tempfile.TemporaryDirectory(prefix="invitree-metrics-") as metrics, ExitStack() as opened:
        address = opened.enter_context(_own_port(settings.host, settings.port))
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics  # read when the application is imported
        loading = threading.Thread(target=_load)
        loading.start()  # what takes longest, while the database starts
        opened.callback(loading.join)  # also after an error: an import must not meet the interpreter's end
        complete = with_secret(opened.enter_context(database(settings, keep=True)))
        if migrate(complete.database_url):
            print("The database has the current schema.", flush=True)
        _pass_on(complete)
        loading.join()
        greeting = _greeting(address, given=settings)
        keeper = opened.enter_context(_WorkerKeeper()) if worker else None
        threading.Thread(target=_greet, args=(address, settings.port, greeting, keeper), daemon=True).start()
        try:
            _run_workers(complete, address)
        finally:
            # The database is being stopped from here on; a second Ctrl-C must not cut that short.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
    print("Stopped.", flush=True)


def _load() -> None:
    """Import what the web processes need, once for all of them."""
    gc.disable()  # nothing of this is garbage, and looking for some takes a tenth of the time
    try:
        # structlog loads rich where it finds it, a fifth of the time, for tracebacks that are not printed with it here;
        # Litestar loads a writer of YAML, Granian a reader of .env files.
        put_off("yaml")
        with hidden("rich"), hidden("dotenv"):
            import granian.server  # noqa: F401

            from invitree import app  # noqa: F401
    finally:
        gc.freeze()
        gc.enable()


def interrupt(_number: int, _frame: object) -> None:
    """Handle a signal as Ctrl-C is handled: what was begun is ended in order."""
    raise KeyboardInterrupt


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


def _run_workers(settings: Settings, address: str) -> None:
    from granian.constants import Interfaces, Loops
    from granian.log import LogLevels
    from granian.server import Server

    if sys.platform == "linux":
        # Forked with everything imported, a web process is there at once and shares the memory of the code.
        multiprocessing.set_start_method("fork", force=True)
        os.register_at_fork(after_in_child=_end_when_told)
    server = Server(
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
        backpressure=_most_connections(),
    )
    server.main_loop_interrupt = LastingInterrupt(server)
    try:
        server.serve()
    except SystemExit as end:
        # A web process that Ctrl-C ended before it was told to end makes no difference.
        if end.code and not server.interrupt_signal:
            raise CannotServe("the web processes did not start or keep running; see the lines above") from None


def _most_connections() -> int:
    """Return how many clients may be connected to a web process; raises what the system allows it, as far as it may.

    Those beyond are not even told that they have to wait, so this is far more than can be served: whoever is connected
    and slow, or silent, must not keep others out. `kit/edge.py` refuses those who ask for too much.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_CONNECTIONS + _SPARE_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(_MOST_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FILES))


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


def _greet(address: str, port: int, greeting: str, keeper: "_WorkerKeeper | None") -> None:
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


class _WorkerKeeper:
    """Keeps one worker process running, from `keep` to the end of the block."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # for what follows
        self._process = 0
        self._is_gone = threading.Event()
        self._is_gone.set()
        self._ending = threading.Event()

    def __enter__(self) -> "_WorkerKeeper":
        return self

    def keep(self) -> None:
        """Start a worker, and another one whenever it ends. Returns when the block ends."""
        command = [sys.executable, "-m", "invitree.cli", "worker", "--parent", str(os.getpid())]
        while True:
            with self._lock:
                if self._ending.is_set():
                    return
                # Not Popen: it waits for a pipe to close, which a web process that is forked meanwhile keeps open.
                self._process = os.posix_spawn(
                    sys.executable,
                    command,
                    os.environ,
                    file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
                    setpgroup=0,  # Ctrl-C reaches the whole group, and a letter may be under way
                    setsigmask=[],
                    setsigdef=[signal.SIGINT, signal.SIGTERM],
                )
                self._is_gone.clear()
            os.waitid(os.P_PID, self._process, os.WEXITED | os.WNOWAIT)
            with self._lock:  # its number belongs to nobody else until here
                os.waitpid(self._process, 0)
                self._is_gone.set()
            self._ending.wait(_WORKER_REST_S)

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for how in (signal.SIGTERM, signal.SIGKILL):
            with self._lock:
                if not self._is_gone.is_set():
                    os.kill(self._process, how)
            if self._is_gone.wait(_WORKER_END_S):
                return
