"""What a running process has open, in one frozen object."""

from typing import Any

from litestar.connection import ASGIConnection
from msgspec import Struct

from invitree.base.settings import Settings
from invitree.kit.cache import Cache
from invitree.kit.clock import Clock
from invitree.kit.cors import Origins
from invitree.kit.db import Database
from invitree.kit.keys import Keyring
from invitree.kit.passwords import Hasher
from invitree.kit.tally import LocalRateLimiter
from invitree.kit.throttle import RateLimiter


class AppContext(Struct, frozen=True, kw_only=True):
    """Opened by `app.py` when a process starts; tests open their own."""

    settings: Settings
    db: Database
    clock: Clock
    keys: Keyring
    hasher: Hasher
    throttle: RateLimiter
    tally: LocalRateLimiter
    caches: dict[str, Cache[Any, Any]]
    origins: Origins


def app_context(connection: ASGIConnection[Any, Any, Any, Any]) -> AppContext:
    """Return what the process that serves this connection has open; or, of a request that is done once, its own."""
    scope: Any = connection.scope
    opened: AppContext = scope.get("context") or connection.app.state["context"]
    return opened
