"""A bounded per-process cache that never returns stale values: database notifications invalidate its entries."""

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NewType, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Ticket = NewType("Ticket", int)
_Entry = tuple[V, float, Ticket, int]
"""A value, when it expires, the last change before it was read, and the stripe of its owner."""
_STRIPES = 1024
_NEVER_STALE = Ticket(
    2**63
)  # for entries that a change removes by key: other changes in the stripe do not concern them


class Cache(Generic[K, V]):
    """An LRU cache: at most `max_size` values, kept until they expire, are invalidated, or are evicted.

    A value depends on its key, or on an `owner` given when it is filled; a change of that owner invalidates every value
    that depends on it. The cache is closed (empty, and not to be filled) until `open` is called, and closed again
    whenever notifications may be missed.
    """

    def __init__(self, *, max_size: int) -> None:
        self._max_size = max_size
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._changes = 0
        # The last change of any owner in each stripe: values read before it are stale.
        self._last = [0] * _STRIPES
        self._last_at = [0] * _STRIPES
        self._open = False
        self._good_until = math.inf

    def __len__(self) -> int:
        """Return the number of entries, including expired ones."""
        return len(self._entries)

    def get(self, key: K, *, now: float) -> V | None:
        """Return the value under `key` unless it is missing or has expired at `now` (Unix timestamp, seconds)."""
        entry = self._entries.get(key)
        if entry is None or self._good_until <= now:
            return None
        value, expires_at, ticket, stripe = entry
        if expires_at <= now or self._last[stripe] > ticket:
            del self._entries[key]
            return None
        return value

    def ticket(self) -> Ticket:
        """Return a ticket for `fill`. Take it before reading the database."""
        return Ticket(self._changes)

    def fill(
        self, key: K, value: V, *, ticket: Ticket, expires_at: float = math.inf, owner: Hashable | None = None
    ) -> None:
        """Store the value just read, unless its owner has changed since the ticket was taken."""
        stripe = hash(key if owner is None else owner) % _STRIPES
        if self._open and self._last[stripe] <= ticket:
            self._entries[key] = (value, expires_at, _NEVER_STALE if owner is None else ticket, stripe)
            self._entries.move_to_end(key)
            if len(self._entries) > self._max_size:
                self._entries.popitem(last=False)

    def change(self, owner: Hashable, *, at: int = 0) -> None:
        """Invalidate a key, or all values of an owner; reads that began earlier can no longer fill.

        `at` numbers the changes of a key in commit order, in case their notifications arrive in another order.
        """
        stripe = hash(owner) % _STRIPES
        self._changes += 1
        self._last[stripe] = self._changes
        self._last_at[stripe] = max(self._last_at[stripe], at)
        self._entries.pop(owner, None)  # type: ignore[arg-type]

    def replace(self, key: K, value: V, *, expires_at: float = math.inf, at: float = math.inf) -> None:
        """Store a committed value under its key, unless a later change is known."""
        self.change(key)
        if at >= self._last_at[hash(key) % _STRIPES]:
            self.fill(key, value, ticket=self.ticket(), expires_at=expires_at)

    def trust(self, *, until: float) -> None:
        """Return no values after `until` (Unix timestamp, seconds): notifications may not have been processed yet.

        A process that was suspended may serve requests before it reads its notifications.
        """
        self._good_until = until

    def clear(self) -> None:
        """Delete all entries; reads that began earlier can no longer fill."""
        self._changes += 1
        self._last = [self._changes] * _STRIPES
        self._entries.clear()

    def open(self) -> None:
        """Start caching: notifications arrive from now on. Reads that began earlier cannot fill."""
        self.clear()
        self._last_at = [0] * _STRIPES
        self._open = True

    def close(self) -> None:
        """Delete all entries and stop caching: notifications may be missed."""
        self._open = False
        self._entries.clear()
