"""The load, which wrk makes: requests from a file, as fast as the answers come."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import msgspec
from msgspec import Struct

_SCRIPT = Path(__file__).with_name("wrk.lua")
_TIMEOUT_S = 10


class LoadError(Exception):
    """The load could not be made, or the answers were not the wanted ones; the message is one line."""


class Request(Struct, frozen=True):
    """A request; `authorization` is the header's value."""

    method: str
    path: str
    authorization: str = ""
    body: str = ""


class Measured(Struct, frozen=True, kw_only=True):
    """What wrk saw. `refused` are answers of 400 and above, `lost` are requests without an answer."""

    requests: int
    duration_us: int
    refused: int
    lost: int
    p50_us: int
    p99_us: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.requests / self.duration_us * 1e6


class Load(Struct, frozen=True, kw_only=True):
    """Requests to a server over so many connections; `pause_ms` before each keeps it from being all it can."""

    url: str
    requests: Iterable[Request]
    connections: int
    pause_ms: int = 0


def find_wrk() -> str:
    """Return the path of wrk. Raises LoadError."""
    found = shutil.which("wrk")
    if found is None:
        raise LoadError("wrk is needed to make the load: `apt-get install wrk`, or `brew install wrk`")
    return found


# Requests that a file needs, if none is to be sent twice; in a long run some are, but for what is rare.
_MOST_A_SECOND = 20_000
_FEWEST, _MOST = 100_000, 1_000_000


def run(*loads: Load, seconds: float) -> list[Measured]:
    """Make these loads at the same time and return what each saw. Raises LoadError where an answer was a refusal."""
    with tempfile.TemporaryDirectory(prefix="invitree-bench-") as folder, ExitStack() as running:
        started = [
            running.enter_context(_start(load, Path(folder) / f"requests{number}", seconds))
            for number, load in enumerate(loads)
        ]
        return [_read(process) for process in started]


def _start(load: Load, file: Path, seconds: float) -> "subprocess.Popen[str]":
    some = islice(load.requests, min(max(_FEWEST, int(_MOST_A_SECOND * seconds)), _MOST))
    file.write_text("".join(f"{r.method}\t{r.path}\t{r.authorization}\t{r.body}\n" for r in some))
    how = ["-t1", f"-c{load.connections}", f"-d{seconds:.0f}s", f"--timeout={_TIMEOUT_S}s", f"-s{_SCRIPT}", load.url]
    command = [find_wrk(), *how, "--", str(file), str(load.pause_ms)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603


def _read(process: "subprocess.Popen[str]") -> Measured:
    output, _ = process.communicate()
    try:
        measured = msgspec.json.decode(output.strip().rpartition("\n")[2], type=Measured)
    except msgspec.DecodeError:
        raise LoadError(f"wrk failed: {output.strip()[-300:]}") from None
    if measured.refused or measured.lost:
        raise LoadError(f"of {measured.requests} requests {measured.refused} were refused, {measured.lost} lost")
    return measured
