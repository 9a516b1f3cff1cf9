"""The service as its users run it: a process, with its own data folder and port."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.servers import free_port

INVITREE = str(Path(sys.executable).parent / "invitree")
_PATIENCE_S = 90
_READY = "Press Ctrl-C"


def run(*args: str, stdin: str = "", env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of `invitree` to its end."""
    return subprocess.run(
        [INVITREE, *args], input=stdin, env=_environment(env), capture_output=True, text=True, timeout=_PATIENCE_S
    )


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("INVITREE_")}
    return {**clean, "INVITREE_PORT": str(free_port()), **(more or {})}


class Service:
    """A running `invitree serve`."""

    def __init__(
        self, *args: str, env: Mapping[str, str] | None = None, port: int | None = None, prefix: Sequence[str] = ()
    ) -> None:
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*prefix, INVITREE, "serve", "--port", str(port), *args],
            env=_environment(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._has_spoken = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Wait for the line that says so."""
        assert self._has_spoken.wait(_PATIENCE_S), self.output
        assert _READY in self.output, self.output

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Signal the process as a shell or a supervisor does, and return its exit code."""
        self.process.send_signal(how)
        code = self.process.wait(_PATIENCE_S)
        self._reader.join(_PATIENCE_S)
        return code

    @property
    def output(self) -> str:
        """What it has printed."""
        return "".join(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                self.lines.append(line)
                if _READY in line:
                    self._has_spoken.set()
        self._has_spoken.set()  # its last word


@contextmanager
def service(*args: str, env: Mapping[str, str] | None = None, prefix: Sequence[str] = ()) -> Iterator[Service]:
    """Run the service for the length of a block, its command after that of `prefix`."""
    running = Service(*args, env=env, prefix=prefix)
    try:
        running.wait_until_ready()
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()
