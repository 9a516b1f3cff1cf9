"""Standard output and standard error that never raise or block.

A process keeps working if its log has lost its reader, is on a full disk, or goes to a pipe that nobody reads: lines
that cannot be written are dropped and counted.
"""

import atexit
import io
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_MAX_WAIT_S = 0.1  # for a slow reader
_WAIT_SHARE = 0.1  # the largest share of time spent waiting


class Output(io.TextIOBase):
    """A text stream to a file descriptor that writes whole lines, never raises, and waits 0.1 s at most.

    No buffer and no thread: a written line has left the process, even if the process is killed.
    """

    on_drop: Callable[[], None] = staticmethod(lambda: None)
    """Called whenever text is dropped."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._target = _non_blocking(descriptor)
        self._unfinished = threading.local()  # the unfinished line of each thread
        self._is_line_cut = False
        self._budget_s, self._waited_at = _MAX_WAIT_S, time.monotonic()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Always UTF-8."""
        return "utf-8"

    def fileno(self) -> int:
        """Return the file descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether this is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Write all complete lines; keep the rest until its newline comes."""
        lines, end, self._unfinished.text = f"{getattr(self._unfinished, 'text', '')}{text}".rpartition("\n")
        if end:
            self._put(f"{lines}\n".encode("utf-8", "backslashreplace"))
        return len(text)

    def _put(self, lines: bytes) -> None:
        rest = b"\n" + lines if self._is_line_cut else lines
        try:
            while rest:
                try:
                    rest = rest[os.write(self._target, rest) :]
                except BlockingIOError:
                    if not self._wait():
                        raise
        except OSError:
            self._is_line_cut = self._is_line_cut or len(rest) < len(lines)
            self.on_drop()
        else:
            self._is_line_cut = False

    def _wait(self) -> bool:
        """Wait for the reader within the time budget; return whether writing is possible."""
        started = time.monotonic()
        budget_s = min(_MAX_WAIT_S, self._budget_s + (started - self._waited_at) * _WAIT_SHARE)
        is_ready = bool(select.select([], [self._target], [], max(0.0, budget_s))[1])
        self._waited_at = time.monotonic()
        self._budget_s = budget_s - (self._waited_at - started)
        return is_ready


def shield_output() -> None:
    """Replace sys.stdout and sys.stderr with an Output."""
    sys.stdout, sys.stderr = Output(1), Output(2)


def open_standard_streams() -> None:
    """Open /dev/null for closed standard streams: the next opened file would get the number, and the output."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, descriptor)
            os.set_inheritable(descriptor, True)  # dup2 does not set it if both are the same
            if nowhere != descriptor:
                os.close(nowhere)


def _non_blocking(descriptor: int) -> int:
    """Return a non-blocking descriptor for the same file, if possible."""
    mode, is_terminal = os.fstat(descriptor).st_mode, os.isatty(descriptor)
    if is_terminal or stat.S_ISFIFO(mode):
        with suppress(OSError):  # reopened, on Linux: the shell shares the original
            own = os.open(f"/dev/fd/{descriptor}", os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
            if not os.get_blocking(own):
                return own
            os.close(own)
    if (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)) and os.get_blocking(descriptor):
        os.set_blocking(descriptor, False)
        # Restore it for whoever uses it next. (Child processes share it meanwhile.)
        atexit.register(os.set_blocking, descriptor, True)
    return descriptor
