"""What is measured: the service and the floor as processes, each on the cores it is given."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from msgspec import Struct

_ROOT = Path(__file__).parent.parent
_PATIENCE_S = 60.0
_MIB = 2**20


class Server(Struct, frozen=True):
    """A running server."""

    url: str
    process: psutil.Process | None = None
    """None where it is somebody else's."""

    def memory_mib(self) -> float | None:
        """Return the largest resident memory of its web processes, None where it cannot be known."""
        if self.process is None:
            return None
        web = self.process.children() or [self.process]
        return max(one.memory_info().rss for one in web) / _MIB


@contextmanager
def service(*, cores: Sequence[int], workers: int, environment: Mapping[str, str]) -> Iterator[Server]:
    """Run the service for the length of a block, its web processes on these cores."""
    port = free_port()
    command = [
        "-c",
        "from invitree.cli import main; main()",
        "serve",
        "--port",
        str(port),
        "--workers",
        str(workers),
        "--no-worker",
    ]
    with _running(command, port, cores=cores, environment=environment) as server:
        yield server


@contextmanager
def floor(*, cores: Sequence[int], environment: Mapping[str, str]) -> Iterator[Server]:
    """Run the floor for the length of a block, on these cores."""
    port = free_port()
    command = ["-m", "granian", "--interface", "asgi", "--loop", "uvloop", "--port", str(port), "bench.floor:app"]
    with _running([*command, "--no-ws", "--log-level", "warning"], port, cores=cores, environment=environment) as one:
        yield one


@contextmanager
def _running(
    command: Sequence[str], port: int, *, cores: Sequence[int], environment: Mapping[str, str]
) -> Iterator[Server]:
    with on_cores(cores):  # a process begins on the cores of the one that starts it
        started = psutil.Popen(
            [sys.executable, *command],
            cwd=_ROOT,
            env={**os.environ, **environment},
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        _wait_for(port, started)
        yield Server(url=f"http://127.0.0.1:{port}", process=started)
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
            started.wait(_PATIENCE_S)


def free_port() -> int:
    """Return a TCP port that nobody listens on: below those that systems give to whoever connects meanwhile."""
    while True:
        port = random.randrange(10_000, 30_000)  # noqa: S311
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def on_cores(chosen: Sequence[int]) -> Iterator[None]:
    """Keep this process, and those that it starts meanwhile, to these cores, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _wait_for(port: int, process: psutil.Popen) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as asking:
            asking.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            if asking.recv(5) == b"HTTP/":
                return
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start: {' '.join(process.args)}")
