"""Password hashing: argon2id in a bounded number of threads, never on the event loop.

Hashes imported from Django are verified too: `argon2$argon2id$v=19$m=…,t=…,p=…$<salt>$<hash>`, and the formats of
`kit.secrets.django_hashes`.
"""

import asyncio
import enum
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, TypeVar, TypeVarTuple

from argon2 import PasswordHasher, extract_parameters
from argon2.exceptions import VerificationError, VerifyMismatchError

from invitree.base.problems import Unavailable
from invitree.kit.secrets.django_hashes import read_django_hash

# OWASP's second choice for argon2id: m=19 MiB, t=2, p=1; about 19 ms a hash.
_ARGON2 = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
_QUEUE_PER_THREAD = 50  # about a second of our hashes, ten of Django's pbkdf2

# Limits on the cost of verifying a foreign argon2 hash. Django 6.0 uses 100 MiB.
_MAX_KIB, _MAX_PASSES, _MAX_LANES = 262_144, 16, 16
_MAX_LENGTH = 512

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class Match(enum.Enum):
    """The result of checking a password against a hash."""

    WRONG = "wrong"
    RIGHT = "right"
    RIGHT_BUT_STALE = "right_but_stale"
    """The password is right, but the hash has outdated parameters: hash it again."""


class _Job:
    """A queued hash computation and the future for its result."""

    def __init__(self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.work, self.loop = work, loop
        self.result: asyncio.Future[Any] = loop.create_future()

    def settle(self, done: Future[Any]) -> None:
        """Set the result, unless the waiter is gone."""
        if self.result.done():
            return
        if done.cancelled():
            self.result.cancel()
        elif error := done.exception():
            self.result.set_exception(error)
        else:
            self.result.set_result(done.result())


class Hasher:
    """Hashes and verifies passwords in `threads` threads, with a bounded, fair queue.

    The queue has one lane for each network and serves the lanes in turn, so a network waits for one hash of every other
    network, however many requests those have sent. When the queue is full, the newest request of the longest lane is
    rejected.
    """

    def __init__(self, *, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._capacity = threads * _QUEUE_PER_THREAD
        self._free = threads
        self._waiting = 0
        self._lanes: OrderedDict[str, deque[_Job]] = OrderedDict()  # never empty ones; the first is served next
        # Checked when there is no hash of ours to check, so that every failure costs one argon2.
        self._dummy_hash = _ARGON2.hash("nobody")

    @property
    def capacity(self) -> int:
        """The capacity of the queue."""
        return self._capacity

    async def hash(self, password: str, *, lane: str = "") -> str:
        """Return the argon2id hash of a password. Raises Unavailable if the queue is full."""
        return await self._run(lane, _ARGON2.hash, password)

    async def check(
        self, password_hash: str | None, password: str, *, decoys: Sequence[str] = (), lane: str = ""
    ) -> Match:
        """Check a password against a hash. A missing or invalid hash is WRONG. Raises Unavailable if the queue is full.

        WRONG always takes the same time, so that it reveals neither who exists nor who has a hash from Django. For
        this, `decoys` must have one hash of each Django scheme that any user of the program has.
        """
        return await self._run(lane, _check, password_hash or "", password, decoys, self._dummy_hash)

    def close(self) -> None:
        """Stop the threads and cancel queued work."""
        for job in chain.from_iterable(self._lanes.values()):
            job.result.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, lane: str, work: Callable[[*Ts], R], *args: *Ts) -> R:
        job = _Job(partial(work, *args), asyncio.get_running_loop())
        if self._free > 0:
            self._start(job)
        else:
            self._make_room(lane)
            self._lanes.setdefault(lane, deque()).append(job)
            self._waiting += 1
        try:
            result: R = await job.result
        except asyncio.CancelledError:
            self._leave(lane, job)
            raise
        return result

    def _make_room(self, lane: str) -> None:
        """Reject the newest request of the longest lane if the queue is full. Raises Unavailable if it is this lane."""
        if self._waiting < self._capacity:
            return
        longest = max(self._lanes, key=lambda name: len(self._lanes[name]))
        if len(self._lanes[longest]) < len(self._lanes.get(lane, ())) + 2:  # otherwise they would only swap places
            raise Unavailable
        refused = self._lanes[longest][-1]
        self._leave(longest, refused)
        if not refused.result.done():
            refused.result.set_exception(Unavailable())

    def _leave(self, lane: str, job: _Job) -> None:
        with suppress(KeyError, ValueError):  # already running or done
            self._lanes[lane].remove(job)
            self._waiting -= 1
            if not self._lanes[lane]:
                del self._lanes[lane]

    def _start(self, job: _Job) -> None:
        def end(done: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop is closed at exit
                job.loop.call_soon_threadsafe(self._end, job, done)

        self._free -= 1
        # The thread becomes free when the work is done, even if the client disconnected earlier.
        self._pool.submit(job.work).add_done_callback(end)

    def _end(self, job: _Job, done: Future[Any]) -> None:
        self._free += 1
        job.settle(done)
        while self._free > 0 and self._lanes:
            lane, jobs = self._lanes.popitem(last=False)
            self._waiting -= 1
            following = jobs.popleft()
            if jobs:
                self._lanes[lane] = jobs  # to the end of the rotation
            if not following.result.done():
                self._start(following)


def is_verifiable(password_hash: str) -> bool:
    """Return whether a hash can be verified: its format is known and its cost is acceptable."""
    return read_django_hash(password_hash) is not None or _read_argon2(password_hash) is not None


def _check(password_hash: str, password: str, decoys: Sequence[str], dummy_hash: str) -> Match:
    secret = password.encode("utf-8", "surrogatepass")
    theirs, phc = read_django_hash(password_hash), _read_argon2(password_hash)
    if theirs and theirs.matches(secret):
        return Match.RIGHT_BUT_STALE
    # Django's format has a prefix, so such a hash is stale whatever its parameters.
    is_ours = phc is not None and phc == password_hash and not _ARGON2.check_needs_rehash(phc)
    try:
        if phc and _ARGON2.verify(phc, secret):
            return Match.RIGHT if is_ours else Match.RIGHT_BUT_STALE
        is_computed = False
    except VerifyMismatchError:
        is_computed = is_ours
    except (VerificationError, ValueError):
        is_computed = False  # malformed after all
    # Every failure costs one argon2 and one of each Django scheme: make up for what was not computed above.
    if not is_computed:
        with suppress(VerifyMismatchError):
            _ARGON2.verify(dummy_hash, secret)
    for decoy in filter(None, map(read_django_hash, decoys)):
        decoy.waste(secret, after=theirs)
    return Match.WRONG


def _read_argon2(password_hash: str) -> str | None:
    """Return an argon2 hash in the PHC string format, or None if it is malformed or too expensive."""
    phc = password_hash.removeprefix("argon2") if password_hash.startswith("argon2$") else password_hash
    try:
        parameters = extract_parameters(phc) if len(phc) <= _MAX_LENGTH and phc.isascii() else None
    except ValueError:
        return None
    affordable = (
        parameters is not None
        and parameters.memory_cost <= _MAX_KIB
        and parameters.time_cost <= _MAX_PASSES
        and parameters.parallelism <= _MAX_LANES
    )
    return phc if affordable else None
