"""The application context: everything that a running process has open."""

from typing import Any

from litestar.connection import ASGIConnection
from msgspec import Struct

from invitree.base.settings import Settings
from invitree.kit.clock import Clock
from invitree.kit.data.cache import Cache
from invitree.kit.data.db import Database
from invitree.kit.limits.local_rate_limiter import LocalRateLimiter
from invitree.kit.limits.rate_limiter import RateLimiter
from invitree.kit.secrets.keys import Keyring
from invitree.kit.secrets.passwords import Hasher
from invitree.kit.web.cors import Origins


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


def app_context(connection: ASGIConnection[Any, Any, Any, Any]) -> AppContext:
    """Return the context of the process; a request with an Idempotency-Key has a context of its own."""
    scope: Any = connection.scope
    opened: AppContext = scope.get("context") or connection.app.state["context"]
    return opened
