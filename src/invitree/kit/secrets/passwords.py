"""Password hashing: argon2id in threads, never on the event loop, never more at once than the machine can do.

Passwords that came with their users from Django verify in its forms: `argon2$argon2id$v=19$m=…,t=…,p=…$<salt>$<hash>`,
and those of `kit.secrets.django_hashes`.
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
_LONGEST_LINE_A_THREAD = 50  # about a second's worth of ours; of Django's pbkdf2, ten

# What an argon2 of elsewhere may cost to verify. Django 6.0 makes it with 100 MiB.
_MOST_KIB, _MOST_PASSES, _MOST_LANES = 262_144, 16, 16
_LONGEST_HASH = 512

Ts = TypeVarTuple("Ts")
R = TypeVar("R")


class Match(enum.Enum):
    """What a password is to a hash."""

    WRONG = "wrong"
    RIGHT = "right"
    RIGHT_BUT_STALE = "right_but_stale"
    """It is the one, and its hash is not as we make them: hash it anew."""


class _Job:
    """Work that waits for its turn, and what comes of it."""

    def __init__(self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.work, self.loop = work, loop
        self.result: asyncio.Future[Any] = loop.create_future()

    def settle(self, done: Future[Any]) -> None:
        """Pass the outcome on, unless nobody waits for it any more."""
        if self.result.done():
            return
        if done.cancelled():
            self.result.cancel()
        elif error := done.exception():
            self.result.set_exception(error)
        else:
            self.result.set_result(done.result())


class Hasher:
    """Hashes and verifies in `threads` threads, behind a bounded line that is shared fairly.

    The line has a lane for each network, and the lanes take turns. So a network waits behind as many hashes as there
    are networks, however many requests one of them has sent. When the line is full, the newest request of the longest
    lane is refused.
    """

    def __init__(self, *, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._most = threads * _LONGEST_LINE_A_THREAD
        self._free = threads
        self._waiting = 0
        self._lanes: OrderedDict[str, deque[_Job]] = OrderedDict()  # none is empty; the first is next
        # Verified against when there is nothing of ours to verify, so that every failure costs one argon2.
        self._nobody = _ARGON2.hash("nobody")

    @property
    def most(self) -> int:
        """How many requests may wait at once."""
        return self._most

    async def hash(self, password: str, *, lane: str = "") -> str:
        """Return the argon2id hash of a password. Raises Unavailable when too many wait."""
        return await self._run(lane, _ARGON2.hash, password)

    async def check(
        self, password_hash: str | None, password: str, *, decoys: Sequence[str] = (), lane: str = ""
    ) -> Match:
        """Return what the password is to the hash; None and what cannot be verified are WRONG. Raises Unavailable.

        WRONG takes the same time for everybody among whom the `decoys` stand: a hash of theirs of each scheme of
        `kit.secrets.django_hashes` that they have. So the time does not tell who exists, nor who came with a hash from
        there.
        """
        return await self._run(lane, _check, password_hash or "", password, decoys, self._nobody)

    def close(self) -> None:
        """End the threads, and what waits for them."""
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
        """Refuse the newest of the longest lane if the line is full. Raises Unavailable where that is this lane."""
        if self._waiting < self._most:
            return
        longest = max(self._lanes, key=lambda name: len(self._lanes[name]))
        if len(self._lanes[longest]) < len(self._lanes.get(lane, ())) + 2:  # else the two would only change places
            raise Unavailable
        refused = self._lanes[longest][-1]
        self._leave(longest, refused)
        if not refused.result.done():
            refused.result.set_exception(Unavailable())

    def _leave(self, lane: str, job: _Job) -> None:
        with suppress(KeyError, ValueError):  # it is being done, or was
            self._lanes[lane].remove(job)
            self._waiting -= 1
            if not self._lanes[lane]:
                del self._lanes[lane]

    def _start(self, job: _Job) -> None:
        def end(done: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop is closed: the process ends
                job.loop.call_soon_threadsafe(self._end, job, done)

        self._free -= 1
        # The thread is free when the work is done, also where the client has hung up before.
        self._pool.submit(job.work).add_done_callback(end)

    def _end(self, job: _Job, done: Future[Any]) -> None:
        self._free += 1
        job.settle(done)
        while self._free > 0 and self._lanes:
            lane, jobs = self._lanes.popitem(last=False)
            self._waiting -= 1
            following = jobs.popleft()
            if jobs:
                self._lanes[lane] = jobs  # behind the others
            if not following.result.done():
                self._start(following)


def is_verifiable(password_hash: str) -> bool:
    """Return whether some password may match the hash: its form is known and it does not cost too much."""
    return read_django_hash(password_hash) is not None or _read_argon2(password_hash) is not None


def _check(password_hash: str, password: str, decoys: Sequence[str], nobody: str) -> Match:
    secret = password.encode("utf-8", "surrogatepass")
    theirs, phc = read_django_hash(password_hash), _read_argon2(password_hash)
    if theirs and theirs.matches(secret):
        return Match.RIGHT_BUT_STALE
    # One of Django's goes by another name, so it is stale whatever its parameters.
    is_ours = phc is not None and phc == password_hash and not _ARGON2.check_needs_rehash(phc)
    try:
        if phc and _ARGON2.verify(phc, secret):
            return Match.RIGHT if is_ours else Match.RIGHT_BUT_STALE
        has_cost = False
    except VerifyMismatchError:
        has_cost = is_ours
    except (VerificationError, ValueError):
        has_cost = False  # it looked like a hash and is none
    # What is still missing of what every failure costs: one argon2, and one of each of Django's.
    if not has_cost:
        with suppress(VerifyMismatchError):
            _ARGON2.verify(nobody, secret)
    for decoy in filter(None, map(read_django_hash, decoys)):
        decoy.waste(secret, after=theirs)
    return Match.WRONG


def _read_argon2(password_hash: str) -> str | None:
    """Return a hash as argon2 itself writes it (the PHC string format), or None where it is not one that we verify."""
    phc = password_hash.removeprefix("argon2") if password_hash.startswith("argon2$") else password_hash
    try:
        parameters = extract_parameters(phc) if len(phc) <= _LONGEST_HASH and phc.isascii() else None
    except ValueError:
        return None
    bearable = (
        parameters is not None
        and parameters.memory_cost <= _MOST_KIB
        and parameters.time_cost <= _MOST_PASSES
        and parameters.parallelism <= _MOST_LANES
    )
    return phc if bearable else None
