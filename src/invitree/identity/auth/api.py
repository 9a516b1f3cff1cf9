"""The routes that continue and end a session."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

from litestar import Response, delete, get, post
from litestar.params import JSONBody, PathParameter, QueryParameter
from msgspec import Meta, Struct, structs

from invitree.base.problems import InvalidInput, NotFound, TokenNotValid, TooManyRequests, Unauthenticated
from invitree.identity.auth import actions, store
from invitree.identity.auth.actions import TokenPair
from invitree.identity.auth.guards import SIGNED_IN, UNGUARDED, actor_of, caller_of
from invitree.kit.client_info import client_info
from invitree.kit.context import Request, app_context
from invitree.kit.web.body import takes
from invitree.kit.web.paging import LINK, AfterIfAny, Limit, is_plain_id, page, refuse_other_paging
from invitree.kit.web.responses import BODY, answers

TokenText = Annotated[
    str, Meta(min_length=1, max_length=8192, examples=["1.j_yJQu7CUGdV6aSmlnKMI3UYUmRG3r8BcCqk0B4wwP0"])
]


class SessionOut(Struct):
    """Somebody logged in on a device."""

    id: int
    device: Annotated[str, Meta(description="The User-Agent that logged in.", examples=["Mozilla/5.0 (X11; Linux)"])]
    ip_prefix: Annotated[str, Meta(description="The network it was last seen in.", examples=["203.0.113.0/24"])]
    created_at: datetime
    last_seen_at: Annotated[datetime, Meta(description="To within five minutes.")]
    is_current: Annotated[bool, Meta(description="Whether this request is made with it.")]


class RefreshIn(Struct):
    """A refresh token."""

    refresh: TokenText


class LogOutIn(RefreshIn, forbid_unknown_fields=True):
    """The refresh token of a session to end."""


class VerifyIn(Struct):
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
    **SIGNED_IN,
)
async def log_out(
    request: Request,
    all: Annotated[bool, QueryParameter(description="End every session of this user.")] = False,  # noqa: A002
) -> None:
    """End the session that this request is made with; with `?all=true`, every session of this user on any device."""
    ctx, caller = app_context(request), caller_of(request)
    actor = actor_of(request, user_id=caller.user_id)
    only = None if all else caller.session_id
    await actions.end_sessions(ctx, program_id=caller.program_id, user_id=caller.user_id, only=only, actor=actor)


@get(
    "/token/sessions",
    summary="Your sessions",
    response_description="A page of where you are logged in, the latest used first.",
    tags=["Sessions"],
    responses=answers(InvalidInput, Unauthenticated),
    response_headers=[LINK],
    **SIGNED_IN,
)
async def list_sessions(
    request: Request, limit: Limit = 100, after: AfterIfAny = None
) -> Response[Sequence[SessionOut]]:
    """Return the devices that are logged in to your account, by an opaque token or by JWTs.

    There are a hundred at most: one more login ends the session that was idle longest.
    """
    caller = caller_of(request)
    refuse_other_paging(request)
    found = await store.list_sessions(
        app_context(request).db, program_id=caller.program_id, user_id=caller.user_id, after=after, limit=limit + 1
    )
    return page(found, limit, lambda one: SessionOut(**structs.asdict(one), is_current=one.id == caller.session_id))


@delete(
    "/token/sessions/{session_id:int}",
    summary="End a session",
    response_description="The session has ended.",
    tags=["Sessions"],
    responses=answers(NotFound, Unauthenticated),
    **SIGNED_IN,
)
async def end_session(
    request: Request,
    session_id: Annotated[int, PathParameter(description="A session's id.", schema_extra={"minimum": 1})],
) -> None:
    """Log a device of yours out: its tokens are dead when this answers."""
    caller = caller_of(request)
    if not is_plain_id(session_id, request):
        raise NotFound
    actor = actor_of(request, user_id=caller.user_id)
    await actions.end_sessions(
        app_context(request), program_id=caller.program_id, user_id=caller.user_id, only=session_id, actor=actor
    )


@post(
    "/jwt/refresh",
    status_code=200,
    **takes(RefreshIn),
    summary="Refresh",
    response_description="The next pair.",
    tags=["Sessions"],
    responses=answers(TokenNotValid, TooManyRequests, *BODY),
    **UNGUARDED,
)
async def refresh(request: Request, data: JSONBody[RefreshIn]) -> TokenPair:
    """Exchange a refresh token for a new pair.

    A refresh token is used once. Presenting it again within 20 seconds, while its successor is unused, gives the same
    successor, so a lost answer can be asked for again; later, it means that somebody else has it, and the whole session
    ends.
    """
    return await actions.refresh(app_context(request), data.refresh, origin=client_info(request), scope=request.scope)


@post(
    "/jwt/verify",
    status_code=200,
    **takes(VerifyIn),
    summary="Verify a token",
    response_description="The token is good.",
    tags=["Sessions"],
    responses=answers(TokenNotValid, *BODY),
    **UNGUARDED,
)
async def verify(request: Request, data: JSONBody[VerifyIn]) -> Nothing:
    """Say whether an access token or an unused refresh token is good."""
    await actions.verify(app_context(request), data.token)
    return Nothing()


@post(
    "/jwt/logout",
    status_code=204,
    **takes(LogOutIn),
    summary="Log out with a refresh token",
    response_description="The session has ended.",
    tags=["Sessions"],
    responses=answers(*BODY),
    **UNGUARDED,
)
async def log_out_family(request: Request, data: JSONBody[LogOutIn]) -> None:
    """End the session of a refresh token, access tokens included. Safe to repeat: an unknown token is no error."""
    await actions.revoke_family(app_context(request), data.refresh, origin=client_info(request))


HANDLERS = [log_out, list_sessions, end_session, refresh, verify, log_out_family]
