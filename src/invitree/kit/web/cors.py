"""CORS (Fetch standard): which origins' pages may read responses.

CORS protects browsers, not the service: access is decided by tokens, which a page must hold and send itself. Allowed
origins can therefore be cached in memory, as one set for all programs.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from litestar.types import Receive, Scope, Send

from invitree.kit.process.retries import RetryLog

_FIRST_DELAY_S, _MAX_DELAY_S = 0.25, 1.0  # between attempts to read them
_METHODS = "DELETE, GET, HEAD, PATCH, POST, PUT"
_REQUEST_HEADERS = (
    "Accept, Accept-Language, Authorization, Content-Type, Idempotency-Key, If-None-Match, X-CSRFToken, X-Program, "
    "X-Request-Id, X-Requested-With"
)
_RESPONSE_HEADERS = (
    "Allow, Content-Language, ETag, Link, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id"
)
_MAX_AGE_S = 7_200  # the longest that any browser honors
_PREFLIGHT = (
    (b"access-control-allow-methods", _METHODS.encode()),
    (b"access-control-allow-headers", _REQUEST_HEADERS.encode()),
    (b"access-control-max-age", str(_MAX_AGE_S).encode()),
)

Headers = list[tuple[bytes, bytes]]


class Origins:
    """The allowed origins: those `given` by the settings, and those that `read` loads.

    Reloaded after each `schedule_reload`. While that fails, the last known ones stay allowed.
    """

    def __init__(self, given: Iterable[str], *, read: Callable[[], Awaitable[Iterable[str]]]) -> None:
        self._given, self._read = tuple(given), read
        self.known = _encoded(self._given)
        self._is_stale = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._retries = RetryLog("origins.not_read", first_s=_FIRST_DELAY_S, longest_s=_MAX_DELAY_S)

    async def start(self) -> None:
        """Load the origins if a reload is due, and start reloading in the background."""
        if self._is_stale.is_set():
            await self._reload()
        self._task = asyncio.create_task(self._reload_when_stale())

    async def stop(self) -> None:
        """Stop reloading."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def schedule_reload(self) -> None:
        """Schedule a reload: some may have changed."""
        self._is_stale.set()

    async def _reload_when_stale(self) -> None:
        while True:
            await self._is_stale.wait()
            await self._reload()

    async def _reload(self) -> None:
        self._is_stale.clear()
        try:
            self.known = _encoded([*self._given, *await self._read()])
        except Exception as error:
            await asyncio.sleep(self._retries.failed(f"{type(error).__name__}: {error}"))
            self._is_stale.set()
        else:
            self._retries.succeeded()


def _encoded(origins: Iterable[str]) -> frozenset[bytes]:
    return frozenset(origin.encode() for origin in origins)


def is_preflight(scope: Any) -> bool:
    """Return whether a request is a CORS preflight."""
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names


async def answer_preflight(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer a preflight request with an empty 204. `add_cors_headers` adds the CORS headers."""
    start: Any = {"type": "http.response.start", "status": 204, "headers": []}
    await send(start)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def add_cors_headers(headers: Headers, scope: Any, allowed: Collection[bytes]) -> Headers:
    """Add the CORS headers to a response's headers, if the request's origin is allowed."""
    varies = b", ".join([*(value for name, value in headers if name == b"vary"), b"Origin"])
    added = [*(one for one in headers if one[0] != b"vary"), (b"vary", varies)]
    origins = [value for name, value in scope["headers"] if name == b"origin"]
    if len(origins) != 1 or origins[0] not in allowed:
        return added
    added += [(b"access-control-allow-origin", origins[0]), (b"access-control-allow-credentials", b"true")]
    if is_preflight(scope):
        return [*added, *_PREFLIGHT]
    return [*added, (b"access-control-expose-headers", _RESPONSE_HEADERS.encode())]
