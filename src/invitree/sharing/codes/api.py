"""The routes of referral codes."""

from datetime import date, datetime
from typing import Annotated, Any
from urllib.parse import unquote

from litestar import delete, get, post
from litestar.params import FromPath, PathParameter, QueryParameter
from msgspec import Meta, Struct

from invitree.base.problems import NON_FIELD, InvalidInput, Text, TooManyRequests, Unauthenticated
from invitree.identity.auth.guards import FROM_MEMORY, PUBLIC, SIGNED_IN, FastRequest, actor_of, caller_of, program_of
from invitree.identity.auth.store import UserSession
from invitree.identity.idempotency.guards import REPEATABLE, IdempotencyKey, once, request_transaction
from invitree.identity.programs.problems import UnknownProgram
from invitree.identity.programs.store import Program
from invitree.kit.client_info import network_of_scope
from invitree.kit.context import AppContext, Request, app_context
from invitree.kit.limits.rate_limiter import limit
from invitree.kit.web.body import REQUIRED, json_body, takes
from invitree.kit.web.responses import BODY, answers
from invitree.sharing.codes import actions, store
from invitree.sharing.codes.actions import CachedCode
from invitree.sharing.codes.problems import CodeActive, CodeNotFound, EmailNotConfirmed
from invitree.sharing.codes.rules import last_day_of, parse_code
from invitree.sharing.codes.store import Code

_ONE_OF_TWO = Text(
    "Give expiration_date or expires_at, not both.", "Укажите expiration_date или expires_at, но не оба поля."
)


class CodeIn(Struct, forbid_unknown_fields=True):
    """How long the code is to live: exactly one of the two."""

    expiration_date: (
        Annotated[date, Meta(description="Good through the end of this day, in the program's time zone.")] | None
    ) = None
    expires_at: Annotated[datetime, Meta(tz=True, description="Good until this instant (RFC 3339).")] | None = None


class CodeOut(Struct):
    """A live code."""

    code: Annotated[str, Meta(examples=["7K3M9XQ2AB"])]
    expiration_date: Annotated[date, Meta(description="The last day it is good, in the program's time zone.")]
    expires_at: datetime

    @classmethod
    def of(cls, code: Code, program: Program) -> "CodeOut":
        """Return a code as its program shows it."""
        last_day = last_day_of(code.expires_at, zone=program.zone)
        return cls(code=code.code, expiration_date=last_day, expires_at=code.expires_at)


class CheckOut(Struct, omit_defaults=True):
    """Whether a code can be used, and until when."""

    valid: bool
    expires_at: Annotated[datetime, Meta(description="Only where the code is valid.")] | None = None

    @classmethod
    def of(cls, code: Code | None) -> "CheckOut":
        """Return what is told of a live code, or of none."""
        return cls(valid=True, expires_at=code.expires_at) if code else cls(valid=False)


@once
async def create_code(
    request: Request,
    data: Annotated[
        CodeIn,
        json_body(
            through_a_day={"expiration_date": "2027-06-30"},
            until_an_instant={"expires_at": "2027-06-30T18:00:00+03:00"},
        ),
    ],
    replace: Annotated[bool, QueryParameter(description="Replace the live code, which is dead from then on.")] = False,
    idempotency_key: IdempotencyKey = None,
) -> CodeOut:
    """Mint your code. You have one live code at most; an expired or deleted one never stands in the way."""
    ctx, program, user_id = app_context(request), await program_of(request), caller_of(request).user_id
    expires_at = _expiry(data, program=program, now=ctx.clock.now())
    ctx.tally.count(request.scope, program.id, limit("create", ctx.settings.limit_create, str(user_id)))
    actor = actor_of(request, user_id=user_id)
    async with request_transaction(request, data, idempotency_key) as tx:
        code = await actions.create_code(
            tx, program=program, user_id=user_id, expires_at=expires_at, replace=replace, actor=actor
        )
        tx.answer = shown = CodeOut.of(code, program)
    return shown


def _expiry(data: CodeIn, *, program: Program, now: datetime) -> datetime:
    match data:
        case CodeIn(expiration_date=date() as last_day, expires_at=None):
            return actions.expiry_of_day(last_day, program=program, now=now)
        case CodeIn(expiration_date=None, expires_at=datetime() as instant):
            return actions.expiry_of_instant(instant, program=program, now=now)
        case CodeIn(expiration_date=None):
            raise InvalidInput({"expiration_date": [REQUIRED]})
    raise InvalidInput({NON_FIELD: [_ONE_OF_TWO]})


async def delete_code(request: Request) -> None:
    """Revoke your live code. It is dead when this answers: nobody can sign up with it."""
    caller = caller_of(request)
    actor = actor_of(request, user_id=caller.user_id)
    await actions.delete_code(app_context(request), program_id=caller.program_id, user_id=caller.user_id, actor=actor)


@get(
    "/",
    summary="Your code",
    response_description="Your live code.",
    tags=["Referral codes"],
    responses=answers(CodeNotFound, Unauthenticated),
    **SIGNED_IN,
)
async def own_code(request: Request) -> CodeOut:
    """Return your live code."""
    caller = caller_of(request)
    code = await store.find_own_code(app_context(request).db, program_id=caller.program_id, user_id=caller.user_id)
    if code is None:
        raise CodeNotFound
    return CodeOut.of(code, await program_of(request))


def _lookup_from_memory(asked: FastRequest) -> CodeOut | None:
    live = actions.cached_code(asked.ctx, program_id=asked.program.id, email_key=asked.argument)
    if live is None:
        return None
    _count_lookup(asked.ctx, asked.scope, asked.caller)
    return _found(live, asked.program)


@get(
    "/get/{email:path}",
    opt={FROM_MEMORY: _lookup_from_memory},
    summary="Look up a code by e-mail",
    response_description="The live code of this person.",
    tags=["Referral codes"],
    responses=answers(CodeNotFound, TooManyRequests, Unauthenticated),
    **SIGNED_IN,
)
async def code_by_email(
    request: Request,
    email: Annotated[str, PathParameter(description="The referrer's e-mail address.")],  # noqa: ARG001
) -> CodeOut:
    """Return the live code of the person with this address.

    The 404 is the same to the byte for an unknown address, a person without a code, and an expired or deleted code.
    """
    address = _address_in(request.scope["raw_path"])
    ctx, program = app_context(request), await program_of(request)
    _count_lookup(ctx, request.scope, caller_of(request))
    return _found(await actions.get_active_code(ctx, program_id=program.id, email=address), program)


def _address_in(raw_path: bytes) -> str:
    """Return the address in a path as it came: to the router several slashes are one, which they are not in it."""
    return unquote(raw_path.decode("latin-1")).partition("/get/")[2].rstrip("/")


def _found(live: CachedCode, program: Program) -> CodeOut:
    if live.shown is None or live.shown[0] is not program:  # whose policy has another time zone, perhaps
        live.shown = (program, CodeOut.of(live.code, program))
    shown: CodeOut = live.shown[1]
    return shown


def _count_lookup(ctx: AppContext, scope: Any, caller: UserSession) -> None:
    ctx.tally.count(scope, caller.program_id, limit("lookup", ctx.settings.limit_lookup, str(caller.user_id)))


def _check_from_memory(asked: FastRequest) -> CheckOut | None:
    live = actions.cached_code_by_text(asked.ctx, program_id=asked.program.id, text=asked.argument)
    if live is None:
        return None
    _count_check(asked.ctx, asked.scope, asked.program)
    return CheckOut.of(live.code)


@get(
    "/check/{code:str}",
    opt={FROM_MEMORY: _check_from_memory},
    summary="Check a code",
    response_description="Whether it can be used, and until when.",
    tags=["Referral codes"],
    responses=answers(TooManyRequests, Unauthenticated, UnknownProgram),
    **PUBLIC,
)
async def check_code(request: Request, code: FromPath[str]) -> CheckOut:
    """Say whether a code can be used, for sign-up forms; never whose it is.

    Send it as it was typed or pasted: case, spaces, hyphens, quotes and punctuation around it do not matter. Where no
    code is spelled exactly so, O counts as 0, and I and L as 1, if only one live code reads like that.
    """
    ctx, text, program = app_context(request), parse_code(code), await program_of(request)
    _count_check(ctx, request.scope, program)
    return CheckOut.of(await actions.find_active_code_by_text(ctx, program_id=program.id, text=text) if text else None)


def _count_check(ctx: AppContext, scope: Any, program: Program) -> None:
    network = network_of_scope(scope, proxies=ctx.settings.trusted_proxies)
    ctx.tally.count(scope, program.id, limit("check", ctx.settings.limit_check, network))


# The seed's addresses, and shorter ones: the same handlers under two names.
_CREATE: dict[str, Any] = {
    **takes(CodeIn),
    **SIGNED_IN,
    "response_description": "The new code.",
    "tags": ["Referral codes"],
    "responses": answers(CodeActive, EmailNotConfirmed, TooManyRequests, Unauthenticated, *REPEATABLE, *BODY),
}
_DELETE: dict[str, Any] = {
    **SIGNED_IN,
    "response_description": "The code is dead.",
    "tags": ["Referral codes"],
    "responses": answers(CodeNotFound, Unauthenticated),
}

HANDLERS = [
    post("/create", summary="Create a code", **_CREATE)(create_code),
    delete("/delete", summary="Delete your code", **_DELETE)(delete_code),
    own_code,
    code_by_email,
    check_code,
    post("/", summary="Create a code (shorter address)", **_CREATE)(create_code),
    delete("/", summary="Delete your code (shorter address)", **_DELETE)(delete_code),
]
