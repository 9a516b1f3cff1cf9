"""A short way to what is asked most, past the framework.

What is in memory is answered at once. For the rest the route's own guard and function are called, as the framework
would call them: that takes it longer than the database needs for its answer. Whatever is out of the ordinary is
passed on, and an answer is to the byte the one that the framework gives.
"""

import re
from collections.abc import Callable
from typing import Any

from litestar import Litestar, Request, Response
from litestar.handlers import HTTPRouteHandler
from litestar.types import Receive, Scope, Send
from msgspec import Struct
from msgspec.json import encode

from invitree.base.problems import TooManyRequests
from invitree.identity.auth.actions import cached_caller
from invitree.identity.auth.store import Caller
from invitree.identity.programs.actions import cached_program
from invitree.identity.programs.rules import host_of
from invitree.identity.users.api import get_me, me_at_once
from invitree.kit.context import AppContext
from invitree.kit.web.responses import problem_response
from invitree.sharing.codes.api import check_code, check_code_at_once, code_by_email, code_by_email_at_once
from invitree.sharing.referrals.api import list_referrals

_HOST = re.compile(r"[a-z0-9.-]*(?::[0-9]{1,5})?")
_ID = re.compile(r"[1-9][0-9]{0,14}")
_PAGE = re.compile(r"(?:limit=(?P<limit>[1-9][0-9]?|100))?(?:(?:^|&)after=(?P<after>[1-9][0-9]{0,14}))?")

AtOnce = Callable[[AppContext, Any, Caller | None, str, str], bytes | None]
"""Answers an ASGI request from memory, of whoever asks and this host, for what the path names; None where it cannot."""


class FastRoute(Struct, frozen=True, kw_only=True):
    """A short way to a route. `arguments` are what the framework would take from the path's end and the query."""

    route: str
    handler: HTTPRouteHandler
    arguments: Callable[[str, str], dict[str, Any] | None]
    at_once: AtOnce = lambda *_: None

    @property
    def prefix(self) -> str:
        """What the paths begin with."""
        return self.route.partition("{")[0]


def _code_by_email(ctx: AppContext, scope: Any, caller: Caller | None, _host: str, email: str) -> bytes | None:
    program = cached_program(ctx, caller.program_id) if caller else None
    return code_by_email_at_once(ctx, scope, caller, program, email) if caller and program else None


def _check_code(ctx: AppContext, scope: Any, caller: Caller | None, host: str, code: str) -> bytes | None:
    program = cached_program(ctx, caller.program_id if caller else ("host", host_of(host)))
    return check_code_at_once(ctx, scope, program, code) if program else None


def _me(_here: AppContext, _scope: Any, caller: Caller | None, _host: str, named: str) -> bytes | None:
    return me_at_once(caller) if caller and not named else None


def _page(named: str, query: str) -> dict[str, Any] | None:
    page = _PAGE.fullmatch(query)
    if page is None or not _ID.fullmatch(named):
        return None
    return {"referrer_id": int(named), **{name: int(value) for name, value in page.groupdict().items() if value}}


FAST_ROUTES = (
    FastRoute(
        route="/api/referral_codes/get/{email:path}",
        handler=code_by_email,
        arguments=lambda email, _: {"email": email} if email else None,
        at_once=_code_by_email,
    ),
    FastRoute(
        route="/api/referral_codes/check/{code:str}",
        handler=check_code,
        arguments=lambda code, _: {"code": code} if code and "/" not in code else None,
        at_once=_check_code,
    ),
    FastRoute(route="/api/users/{referrer_id:int}", handler=list_referrals, arguments=_page),
    FastRoute(route="/auth/users/me", handler=get_me, arguments=lambda named, _: None if named else {}, at_once=_me),
)


class FastPath:
    """Wraps the application."""

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self._ways = [(route.prefix, route) for route in FAST_ROUTES]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        request: Any = scope
        route = self._find(request) if request["type"] == "http" and request["method"] == "GET" else None
        headers = _headers(request) if route else None
        if route is None or headers is None:
            await self._app(scope, receive, send)
            return
        (authorization, host), named = headers, request["path"][len(route.prefix) :].rstrip("/")
        caller = cached_caller(self._app.state["context"], authorization) if authorization else None
        body = self._answer(route, request, caller, host, named) if caller or not authorization else None
        if body is not None:
            request["path_template"] = route.route
            await _send(send, body, [])
        elif (arguments := route.arguments(named, request["query_string"].decode("latin-1"))) is not None:
            await self._call_handler(route, caller, arguments, request, receive, send)
        else:
            await self._app(scope, receive, send)

    def _find(self, request: Any) -> FastRoute | None:
        path = request["path"]
        for prefix, route in self._ways:
            if path.startswith(prefix):
                return route
        return None

    def _answer(self, route: FastRoute, scope: Any, caller: Caller | None, host: str, named: str) -> bytes | None:
        try:
            return route.at_once(self._app.state["context"], scope, caller, host, named)
        except TooManyRequests:
            return None  # the route will say so

    async def _call_handler(
        self,
        route: FastRoute,
        caller: Caller | None,
        arguments: dict[str, Any],
        scope: Any,
        receive: Receive,
        send: Send,
    ) -> None:
        scope["path_template"], scope["litestar_app"], scope["user"] = route.route, self._app, caller
        request: Request[Any, Any, Any] = Request(scope, receive, send)
        try:
            if caller is None:  # else the guard would remember them too, and let them through
                for guard in route.handler.guards or ():
                    await guard(request, route.handler)  # type: ignore[misc]
            answer = await route.handler.fn(request, **arguments)
        except Exception as error:
            await problem_response(request, error).to_asgi_response(None, request)(scope, receive, send)
            return
        if isinstance(answer, Response):
            headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
            await _send(send, encode(answer.content), headers)
        else:
            await _send(send, encode(answer), [])


async def _send(send: Send, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    told = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": told})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _headers(request: Any) -> tuple[str, str] | None:
    """Return who asks and of which host, in their own words; None where more than that decides."""
    authorization = host = b""
    for name, value in request["headers"]:
        if name == b"x-program" or (name == b"authorization" and authorization) or (name == b"host" and host):
            return None
        if name == b"authorization":
            authorization = value
        elif name == b"host":
            host = value
    named = host.decode("latin-1")
    return (authorization.decode("latin-1"), named) if _HOST.fullmatch(named) else None
