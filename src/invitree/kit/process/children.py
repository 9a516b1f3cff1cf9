"""What processes ask of the system: to be ended in order, open files, and a child that is kept running."""

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
_GOOD_LIFE_S = 60.0  # of a child that is started anew without a longer rest
_END_S = 20.0  # a worker's jobs have ten seconds, and then a few statements


def endings() -> list[signal.Signals]:
    """Return the signals that end this process: those that were not ignored when it was started, as under `nohup`."""
    return [number for number in _ENDINGS if signal.getsignal(number) is not signal.SIG_IGN]


def end_in_order() -> None:
    """Have each of them raise KeyboardInterrupt, so that what was begun is ended in order.

    Those that follow within seconds change nothing: a closing terminal sends more than one.
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
    """Return whether any of them has come: Python drops what is raised inside of some callbacks, of imports for one."""
    return _told.is_set()


def ignore_endings() -> None:
    """Let none of them cut short what is being ended."""
    for number in _ENDINGS:
        signal.signal(number, signal.SIG_IGN)


def allow_files(wanted: int) -> int:
    """Allow this process and its children so many open files, as far as the system lets; return how many it does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Keeper:
    """Keeps one child running, from `keep` to the end of the block. One that ends soon rests longer each time."""

    def __init__(self, command: list[str], *, name: str, tell: Callable[[str], None]) -> None:
        self._command, self._name, self._tell = command, name, tell
        self._lock = threading.Lock()  # for what follows
        self._process = 0
        self._is_gone = threading.Event()
        self._is_gone.set()
        self._ending = threading.Event()

    def __enter__(self) -> "Keeper":
        return self

    def keep(self) -> None:
        """Start the child, and start it again whenever it ends. Returns when the block ends."""
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
        """Wait for the child's end; return how it ended."""
        if self._is_gone.is_set():
            return ""
        os.waitid(os.P_PID, self._process, os.WEXITED | os.WNOWAIT)
        with self._lock:  # its number belongs to nobody else until here
            code = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
            self._is_gone.set()
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    def _start(self) -> None:
        with self._lock:
            if self._ending.is_set():
                return
            # Not Popen: it waits for a pipe to close, which a web process that is forked meanwhile keeps open.
            self._process = os.posix_spawn(
                self._command[0],
                self._command,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
                setpgroup=0,  # Ctrl-C reaches the whole group, and a letter may be under way
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
