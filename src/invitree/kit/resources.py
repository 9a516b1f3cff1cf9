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
from invitree.kit.tally import Tally
from invitree.kit.throttle import Throttle


class Resources(Struct, frozen=True, kw_only=True):
    """Opened by `app.py` when a process starts; tests open their own."""

    settings: Settings
    db: Database
    clock: Clock
    keys: Keyring
    hasher: Hasher
    throttle: Throttle
    tally: Tally
    caches: dict[str, Cache[Any, Any]]
    origins: Origins


def resources(connection: ASGIConnection[Any, Any, Any, Any]) -> Resources:
    """Return what the process that serves this connection has open; or, of a request that is done once, its own."""
    scope: Any = connection.scope
    opened: Resources = scope.get("resources") or connection.app.state["resources"]
    return opened
