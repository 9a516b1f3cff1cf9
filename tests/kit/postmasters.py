"""Looking at and ending the processes of an embedded PostgreSQL."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from invitree.kit.postgres import embedded
from invitree.kit.postgres.programs import bundled_programs
from tests.waiting import await_true

FAST = {"fsync": "off"}
SOURCE = Path(embedded.__file__).parents[2]
BIN = bundled_programs()
PACKAGES = BIN.parents[2]
NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
# Whether any user can reach the binaries: not so in a clone below a closed folder, such as root's home.
REACHABLE = embedded._may_enter(BIN, NOBODY)
HOLD = """
import sys
from pathlib import Path
from invitree.kit.postgres.embedded import EmbeddedError, embedded_postgres
try:
    with embedded_postgres(Path(sys.argv[1]), settings={"fsync": "off"}) as url:
        print(url, flush=True)
        sys.stdin.read()
except EmbeddedError as error:
    print("EmbeddedError:", error, flush=True)
"""

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several users")


def processes(folder: Path) -> list[int]:
    """Return the ids of the living processes with `folder` in their command line, but for this one."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.fsencode(folder) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def kill_all(folder: Path) -> None:
    for pid in processes(folder):
        os.kill(pid, signal.SIGKILL)
    await_true(lambda: not processes(folder))


def postmaster(data: Path) -> int:
    return int((data / "postgres/postmaster.pid").read_text().splitlines()[0])


def socket_dir(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def ask(url: str, sql: str, *, user: str = "invitree", prefix: list[str] | None = None) -> tuple[str, str]:
    """Return what psql says and what it complains of."""
    argv = [*(prefix or []), str(BIN / "psql"), "-XqAt", "-c", sql, url.replace("invitree@", f"{user}@")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd="/", check=False)
    return done.stdout.strip(), done.stderr.strip()


def hold(
    data: Path, *, prefix: list[str] | None = None, python: str = sys.executable, **more: str
) -> subprocess.Popen[str]:
    """Start another process that uses `data` until its stdin is closed."""
    argv = [*(prefix or []), python, "-c", HOLD, str(data)]
    env = os.environ | {"PYTHONPATH": f"{SOURCE}:{PACKAGES}", "PYTHONDONTWRITEBYTECODE": "1"} | more
    return subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True, cwd="/", env=env
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def let_go(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=30)
    assert process.returncode == 0
