"""Who is calling, for every route; and the routes that continue and end a session."""

from typing import Annotated, Any, TypedDict

from litestar import Request, post
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.openapi.spec import Operation
from litestar.params import JSONBody, QueryParameter
from litestar.types import Guard
from msgspec import Meta, Struct

from invitree.base.problems import InvalidInput, TokenNotValid, Unauthenticated
from invitree.kit.body import takes
from invitree.kit.resources import resources
from invitree.kit.web import BODY, DocumentedOperation, answers
from invitree.programs.actions import get_default_program, get_program
from invitree.programs.store import Program
from invitree.sessions import actions, store
from invitree.sessions.actions import Pair
from invitree.sessions.store import Caller

Connection = ASGIConnection[Any, Any, Any, Any]
SECURITY: list[dict[str, list[str]]] = [{"Token": []}, {"Bearer": []}, {"JWT": []}]


async def signed_in(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Guard: let only those through who say who they are. Raises Unauthenticated."""
    await anyone(connection, _handler)
    if connection.scope["user"] is None:
        raise Unauthenticated


async def anyone(connection: Connection, _handler: BaseRouteHandler) -> None:
    """Guard: let everybody through, but nobody whose credentials are wrong. Raises Unauthenticated."""
    authorization = connection.headers.get("authorization")
    caller = await actions.find_caller(resources(connection), authorization) if authorization else None
    if authorization and caller is None:
        raise Unauthenticated
    connection.scope["user"] = caller


class _Door(TypedDict):
    guards: list[Guard]
    security: list[dict[str, list[str]]]
    operation_class: type[Operation]


# What a route says about who may use it: `@get("/", **MEMBERS)`.
MEMBERS = _Door(guards=[signed_in], security=SECURITY, operation_class=DocumentedOperation)
ANYONE = _Door(guards=[anyone], security=[{}, *SECURITY], operation_class=DocumentedOperation)


def caller_of(request: Request[Any, Any, Any]) -> Caller:
    """Return who is calling a route of MEMBERS."""
    caller: Caller = request.scope["user"]
    return caller


async def program_of(request: Request[Any, Any, Any]) -> Program:
    """Return the program that a request means: its caller's, or the default one."""
    here, caller = resources(request), request.scope.get("user")
    return await get_program(here, caller.program_id) if caller else await get_default_program(here)


TokenText = Annotated[str, Meta(max_length=8192, examples=["1.j_yJQu7CUGdV6aSmlnKMI3UYUmRG3r8BcCqk0B4wwP0"])]


class RefreshIn(Struct, forbid_unknown_fields=True):
    """A refresh token."""

    refresh: TokenText


class VerifyIn(Struct, forbid_unknown_fields=True):
    """An access or a refresh token."""

    token: TokenText


class Nothing(Struct):
    """An empty object."""


@post(
    "/token/logout",
    status_code=204,
    summary="Log out",
    response_description="The session has ended.",
    tags=["Sessions"],
    responses=answers(InvalidInput, Unauthenticated),
    **MEMBERS,
)
async def log_out(
    request: Request[Any, Any, Any],
    all: Annotated[bool, QueryParameter(description="End every session of this user.")] = False,  # noqa: A002
) -> None:
    """End the session that this request is made with; with `?all=true`, every session of this user on any device."""
    here, caller = resources(request), caller_of(request)
    if all:
        await store.delete_sessions(here.db, program_id=caller.program_id, user_id=caller.user_id)
    else:
        await store.delete_session(here.db, program_id=caller.program_id, session_id=caller.session_id)


@post(
    "/jwt/refresh",
    status_code=200,
    **takes(RefreshIn),
    summary="Refresh",
    response_description="The next pair.",
    tags=["Sessions"],
    responses=answers(TokenNotValid, *BODY),
)
async def refresh(request: Request[Any, Any, Any], data: JSONBody[RefreshIn]) -> Pair:
    """Exchange a refresh token for a new pair.

    A refresh token is used once. Presenting it again within 20 seconds, while its successor is unused, gives the same
    successor, so a lost answer can be asked for again; later, it means that somebody else has it, and the whole session
    ends.
    """
    return await actions.refresh(resources(request), data.refresh)


@post(
    "/jwt/verify",
    status_code=200,
    **takes(VerifyIn),
    summary="Verify a token",
    response_description="The token is good.",
    tags=["Sessions"],
    responses=answers(TokenNotValid, *BODY),
)
async def verify(request: Request[Any, Any, Any], data: JSONBody[VerifyIn]) -> Nothing:
    """Say whether an access token or an unused refresh token is good."""
    await actions.verify(resources(request), data.token)
    return Nothing()


@post(
    "/jwt/logout",
    status_code=204,
    **takes(RefreshIn),
    summary="Log out with a refresh token",
    response_description="The session has ended.",
    tags=["Sessions"],
    responses=answers(*BODY),
)
async def log_out_family(request: Request[Any, Any, Any], data: JSONBody[RefreshIn]) -> None:
    """End the session of a refresh token, access tokens included. Safe to repeat: an unknown token is no error."""
    await actions.close_family(resources(request), data.refresh)


HANDLERS = [log_out, refresh, verify, log_out_family]
