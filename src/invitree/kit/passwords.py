"""Password hashing: argon2id in threads, never on the event loop, never more at once than the machine can do."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from invitree.base.problems import Unavailable

# OWASP's second choice for argon2id: m=19 MiB, t=2, p=1; about 19 ms a hash.
_ARGON2 = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
_LONGEST_QUEUE_A_THREAD = 50  # about a second's worth

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class Hasher:
    """Hashes and verifies in `threads` threads behind a bounded queue."""

    def __init__(self, *, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._most = threads * _LONGEST_QUEUE_A_THREAD
        self._waiting = 0
        # Verified against when there is no such user, so that an unknown name takes as long as a wrong password.
        self._nobody = _ARGON2.hash("nobody")

    async def hash(self, password: str) -> str:
        """Return the argon2id hash of a password. Raises Unavailable when too many wait."""
        return await self._run(_ARGON2.hash, password)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Return whether the password is the hashed one; None takes as long and is False. Raises Unavailable."""
        matches = await self._run(_matches, self._nobody if password_hash is None else password_hash, password)
        return matches and password_hash is not None

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[*Ts], R], *args: *Ts) -> R:
        if self._waiting >= self._most:
            raise Unavailable
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)
        finally:
            self._waiting -= 1


def _matches(password_hash: str, password: str) -> bool:
    try:
        return _ARGON2.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False
