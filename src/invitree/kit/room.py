"""What a room brings to the house. `rooms.py` has the list of rooms, and nothing else names them all."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from invitree.base.settings import Settings
from invitree.kit.context import AppContext, Erase
from invitree.kit.data.db import Queryable
from invitree.kit.data.invariants import Invariant

OnNotification = Callable[[AppContext, bytes], None]
"""Takes the payload of a notification."""
PeriodicTask = Callable[[AppContext], Awaitable[None]]


class Purge(Protocol):
    """Deletes at most `most` expired rows of a program; returns whether there may be more."""

    async def __call__(self, db: Queryable, *, program_id: int, most: int) -> bool: ...


class Room(Struct, frozen=True, kw_only=True):
    """Everything that the app, the worker and `invitree verify` need of a room."""

    prefix: str = "/"
    """The path below which its routes are."""
    routes: Sequence[Any] = ()
    caches: Mapping[str, Callable[[Settings], int]] = {}
    """By the name in `AppContext.caches`: how many entries at most."""
    invalidators: Mapping[str, OnNotification] = {}
    """By topic: what this process does about its own notification as soon as it is committed."""
    handlers: Mapping[str, OnNotification] = {}
    """By topic: what it does when the notification arrives, where that is not the same."""
    purges: Sequence[Purge] = ()
    """What the worker deletes of a program, when it has expired."""
    erase: Erase | None = None
    periodic: Sequence[tuple[float, PeriodicTask]] = ()
    """How often, in seconds, and what the worker does then."""
    jobs: str = ""
    """The module with its JOBS, by name, which the worker alone imports."""
    invariants: Sequence[Invariant] = ()
    references: Sequence[str] = ()
    """Queries for rows that point at nothing, or into another program, as (of, program_id, id)."""
