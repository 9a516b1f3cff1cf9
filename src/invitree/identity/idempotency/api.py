"""The header `Idempotency-Key`: what a route that writes needs to be safe to ask again."""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from litestar import Request, Response
from litestar.enums import RequestEncodingType
from litestar.params import HeaderParameter
from msgspec import Struct, structs

from invitree.base.problems import IdempotencyKeyInUse, IdempotencyKeyReused, Problem
from invitree.identity.auth.api import program_of
from invitree.identity.idempotency import store
from invitree.identity.idempotency.store import Answer
from invitree.kit.context import AppContext, app_context
from invitree.kit.data.db import Queryable

# What a route that is done once may refuse with.
REPEATABLE = (IdempotencyKeyInUse, IdempotencyKeyReused)

_Header = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=255,
        description=(
            "Names this request, so that it can be sent again after a lost answer: it is done once, and answered alike "
            "for 24 hours. Any text that is not used twice, such as a UUID."
        ),
    ),
]


class _Asked(Struct, frozen=True):
    """A request that its client has named, and what may stand for it: first what does now (`Keyring.hashes`)."""

    program_id: int
    key_hash: bytes
    fingerprints: list[bytes]


def once(handle: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Do what a handler does once for an `Idempotency-Key`, and answer alike whenever it is asked again.

    The answer is written in the transaction of the effect: all transactions that the handler asks `resources` for are
    one. A refusal changes nothing, so it is not kept. The route's own guard has let the caller through by then.
    Raises IdempotencyKeyInUse or IdempotencyKeyReused. After the IETF's draft-ietf-httpapi-idempotency-key-header.
    """

    @wraps(handle)
    async def act(*, request: Request[Any, Any, Any], idempotency_key: str | None = None, **given: Any) -> Any:
        if idempotency_key is None:
            return await handle(request=request, **given)
        ctx, asked = app_context(request), await _asked(request, idempotency_key, given.get("data"))
        answer = await _find(ctx.db, asked)
        if answer is None:
            try:
                answer = await _do(ctx, asked, request, partial(handle, request=request, **given))
            except Problem:
                # Perhaps because the first of two has done it since this one looked.
                answer = await _find(ctx.db, asked)
                if answer is None:
                    raise
        return Response(answer.body, status_code=answer.status, media_type="application/json")

    signature = inspect.signature(handle)
    named = inspect.Parameter("idempotency_key", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_Header)
    act.__signature__ = signature.replace(parameters=[*signature.parameters.values(), named])  # type: ignore[attr-defined]
    act.__annotations__ = {**handle.__annotations__, "idempotency_key": _Header}
    return act


async def _asked(request: Request[Any, Any, Any], key: str, data: Any) -> _Asked:
    """Return what stands for a request. The body may hold a password, so that nothing can be read from it offline."""
    is_multipart = request.content_type[0] == RequestEncodingType.MULTI_PART
    # Each sending of the same multipart form has another boundary.
    body = msgspec.json.encode(data) if is_multipart else await request.body()
    program, caller, keys = await program_of(request), request.scope["user"], app_context(request).keys
    who = str(caller.user_id) if caller else ""
    what = f"{request.method} {request.scope['path'].rstrip('/')}?{request.scope['query_string'].decode('latin-1')}"
    return _Asked(
        program.id,
        sha256(f"{who} {key}".encode()).digest(),
        keys.hashes(f"idempotent {what} {body.decode('latin-1')}"),
    )


async def _find(db: Queryable, asked: _Asked) -> Answer | None:
    answer = await store.find_answer(db, program_id=asked.program_id, key_hash=asked.key_hash)
    if answer is not None and answer.fingerprint not in asked.fingerprints:
        raise IdempotencyKeyReused
    return answer


async def _do(
    ctx: AppContext, asked: _Asked, request: Request[Any, Any, Any], handle: Callable[[], Awaitable[Any]]
) -> Answer:
    scope: Any = request.scope
    caller = scope["user"]
    async with ctx.db.joined(first=partial(_take, asked)) as db:
        scope["context"] = structs.replace(ctx, db=db)
        result = await handle()
        body = b"" if result is None else msgspec.json.encode(result)
        answer = Answer(asked.fingerprints[0], request.route_handler.status_code, body)
        async with db.transaction() as tx:
            kept = await store.insert_answer(
                tx,
                program_id=asked.program_id,
                key_hash=asked.key_hash,
                user_id=getattr(result, "id", None) or (caller and caller.user_id),  # a new user is the answer
                answer=answer,
            )
            if not kept:
                raise IdempotencyKeyInUse
    return answer


async def _take(asked: _Asked, tx: Queryable) -> None:
    """Keep others off the key from the first write on. Raises IdempotencyKeyInUse where somebody was first."""
    if not await store.lock_key(tx, program_id=asked.program_id, key_hash=asked.key_hash) or await _find(tx, asked):
        raise IdempotencyKeyInUse
