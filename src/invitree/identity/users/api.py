"""The routes of accounts and of logging in."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

from litestar import Response, get, patch, post, put
from litestar.params import JSONBody
from msgspec import UNSET, Meta, Struct, UnsetType, structs

from invitree.base.problems import (
    NON_FIELD,
    InvalidInput,
    NotFound,
    Text,
    TooManyRequests,
    Unauthenticated,
)
from invitree.identity.audit.store import ActorKind, list_events
from invitree.identity.auth.actions import TokenPair, evict_sessions, open_jwt_session, open_token_session
from invitree.identity.auth.guards import (
    FROM_MEMORY,
    SIGNED_IN,
    UNGUARDED,
    FastRequest,
    actor_of,
    caller_of,
    program_of,
)
from invitree.identity.programs.problems import UnknownProgram
from invitree.identity.users import store
from invitree.identity.users.actions import Login, VerifiedPassword, rename
from invitree.identity.users.guards import UserId, may_see, prove_login
from invitree.identity.users.problems import InvalidCredentials, NoActiveAccount
from invitree.identity.users.rules import same_address
from invitree.identity.users.schemas import UserOut
from invitree.identity.users.store import User
from invitree.kit.client_info import client_info
from invitree.kit.context import Request, app_context
from invitree.kit.web.body import REQUIRED, VERBATIM, json_body, takes
from invitree.kit.web.paging import (
    LARGEST_ID,
    LINK,
    After,
    AfterIfAny,
    Limit,
    page,
    refuse_other_paging,
)
from invitree.kit.web.responses import BODY, answers

_SET_EMAIL = Text(
    "Change the address with POST /auth/users/set_email/.", "Адрес меняется запросом POST /auth/users/set_email/."
)
_READ_ONLY = Text("This cannot be changed.", "Это поле нельзя изменить.")


class UserIn(Struct):
    """What of an account can be written here; `email` and `id` may come along as they are, for clients put back all."""

    username: Annotated[str, Meta(min_length=1, max_length=150, examples=["alice"])] | UnsetType = UNSET
    email: Annotated[str, Meta(description="As it is; `set_email` changes it.")] | UnsetType = UNSET
    id: Annotated[int, Meta(description="As it is.")] | UnsetType = UNSET


class EventOut(Struct):
    """Something that happened to an account."""

    id: int
    kind: Annotated[str, Meta(description="What happened.", examples=["login.failed"])]
    actor: Annotated[ActorKind, Meta(description="Who did it. `unknown`: somebody who did not prove to be the user.")]
    ip_prefix: Annotated[str, Meta(description="From which network.", examples=["203.0.113.0/24"])]
    created_at: datetime


class LoginIn(Struct):
    """Who you are (`email`, `username`, or both of one account) and the password that proves it."""

    email: Annotated[str, Meta(min_length=1, examples=["alice@example.com"])] | UnsetType = UNSET
    username: Annotated[str, Meta(min_length=1, examples=["alice"])] | UnsetType = UNSET
    password: Annotated[str, Meta(min_length=1, examples=["correct horse battery"]), VERBATIM] | UnsetType = UNSET


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
    "/users",
    summary="Users you may see",
    response_description="Yourself; for staff, a page of all, by id.",
    tags=["Users"],
    responses=answers(InvalidInput, Unauthenticated),
    response_headers=[LINK],
    **SIGNED_IN,
)
async def list_users(request: Request, limit: Limit = 100, after: AfterIfAny = None) -> Response[Sequence[UserOut]]:
    """Return a plain array: yourself, or, for staff, the users of the program page by page."""
    caller = caller_of(request)
    refuse_other_paging(request)
    if not caller.is_staff:
        return Response([UserOut.of_caller(caller)])
    found = await store.list_users(
        app_context(request).db, program_id=caller.program_id, after=after or 0, limit=limit + 1
    )
    return page(found, limit, UserOut.of)


async def me(request: Request) -> UserOut:
    """Return the account that this request is made with."""
    return UserOut.of_caller(caller_of(request))


def _me_from_memory(asked: FastRequest) -> UserOut:
    return UserOut.of_caller(asked.caller)


async def get_user(request: Request, user_id: UserId) -> UserOut:
    """Return an account: your own, or for staff any of the program. Another user's is a 404."""
    may_see(request, user_id)
    return UserOut.of(await _find(request, user_id))


async def _find(request: Request, user_id: int) -> User:
    user = await store.find_user(app_context(request).db, program_id=caller_of(request).program_id, user_id=user_id)
    if user is None:
        raise NotFound
    return user


async def write_me(request: Request, data: JSONBody[UserIn]) -> UserOut:
    """Write your account: another username. What is not given stays as it is."""
    return await _write(request, caller_of(request).user_id, data)


async def write_user(request: Request, user_id: UserId, data: JSONBody[UserIn]) -> UserOut:
    """Write an account, your own or for staff any of the program: another username. What is not given stays."""
    may_see(request, user_id)
    return await _write(request, user_id, data)


async def _write(request: Request, user_id: int, data: UserIn) -> UserOut:
    user = await _find(request, user_id)
    complaints: dict[str, Sequence[Text]] = {}
    if data.email is not UNSET and not same_address(data.email, user.email):
        complaints["email"] = [_SET_EMAIL]
    if data.id is not UNSET and data.id != user_id:
        complaints["id"] = [_READ_ONLY]
    if complaints:
        raise InvalidInput(complaints)
    if data.username is UNSET or data.username == user.username:
        return UserOut.of(user)
    program_id, actor = caller_of(request).program_id, actor_of(request, user_id=user_id)
    async with app_context(request).db.transaction() as tx:
        user = await rename(
            tx, program_id=program_id, user_id=user_id, username=data.username, field="username", actor=actor
        )
    return UserOut.of(user)


@get(
    "/users/me/events",
    summary="What happened to your account",
    response_description="A page of events, newest first.",
    tags=["Users"],
    responses=answers(InvalidInput, Unauthenticated),
    response_headers=[LINK],
    **SIGNED_IN,
)
async def own_events(request: Request, limit: Limit = 20, after: After = LARGEST_ID) -> Response[Sequence[EventOut]]:
    """Return logins and failed ones, changes of password, address and name, codes made and deleted: by whom, where."""
    caller = caller_of(request)
    refuse_other_paging(request)
    found = await list_events(
        app_context(request).db,
        program_id=caller.program_id,
        user_id=caller.user_id,
        before=after,
        limit=limit + 1,
    )
    return page(found, limit, lambda event: EventOut(**structs.asdict(event)))


@post(
    "/token/login",
    status_code=200,
    **takes(LoginIn),
    summary="Log in for a session token",
    response_description="The token of the new session.",
    tags=["Sessions"],
    responses=answers(InvalidCredentials, TooManyRequests, UnknownProgram, *BODY),
    **UNGUARDED,
)
async def log_in(request: Request, data: _LoginBody) -> AuthTokenOut:
    """Begin a session on this device and return its token, for `Authorization: Token …`.

    The token lives until it is logged out. A wrong password, an unknown or inactive user and an empty body get the same
    answer in the same time. An `Authorization` header is not looked at: a stale one must not lock anybody out.
    """
    ctx, verified = app_context(request), await _log_in(request, data)
    if verified is not None:
        token = await open_token_session(ctx.db, ctx, **structs.asdict(verified), origin=client_info(request))
        if token is not None:
            await evict_sessions(ctx, program_id=verified.program_id, user_id=verified.user_id)
            return AuthTokenOut(token)
    raise InvalidCredentials({NON_FIELD: [InvalidCredentials.message]})


@post(
    "/jwt/create",
    status_code=200,
    **takes(LoginIn),
    summary="Log in for JWTs",
    response_description="The first pair of the new session.",
    tags=["Sessions"],
    responses=answers(NoActiveAccount, TooManyRequests, UnknownProgram, *BODY),
    **UNGUARDED,
)
async def create_jwt(request: Request, data: _LoginBody) -> TokenPair:
    """Begin a session and return an access token (5 minutes) and a refresh token (30 days, used once)."""
    missing = {"email": not (data.email or data.username), "password": not data.password}
    if any(missing.values()):
        # Not a 401, which clients take for a session that has ended.
        raise InvalidInput({name: [REQUIRED] for name, is_missing in missing.items() if is_missing})
    ctx, verified = app_context(request), await _log_in(request, data)
    if verified is not None:
        async with ctx.db.transaction() as tx:
            pair = await open_jwt_session(tx, ctx, **structs.asdict(verified), origin=client_info(request))
        if pair is not None:
            await evict_sessions(ctx, program_id=verified.program_id, user_id=verified.user_id)
            return pair
    raise NoActiveAccount


async def _log_in(request: Request, data: LoginIn) -> VerifiedPassword | None:
    program, login = await program_of(request), Login(email=data.email or None, username=data.username or None)
    return await prove_login(request, program.id, login, data.password or "")


_USER = "/users/{user_id:int}"
_READ: dict[str, Any] = {
    **SIGNED_IN,
    "response_description": "The account.",
    "tags": ["Users"],
    "responses": answers(NotFound, Unauthenticated),
}
_WRITE: dict[str, Any] = {
    **takes(UserIn),
    **SIGNED_IN,
    "response_description": "The account as it is now.",
    "tags": ["Users"],
    "responses": answers(NotFound, Unauthenticated, *BODY),
}

HANDLERS = [
    list_users,
    get("/users/me", opt={FROM_MEMORY: _me_from_memory}, summary="Who am I", **_READ)(me),
    put("/users/me", operation_id="AuthUsersMePutMe", summary="Write your account", **_WRITE)(write_me),
    patch("/users/me", operation_id="AuthUsersMePatchMe", summary="Write parts of your account", **_WRITE)(write_me),
    own_events,
    get(_USER, summary="A user", **_READ)(get_user),
    put(_USER, operation_id="AuthUsersUserIdPutUser", summary="Write a user", **_WRITE)(write_user),
    patch(_USER, operation_id="AuthUsersUserIdPatchUser", summary="Write parts of a user", **_WRITE)(write_user),
    log_in,
    create_jwt,
]
