"""Graceful termination by signals, the limit on open files, and keeping a child process running."""

import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_TERMINATION_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_REPEAT_S = 10.0
_requested = threading.Event()
_FIRST_DELAY_S, _MAX_DELAY_S = 1.0, 60.0
_STABLE_S = 60.0  # a child that ran this long is restarted without backoff
_STOP_TIMEOUT_S = 20.0  # a worker gives its jobs ten seconds, and then runs a few statements


def termination_signals() -> list[signal.Signals]:
    """Return the signals that terminate this process: those that are not ignored, as SIGHUP is under `nohup`."""
    return [number for number in _TERMINATION_SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def interrupt_on_termination() -> None:
    """Make termination signals raise KeyboardInterrupt, for a graceful shutdown.

    Further signals within ten seconds are ignored: a closing terminal sends more than one.
    """
    last_s = -_REPEAT_S

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal last_s
        _requested.set()
        if (now_s := time.monotonic()) >= last_s + _REPEAT_S:
            last_s = now_s
            raise KeyboardInterrupt

    for number in termination_signals():
        signal.signal(number, interrupt)


def is_terminating() -> bool:
    """Return whether a termination signal has arrived. Python drops exceptions raised in some import callbacks."""
    return _requested.is_set()


def ignore_termination() -> None:
    """Ignore termination signals, so that they do not interrupt the shutdown."""
    for number in _TERMINATION_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def allow_files(wanted: int) -> int:
    """Raise the limit on open files to `wanted`, if the system allows it; return the resulting limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Keeper:
    """Keeps one child process running until the end of the block, restarting it with exponential backoff."""

    def __init__(self, command: list[str], *, name: str, report: Callable[[str], None]) -> None:
        self._command, self._name, self._report = command, name, report
        self._lock = threading.Lock()  # guards the attributes below
        self._process = 0
        self._has_ended = threading.Event()
        self._has_ended.set()
        self._stopping = threading.Event()

    def __enter__(self) -> "Keeper":
        return self

    def keep(self) -> None:
        """Start the child, and restart it whenever it ends. Returns when the block ends."""
        delay_s = _FIRST_DELAY_S
        while not self._stopping.is_set():
            started_s = time.monotonic()
            try:
                self._start()
                outcome = self._wait()
            except OSError as error:
                outcome = f"{error.strerror}"
            if time.monotonic() - started_s > _STABLE_S:
                delay_s = _FIRST_DELAY_S
            if not self._stopping.is_set():
                self._report(f"the {self._name} has ended ({outcome}); starting it again in {delay_s:g} s")
            self._stopping.wait(delay_s)
            delay_s = min(delay_s * 2, _MAX_DELAY_S)

    def _wait(self) -> str:
        """Wait for the child to end; return its exit code or signal."""
        if self._has_ended.is_set():
            return ""
        os.waitid(os.P_PID, self._process, os.WEXITED | os.WNOWAIT)
        with self._lock:  # the PID cannot be reused until it is waited for
            code = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
            self._has_ended.set()
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    def _start(self) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            # Not Popen, which waits for a pipe to close that a web process forked meanwhile keeps open.
            self._process = os.posix_spawn(
                self._command[0],
                self._command,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
                setpgroup=0,  # Ctrl-C is sent to the whole group, and an email may be under way
                setsigmask=[],
                setsigdef=[signal.SIGINT, signal.SIGTERM],
            )
            self._has_ended.clear()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with self._lock:
                if not self._has_ended.is_set():
                    os.kill(self._process, number)
            if self._has_ended.wait(_STOP_TIMEOUT_S):
                return
