"""The routes of accounts and of logging in."""

from typing import Annotated, Any

from litestar import Request, get, post
from msgspec import Meta, Struct

from invitree.base.problems import NON_FIELD, InvalidCredentials, NoActiveAccount, Unauthenticated
from invitree.kit.body import json_body, takes
from invitree.kit.resources import resources
from invitree.kit.web import BODY, answers
from invitree.sessions.actions import Pair, open_jwt_session, open_token_session
from invitree.sessions.api import MEMBERS, caller_of, program_of
from invitree.users.actions import find_user_by_password


class UserOut(Struct):
    """A user, as the user sees it."""

    email: Annotated[str, Meta(examples=["alice@example.com"])]
    id: Annotated[int, Meta(examples=[42])]
    username: Annotated[str, Meta(examples=["alice"])]


class LoginIn(Struct, forbid_unknown_fields=True):
    """Who you are (one of `email` and `username`) and the password that proves it."""

    email: Annotated[str, Meta(examples=["alice@example.com"])] | None = None
    username: Annotated[str, Meta(examples=["alice"])] | None = None
    password: Annotated[str, Meta(examples=["correct horse battery"])] | None = None


_LoginBody = Annotated[
    LoginIn,
    json_body(
        by_email={"email": "alice@example.com", "password": "correct horse battery"},
        by_username={"username": "alice", "password": "correct horse battery"},
    ),
]


class AuthTokenOut(Struct):
    """The token for `Authorization: Token …`."""

    auth_token: Annotated[str, Meta(examples=["1.kYx0Ffq3tD1s4bVvRrUXm2vZQ9a7c8n6E5wH0jLpTgI"])]


@get(
    "/users/me",
    summary="Who am I",
    response_description="Your account.",
    tags=["Users"],
    responses=answers(Unauthenticated),
    **MEMBERS,
)
async def me(request: Request[Any, Any, Any]) -> UserOut:
    """Return the account that this request is made with."""
    caller = caller_of(request)
    return UserOut(email=caller.email, id=caller.user_id, username=caller.username)


@post(
    "/token/login",
    status_code=200,
    **takes(LoginIn),
    summary="Log in for a session token",
    response_description="The token of the new session.",
    tags=["Sessions"],
    responses=answers(InvalidCredentials, *BODY),
)
async def log_in(
    request: Request[Any, Any, Any],
    data: _LoginBody,
) -> AuthTokenOut:
    """Begin a session on this device and return its token, for `Authorization: Token …`.

    The token lives until it is logged out. A wrong password, an unknown or inactive user and an empty body get the same
    answer in the same time. An `Authorization` header is not looked at: a stale one must not lock anybody out.
    """
    here, program = resources(request), await program_of(request)
    user_id = await _find_user(request, program.id, data)
    if user_id is None:
        raise InvalidCredentials({NON_FIELD: [InvalidCredentials.message]})
    return AuthTokenOut(await open_token_session(here, program_id=program.id, user_id=user_id))


@post(
    "/jwt/create",
    status_code=200,
    **takes(LoginIn),
    summary="Log in for JWTs",
    response_description="The first pair of the new session.",
    tags=["Sessions"],
    responses=answers(NoActiveAccount, *BODY),
)
async def create_jwt(
    request: Request[Any, Any, Any],
    data: _LoginBody,
) -> Pair:
    """Begin a session and return an access token (5 minutes) and a refresh token (30 days, used once)."""
    here, program = resources(request), await program_of(request)
    user_id = await _find_user(request, program.id, data)
    if user_id is None:
        raise NoActiveAccount
    return await open_jwt_session(here, program_id=program.id, user_id=user_id)


async def _find_user(request: Request[Any, Any, Any], program_id: int, login: LoginIn) -> int | None:
    return await find_user_by_password(
        resources(request),
        program_id=program_id,
        email=login.email,
        username=login.username,
        password=login.password or "",
    )


HANDLERS = [me, log_in, create_jwt]
