"""Graceful termination by signals, the limit on open files, and keeping a child process running."""

import os
import resource
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress

_ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SAME_S = 10.0
_told = threading.Event()
_FIRST_REST_S, _LONGEST_REST_S = 1.0, 60.0
_GOOD_LIFE_S = 60.0  # a child that ran this long is restarted without backoff
_END_S = 20.0  # a worker gives its jobs ten seconds, and then runs a few statements


def endings() -> list[signal.Signals]:
    """Return the signals that terminate this process: those that are not ignored, as SIGHUP is under `nohup`."""
    return [number for number in _ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]


def end_in_order() -> None:
    """Make termination signals raise KeyboardInterrupt, for a graceful shutdown.

    Further signals within ten seconds are ignored: a closing terminal sends more than one.
    """
    last_s = -_SAME_S

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal last_s
        _told.set()
        if (now_s := time.monotonic()) >= last_s + _SAME_S:
            last_s = now_s
            raise KeyboardInterrupt

    for number in endings():
        signal.signal(number, interrupt)


def is_told_to_end() -> bool:
    """Return whether a termination signal has arrived. Python drops exceptions raised in some import callbacks."""
    return _told.is_set()


def ignore_endings() -> None:
    """Ignore termination signals, so that they do not interrupt the shutdown."""
    for number in _ENDINGS:
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

    def __init__(self, command: list[str], *, name: str, tell: Callable[[str], None]) -> None:
        self._command, self._name, self._tell = command, name, tell
        self._lock = threading.Lock()  # guards the attributes below
        self._process = 0
        self._is_gone = threading.Event()
        self._is_gone.set()
        self._ending = threading.Event()

    def __enter__(self) -> "Keeper":
        return self

    def keep(self) -> None:
        """Start the child, and restart it whenever it ends. Returns when the block ends."""
        rest_s = _FIRST_REST_S
        while not self._ending.is_set():
            began_s = time.monotonic()
            try:
                self._start()
                how = self._wait()
            except OSError as error:
                how = f"{error.strerror}"
            if time.monotonic() - began_s > _GOOD_LIFE_S:
                rest_s = _FIRST_REST_S
            if not self._ending.is_set():
                self._tell(f"the {self._name} has ended ({how}); starting it again in {rest_s:g} s")
            self._ending.wait(rest_s)
            rest_s = min(rest_s * 2, _LONGEST_REST_S)

    def _wait(self) -> str:
        """Wait for the child to end; return its exit code or signal."""
        if self._is_gone.is_set():
            return ""
        os.waitid(os.P_PID, self._process, os.WEXITED | os.WNOWAIT)
        with self._lock:  # the PID cannot be reused until it is waited for
            code = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
            self._is_gone.set()
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    def _start(self) -> None:
        with self._lock:
            if self._ending.is_set():
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
            self._is_gone.clear()

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for how in (signal.SIGTERM, signal.SIGKILL):
            with self._lock:
                if not self._is_gone.is_set():
                    os.kill(self._process, how)
            if self._is_gone.wait(_END_S):
                return
