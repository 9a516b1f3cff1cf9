"""The outermost middleware: request ids, metrics, default headers, CORS, and load shedding.

Plain ASGI around the framework, so that it costs microseconds and covers every response.
"""

import random
import re
import time
from collections.abc import Callable, Collection
from functools import cache
from typing import Any

import structlog
from litestar.types import ASGIApp, Receive, Scope, Send
from prometheus_client import Histogram

from invitree.base.problems import Unavailable
from invitree.kit.process.log import trace_id
from invitree.kit.web.cors import add_cors_headers, answer_preflight, is_preflight
from invitree.kit.web.responses import render_problem

_SECONDS = Histogram(
    "invitree_request_seconds",
    "Time from a request's head to its answer's end.",
    ["method", "route", "status"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_DEFAULTS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_DEFAULT_NAMES = frozenset(name for name, _ in _DEFAULTS)
_NEVER_SHED = frozenset({"/healthz", "/readyz", "/metrics"})  # never shed: for the operator
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_log = structlog.get_logger()


class Edge:
    """ASGI middleware; `access_log` adds a log line for each request.

    `is_full` is given the number of requests in progress; if it returns true, new ones get a 503 at once, which keeps
    the others fast. `origins` returns the origins allowed by CORS.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access_log: bool,
        is_full: Callable[[int], bool] = lambda _in_progress: False,
        origins: Callable[[], Collection[bytes]] = tuple,
    ) -> None:
        self._app = app
        self._access_log = access_log
        self._is_full = is_full
        self._origins = origins
        self._in_progress = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if str(scope["type"]) != "http":
            await self._app(scope, receive, send)
            return
        request: Any = scope
        request["trace_id"] = trace = _trace_id(request["headers"])
        trace_id.set(trace)
        method = request["method"] if request["method"] in _METHODS else "other"
        if method == "HEAD":
            request["method"] = "GET"  # the server then sends only the head of the response (RFC 9110, 9.3.2)
        origins = self._origins()
        status = 500
        started = time.perf_counter()

        async def send_with_headers(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                ratelimit = request.get("ratelimit", ())
                headers = [*message["headers"], *_headers(message["headers"], trace), *ratelimit]
                message["headers"] = add_cors_headers(headers, request, origins) if origins else headers
            await send(message)

        async def receive_uncounted() -> Any:
            self._in_progress -= 1  # a slow client does not count as load
            try:
                return await receive()
            finally:
                self._in_progress += 1

        is_overloaded = self._is_full(self._in_progress) and request["path"].rstrip("/") not in _NEVER_SHED
        self._in_progress += 1
        try:
            if origins and is_preflight(request):
                await answer_preflight(scope, receive, send_with_headers)
            else:
                await (_refuse if is_overloaded else self._app)(scope, receive_uncounted, send_with_headers)
        finally:
            self._in_progress -= 1
            seconds = time.perf_counter() - started
            route = request.get("path_template") or "none"
            _histogram(method, route, status).observe(seconds)
            if self._access_log:
                # The route instead of the path, which may contain an e-mail address.
                _log.info("request", method=method, route=route, status=status, ms=round(seconds * 1e3, 2))


async def _refuse(scope: Scope, _receive: Receive, send: Send) -> None:
    """Send a 503 as cheaply as possible, without logging it: there may be thousands per second."""
    fields, body = render_problem(Unavailable(), scope)
    fields["Content-Length"] = str(len(body))
    headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    start: Any = {"type": "http.response.start", "status": Unavailable.status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})


@cache
def _histogram(method: str, route: str, status: int) -> Any:
    return _SECONDS.labels(method, route, status)


def _trace_id(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode()
    return f"{random.getrandbits(64):016x}"  # an id, not a secret


def _headers(present: list[tuple[bytes, bytes]], trace: str) -> list[tuple[bytes, bytes]]:
    added = [(b"x-request-id", trace.encode()), *_DEFAULTS]
    for name, _ in present:
        if name in _DEFAULT_NAMES:
            added = [one for one in added if one[0] != name]
    return added
