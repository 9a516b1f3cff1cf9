"""Locks that processes hold on files, and lose with their life."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def lock_file(path: Path) -> Iterator[int]:
    """Open a file that can be locked, made if missing, for the length of a block."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)  # not unlocked: a process that has inherited it keeps it


def is_free(lock: int) -> bool:
    """Take the lock if nobody else has it, and say so."""
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def is_taken(lock: int) -> bool:
    """Return whether somebody else has the lock."""
    if is_free(lock):
        fcntl.flock(lock, fcntl.LOCK_UN)
        return False
    return True


@contextmanager
def locked(lock: int) -> Iterator[None]:
    """Hold a lock for the length of a block, waiting for it."""
    fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)


@contextmanager
def locked_file(path: Path) -> Iterator[int]:
    """Open a file and lock it, waiting for the lock. A process that inherits it holds the lock while it lives."""
    with lock_file(path) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock
