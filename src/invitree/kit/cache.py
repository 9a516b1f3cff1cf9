"""A cache that never shows what is gone: bounded, per process, told of changes by the database."""

from collections import OrderedDict
from collections.abc import Hashable
from datetime import datetime
from typing import Generic, NewType, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Ticket = NewType("Ticket", int)
_STRIPES = 1024


class Cache(Generic[K, V]):
    """Values under keys until they expire, are invalidated, or `most` newer ones push them out.

    Closed (empty, refusing to be filled) until `open` is called, and again whenever news of changes may be missed.
    """

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[K, tuple[V, datetime | None]] = OrderedDict()
        # How often keys of a stripe were invalidated: what a slow reader compares.
        self._changes = [0] * _STRIPES
        self._open = False

    def get(self, key: K, *, now: datetime) -> V | None:
        """Return the value under `key` if it is there and alive at `now`."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, expires_at = entry
        if expires_at is not None and expires_at <= now:
            del self._entries[key]
            return None
        return value

    def ticket(self, key: K) -> Ticket:
        """Return what `fill` needs; take it before reading the database."""
        return Ticket(self._changes[hash(key) % _STRIPES])

    def fill(self, key: K, value: V, *, ticket: Ticket, expires_at: datetime | None = None) -> None:
        """Keep what a read found, unless the key was invalidated since the ticket was taken."""
        if self._open and ticket == self._changes[hash(key) % _STRIPES]:
            self._keep(key, value, expires_at)

    def change(self, key: K, value: V | None, *, expires_at: datetime | None = None) -> None:
        """Replace the value by what was committed, or drop it; reads that began before can no longer fill the key."""
        self._changes[hash(key) % _STRIPES] += 1
        if value is None or not self._open:
            self._entries.pop(key, None)
        else:
            self._keep(key, value, expires_at)

    def clear(self) -> None:
        """Forget everything; reads that began before can no longer fill."""
        self._changes = [count + 1 for count in self._changes]
        self._entries.clear()

    def open(self) -> None:
        """Begin to keep values: news of changes will arrive from here on. Reads that began before cannot fill."""
        self.clear()
        self._open = True

    def close(self) -> None:
        """Forget everything and keep nothing: news of changes may be missed."""
        self._open = False
        self._entries.clear()

    def _keep(self, key: K, value: V, expires_at: datetime | None) -> None:
        self._entries[key] = (value, expires_at)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)
