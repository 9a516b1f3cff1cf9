"""Pages of other origins: which of them may read the answers (CORS, as the Fetch standard has it).

This guards visitors' browsers, not the service: who may do what is decided by tokens, which a page has to hold and to
send itself. So which origins are allowed is kept in memory, and one set is asked for every program.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from litestar.types import Receive, Scope, Send

from invitree.kit.process.retries import Trouble

_FIRST_REST_S, _LONGEST_REST_S = 0.25, 1.0  # until they are read again
_METHODS = "DELETE, GET, HEAD, PATCH, POST, PUT"
_REQUEST_HEADERS = (
    "Accept, Accept-Language, Authorization, Content-Type, Idempotency-Key, If-None-Match, X-CSRFToken, X-Program, "
    "X-Request-Id, X-Requested-With"
)
_RESPONSE_HEADERS = (
    "Allow, Content-Language, ETag, Link, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id"
)
_LASTS_S = 7_200  # as long as any browser believes it
_PREFLIGHT = (
    (b"access-control-allow-methods", _METHODS.encode()),
    (b"access-control-allow-headers", _REQUEST_HEADERS.encode()),
    (b"access-control-max-age", str(_LASTS_S).encode()),
)

Headers = list[tuple[bytes, bytes]]


class Origins:
    """The allowed origins in the memory of a process: those that are `given`, and those that `read` finds.

    Read anew after each `look_again`. While that fails, those known last stay allowed.
    """

    def __init__(self, given: Iterable[str], *, read: Callable[[], Awaitable[Iterable[str]]]) -> None:
        self._given, self._read = tuple(given), read
        self.known = _encoded(self._given)
        self._is_stale = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._trouble = Trouble("origins.not_read", first_s=_FIRST_REST_S, longest_s=_LONGEST_REST_S)

    async def start(self) -> None:
        """Read them, if there is a database to hear of changes from, and begin to follow those."""
        if self._is_stale.is_set():
            await self._look()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Follow no more."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def look_again(self) -> None:
        """Read them anew soon: some may have changed."""
        self._is_stale.set()

    async def _follow(self) -> None:
        while True:
            await self._is_stale.wait()
            await self._look()

    async def _look(self) -> None:
        self._is_stale.clear()
        try:
            self.known = _encoded([*self._given, *await self._read()])
        except Exception as error:
            await asyncio.sleep(self._trouble.failed(f"{type(error).__name__}: {error}"))
            self._is_stale.set()
        else:
            self._trouble.over()


def _encoded(origins: Iterable[str]) -> frozenset[bytes]:
    return frozenset(origin.encode() for origin in origins)


def is_preflight(scope: Any) -> bool:
    """Return whether a browser asks beforehand, for a page of another origin."""
    if scope["method"] != "OPTIONS":
        return False
    names = {name for name, _ in scope["headers"]}
    return b"origin" in names and b"access-control-request-method" in names


async def answer_preflight(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer a preflight request without looking at what it is for. `readable` adds what the page may do."""
    start: Any = {"type": "http.response.start", "status": 204, "headers": []}
    await send(start)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def readable(headers: Headers, scope: Any, allowed: Collection[bytes]) -> Headers:
    """Return an answer's headers with those that let a page of an allowed origin read it, and no other page."""
    varies = b", ".join([*(value for name, value in headers if name == b"vary"), b"Origin"])
    told = [*(one for one in headers if one[0] != b"vary"), (b"vary", varies)]
    asking = [value for name, value in scope["headers"] if name == b"origin"]
    if len(asking) != 1 or asking[0] not in allowed:
        return told
    told += [(b"access-control-allow-origin", asking[0]), (b"access-control-allow-credentials", b"true")]
    if is_preflight(scope):
        return [*told, *_PREFLIGHT]
    return [*told, (b"access-control-expose-headers", _RESPONSE_HEADERS.encode())]
