"""A cache that never shows what is gone: bounded, per process, told of changes by the database."""

import math
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, NewType, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Ticket = NewType("Ticket", int)
_Entry = tuple[V, float, Ticket, int]
"""A value, when it dies, the change it was read after, and the stripe of what it depends on."""
_STRIPES = 1024
_FOR_GOOD = Ticket(2**63)  # of what a change finds by its key: others in the stripe are not its business


class Cache(Generic[K, V]):
    """Values under keys until they expire, are invalidated, or `most` newer ones push them out.

    A value depends on its key, or on an `owner` that it names: whatever changes that invalidates all that depends on
    it. Closed (empty, refusing to be filled) until `open` is called, and again whenever news of changes may be missed.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, _Entry[V]] = OrderedDict()
        self._changes = 0
        # Which change was the last of an owner, or of another one in its stripe: nothing older is good any more.
        self._last = [0] * _STRIPES
        self._turns = [0] * _STRIPES
        self._open = False
        self._good_until = math.inf

    def __len__(self) -> int:
        """Return how many values are kept, dead ones included."""
        return len(self._entries)

    def get(self, key: K, *, now: float) -> V | None:
        """Return the value under `key` if it is there and alive at `now`, in seconds since 1970."""
        entry = self._entries.get(key)
        if entry is None or self._good_until <= now:
            return None
        value, expires_at, ticket, stripe = entry
        if expires_at <= now or self._last[stripe] > ticket:
            del self._entries[key]
            return None
        return value

    def ticket(self) -> Ticket:
        """Return what `fill` needs; take it before reading the database."""
        return Ticket(self._changes)

    def fill(
        self, key: K, value: V, *, ticket: Ticket, expires_at: float = math.inf, owner: Hashable | None = None
    ) -> None:
        """Keep what a read found, unless what it depends on was changed since the ticket was taken."""
        stripe = hash(key if owner is None else owner) % _STRIPES
        if self._open and self._last[stripe] <= ticket:
            self._entries[key] = (value, expires_at, _FOR_GOOD if owner is None else ticket, stripe)
            self._entries.move_to_end(key)
            if len(self._entries) > self._most:
                self._entries.popitem(last=False)

    def change(self, owner: Hashable, *, at: int = 0) -> None:
        """Invalidate a key, or all that depends on an owner; reads that began before can no longer fill.

        `at` numbers the changes of a key as they were committed, where they can be heard of in another order.
        """
        stripe = hash(owner) % _STRIPES
        self._changes += 1
        self._last[stripe] = self._changes
        self._turns[stripe] = max(self._turns[stripe], at)
        self._entries.pop(owner, None)  # type: ignore[arg-type]

    def replace(self, key: K, value: V, *, expires_at: float = math.inf, at: float = math.inf) -> None:
        """Put what was committed in the place of a value that depends on its key, unless a later change is known."""
        self.change(key)
        if at >= self._turns[hash(key) % _STRIPES]:
            self.fill(key, value, ticket=self.ticket(), expires_at=expires_at)

    def trust(self, *, until: float) -> None:
        """Show nothing from then on, in seconds since 1970: changes may have been made that are not heard of yet.

        A process that was held up answers those who ask before it hears.
        """
        self._good_until = until

    def clear(self) -> None:
        """Forget everything; reads that began before can no longer fill."""
        self._changes += 1
        self._last = [self._changes] * _STRIPES
        self._entries.clear()

    def open(self) -> None:
        """Begin to keep values: news of changes will arrive from here on. Reads that began before cannot fill."""
        self.clear()
        self._turns = [0] * _STRIPES
        self._open = True

    def close(self) -> None:
        """Forget everything and keep nothing: news of changes may be missed."""
        self._open = False
        self._entries.clear()
