"""The application context: everything that a running process has open."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import litestar
from litestar.connection import ASGIConnection
from msgspec import Struct

from invitree.base.settings import Settings
from invitree.kit.clock import Clock
from invitree.kit.data.cache import Cache
from invitree.kit.data.db import Database, Transaction
from invitree.kit.limits.local_rate_limiter import LocalRateLimiter
from invitree.kit.limits.rate_limiter import RateLimiter
from invitree.kit.secrets.keys import Keyring
from invitree.kit.secrets.passwords import Hasher
from invitree.kit.web.cors import Origins


class Erased(Struct, frozen=True, kw_only=True):
    """Whose account, locked in this transaction, is deleted by the audit event with the id `at`."""

    program_id: int
    user_id: int
    email_key: str
    at: int


Erase = Callable[[Transaction, Erased], Awaitable[None]]
"""Deletes what a room knows of a user whose account is deleted."""

Request = litestar.Request[Any, Any, Any]


class AppContext(Struct, frozen=True, kw_only=True):
    """A process's settings and open resources. `app.py` creates it at startup; tests create their own."""

    settings: Settings
    db: Database
    clock: Clock
    keys: Keyring
    hasher: Hasher
    throttle: RateLimiter
    tally: LocalRateLimiter
    caches: dict[str, Cache[Any, Any]]
    origins: Origins
    erasures: Sequence[Erase]


def app_context(connection: ASGIConnection[Any, Any, Any, Any]) -> AppContext:
    """Return the context of the process."""
    opened: AppContext = connection.app.state["context"]
    return opened
