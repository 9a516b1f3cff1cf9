"""A short way to what is asked most, past the framework.

Routes take part by `opt={FROM_MEMORY: …}`. What is in memory is answered at once. For the rest the route's own guard
and function are called, as the framework would call them: that takes it longer than the database needs for its answer.
Whatever is out of the ordinary is passed on, and an answer is to the byte the one that the framework gives.
"""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from litestar import Litestar, Response
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import Receive, Scope, Send
from msgspec import Struct
from msgspec.json import encode

from invitree.base.problems import TooManyRequests
from invitree.identity.auth.actions import cached_principal
from invitree.identity.auth.guards import FROM_MEMORY, FastRequest, require_user
from invitree.identity.auth.store import UserSession
from invitree.identity.programs.actions import cached_program
from invitree.identity.programs.rules import host_of
from invitree.kit.context import Request
from invitree.kit.web.responses import problem_response

_HOST = re.compile(r"[a-z0-9.-]*(?::[0-9]{1,5})?")
_ARGUMENTS = {int: re.compile(r"[1-9][0-9]{0,14}"), str: re.compile(r"[^/]*"), Path: re.compile(r".*", re.DOTALL)}
_PAGE = re.compile(r"(?:limit=(?P<limit>[1-9][0-9]?|100))?(?:(?:^|&)after=(?P<after>[1-9][0-9]{0,14}))?")


class FastRoute(Struct, frozen=True, kw_only=True):
    """A route that is served past the framework. Its path ends with one parameter at most."""

    path: str
    prefix: str
    handler: HTTPRouteHandler
    from_memory: Callable[[FastRequest], Struct | None] | None
    is_public: bool
    is_paged: bool
    parameter: str
    kind: type

    @classmethod
    def of(cls, route: HTTPRoute, handler: HTTPRouteHandler) -> "FastRoute":
        """Return the short way to a route."""
        parameter = next(iter(route.path_parameters.values()), None)
        return cls(
            path=route.path,
            prefix=route.path.partition("{")[0],
            handler=handler,
            from_memory=handler.opt[FROM_MEMORY],
            is_public=require_user not in (handler.guards or ()),
            is_paged="after" in inspect.signature(handler.fn).parameters,
            parameter=parameter.name if parameter else "",
            kind=parameter.type if parameter else str,
        )

    def arguments(self, argument: str, query: str) -> dict[str, Any] | None:
        """Return what the framework would take from the path's end and the query; None where it must look itself."""
        page = _PAGE.fullmatch(query) if self.is_paged else None
        if (self.is_paged and page is None) or not _ARGUMENTS[self.kind].fullmatch(argument):
            return None
        given: dict[str, Any] = {self.parameter: int(argument) if self.kind is int else argument} if argument else {}
        return given | {name: int(value) for name, value in (page.groupdict() if page else {}).items() if value}


def fast_routes(app: Litestar) -> Iterator[FastRoute]:
    """Yield the short way to each route that has one."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            yield from (FastRoute.of(route, one) for one in route.route_handlers if FROM_MEMORY in one.opt)


class FastPath:
    """Wraps the application."""

    def __init__(self, app: Litestar) -> None:
        self._app = app
        self._ways = [(route.prefix, route) for route in fast_routes(app)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        request: Any = scope
        route = self._find(request) if request["type"] == "http" and request["method"] == "GET" else None
        headers = _headers(request) if route else None
        argument = request["path"][len(route.prefix) :].rstrip("/") if route else ""
        if route is None or headers is None or bool(argument) != bool(route.parameter):
            await self._app(scope, receive, send)
            return
        authorization, host = headers
        principal = cached_principal(self._app.state["context"], authorization) if authorization else None
        caller = principal if isinstance(principal, UserSession) else None
        answer = None
        if route.from_memory and (caller or (route.is_public and not authorization)):
            answer = self._from_memory(route.from_memory, request, caller, host, argument)
        if answer is not None:
            request["path_template"] = route.path
            await _send(send, encode(answer), [])
        elif (arguments := route.arguments(argument, request["query_string"].decode("latin-1"))) is not None:
            await self._call_handler(route, caller, arguments, request, receive, send)
        else:
            await self._app(scope, receive, send)

    def _find(self, request: Any) -> FastRoute | None:
        path = request["path"]
        for prefix, route in self._ways:
            if path.startswith(prefix):
                return route
        return None

    def _from_memory(
        self,
        find: Callable[[FastRequest], Struct | None],
        scope: Any,
        caller: UserSession | None,
        host: str,
        argument: str,
    ) -> Struct | None:
        ctx = self._app.state["context"]
        program = cached_program(ctx, caller.program_id if caller else ("host", host_of(host)))
        try:
            return find(FastRequest(ctx, scope, caller, program, argument)) if program else None
        except TooManyRequests:
            return None  # the route will say so

    async def _call_handler(
        self,
        route: FastRoute,
        caller: UserSession | None,
        arguments: dict[str, Any],
        scope: Any,
        receive: Receive,
        send: Send,
    ) -> None:
        scope["path_template"], scope["litestar_app"], scope["user"] = route.path, self._app, caller
        request: Request = Request(scope, receive, send)
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
