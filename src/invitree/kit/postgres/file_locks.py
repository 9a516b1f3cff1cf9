"""File locks, which are released when their process dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def lock_file(path: Path) -> Iterator[int]:
    """Open a lock file for the length of a block, creating it if missing."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)  # without LOCK_UN: a process that inherited it keeps the lock


def is_free(lock: int) -> bool:
    """Try to take the lock; return whether it was free."""
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def is_taken(lock: int) -> bool:
    """Return whether another holder has the lock."""
    if is_free(lock):
        fcntl.flock(lock, fcntl.LOCK_UN)
        return False
    return True


@contextmanager
def locked(lock: int) -> Iterator[None]:
    """Wait for a lock and hold it for the length of a block."""
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


@contextmanager
def locked_file(path: Path) -> Iterator[int]:
    """Open a file and wait for its lock. A process that inherits the descriptor holds the lock until it ends."""
    with lock_file(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
