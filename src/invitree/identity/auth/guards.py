"""Who is calling, in which program, and what a route says about who may."""

from functools import partial
from typing import Any, TypedDict

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Operation
from litestar.types import Guard
from msgspec import Struct

from invitree.base.problems import TokenNotValid, Unauthenticated
from invitree.identity.audit.store import Actor, ActorKind
from invitree.identity.auth import actions
from invitree.identity.auth.store import UserSession
from invitree.identity.programs.actions import get_program, get_program_by_slug, get_program_of_host
from invitree.identity.programs.store import Program
from invitree.kit.client_info import client_info
from invitree.kit.context import AppContext, Request, app_context
from invitree.kit.web.responses import DocumentedOperation

Connection = ASGIConnection[Any, Any, Any, Any]
SECURITY: list[dict[str, list[str]]] = [{"Token": []}, {"Bearer": []}, {"JWT": []}]


async def require_user(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Guard: let only those through who say who they are. Raises Unauthenticated."""
    await optional_user(connection, _handler)
    if not isinstance(connection.scope["user"], UserSession):
        raise Unauthenticated


async def optional_user(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Guard: let everybody through, but nobody whose credentials are wrong.

    Credentials of a scheme that is not ours (`Basic`, of a proxy in front) are nobody's. Raises Unauthenticated, or
    TokenNotValid for an access token, on which clients of simplejwt refresh.
    """
    connection.scope["user"] = None
    authorization = connection.headers.get("authorization", "")
    scheme = authorization.strip().partition(" ")[0].lower()
    if scheme not in actions.RECOGNIZERS:
        return
    ctx = app_context(connection)
    principal = actions.cached_principal(ctx, authorization) if connection.scope.get("method") == "GET" else None
    if principal is None:
        principal = await actions.find_principal(ctx, authorization, home=partial(program_of, connection))
    if principal is None:
        raise Unauthenticated if scheme == "token" else TokenNotValid(members=_AS_SIMPLEJWT)
    if isinstance(principal, UserSession) and principal.is_outdated:
        ip_prefix = client_info(connection).ip_prefix
        await actions.touch_session(ctx, principal, authorization=authorization, ip_prefix=ip_prefix)
    connection.scope["user"] = principal


# What simplejwt says of an access token beside `code`.
_AS_SIMPLEJWT = {
    "messages": [{"token_class": "AccessToken", "token_type": "access", "message": "Token is invalid or expired"}]
}


class Access(TypedDict):
    """Who may use a route, as Litestar and the OpenAPI document want it."""

    guards: list[Guard]
    security: list[dict[str, list[str]]]
    operation_class: type[Operation]


# What a route says about who may use it: `@get("/", **SIGNED_IN)`.
SIGNED_IN = Access(guards=[require_user], security=SECURITY, operation_class=DocumentedOperation)
PUBLIC = Access(guards=[optional_user], security=[{}, *SECURITY], operation_class=DocumentedOperation)
# Where an `Authorization` header is not looked at: a stale one must not keep anybody from logging in.
UNGUARDED = Access(guards=[], security=[{}], operation_class=DocumentedOperation)


FROM_MEMORY = "from_memory"
"""The key of `opt` by which a GET route is served past the framework (`fastpath.py`).

Under it is the function that answers a `FastRequest` from memory, or None; it returns None where it cannot.
"""


class FastRequest(Struct, frozen=True):
    """A request whose caller and program are in memory. `caller` is somebody where the route asks for one."""

    ctx: AppContext
    scope: Any
    caller: Any
    program: Program
    argument: str
    """What the path ends with."""


def caller_of(request: Request) -> UserSession:
    """Return who is calling a route that is `SIGNED_IN`."""
    caller: UserSession = request.scope["user"]
    return caller


def actor_of(request: Request, *, user_id: int) -> Actor:
    """Return who acts on this user's account in a route that is `SIGNED_IN`, for the record."""
    caller = caller_of(request)
    actor: ActorKind = "self" if caller.user_id == user_id else "staff"
    return Actor(actor=actor, actor_id=caller.user_id, ip_prefix=client_info(request).ip_prefix)


async def program_of(connection: Connection) -> Program:
    """Return the program that a request means: its caller's, else the one that `X-Program` names, else the one that
    claims the host, else the default one. Raises UnknownProgram.
    """
    ctx, caller = app_context(connection), connection.scope.get("user")
    if caller:
        return await get_program(ctx, caller.program_id)
    if slug := connection.headers.get("x-program"):
        return await get_program_by_slug(ctx, slug)
    return await get_program_of_host(ctx, connection.headers.get("host", ""))
