"""The header `Idempotency-Key`: what a route that writes needs to be safe to ask again."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial, wraps
from hashlib import sha256
from typing import Annotated, Any

import msgspec
from litestar import Response
from litestar.enums import RequestEncodingType
from litestar.params import HeaderParameter
from msgspec import Struct

from invitree.base.problems import Problem
from invitree.identity.auth.guards import program_of
from invitree.identity.idempotency import store
from invitree.identity.idempotency.problems import IdempotencyKeyInUse, IdempotencyKeyReused
from invitree.identity.idempotency.store import Answer
from invitree.kit.context import Request, app_context
from invitree.kit.data.db import Queryable, Transaction

# What a route that is done once may refuse with.
REPEATABLE = (IdempotencyKeyInUse, IdempotencyKeyReused)

IdempotencyKey = Annotated[
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
    """Give the first answer again where a handler's `idempotency_key` has one.

    The handler does its work in a `request_transaction`, which stores the answer. Errors are not stored.
    Raises IdempotencyKeyInUse or IdempotencyKeyReused. After the IETF's draft-ietf-httpapi-idempotency-key-header.
    """

    @wraps(handle)
    async def act(*, request: Request, data: Any, idempotency_key: str | None, **more: Any) -> Any:
        work = partial(handle, request=request, data=data, idempotency_key=idempotency_key, **more)
        if idempotency_key is None:
            return await work()
        db, asked = app_context(request).db, await _asked(request, data, idempotency_key)
        answer = await _find(db, asked)
        if answer is None:
            try:
                return await work()
            except Problem:
                # A concurrent request with this key may have finished since this one looked.
                answer = await _find(db, asked)
                if answer is None:
                    raise
        return Response(answer.body, status_code=answer.status, media_type="application/json")

    return act


@asynccontextmanager
async def request_transaction(request: Request, data: Any, key: str | None) -> AsyncIterator[Transaction]:
    """Run the block in one transaction, which also stores `tx.answer` under the request's key, if it has one.

    Raises IdempotencyKeyInUse where a concurrent request has the key, or has finished since `once` looked.
    """
    asked = None if key is None else await _asked(request, data, key)
    async with app_context(request).db.transaction() as tx:
        if asked:
            await _lock(tx, asked)
        yield tx
        if asked:
            await _keep(tx, asked, request)


async def _asked(request: Request, data: Any, key: str) -> _Asked:
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


async def _lock(tx: Transaction, asked: _Asked) -> None:
    if not await store.lock_key(tx, program_id=asked.program_id, key_hash=asked.key_hash) or await _find(tx, asked):
        raise IdempotencyKeyInUse


async def _keep(tx: Transaction, asked: _Asked, request: Request) -> None:
    caller, body = request.scope["user"], b"" if tx.answer is None else msgspec.json.encode(tx.answer)
    kept = await store.insert_answer(
        tx,
        program_id=asked.program_id,
        key_hash=asked.key_hash,
        user_id=getattr(tx.answer, "id", None) or (caller and caller.user_id),  # a new user is the answer
        answer=Answer(asked.fingerprints[0], request.route_handler.status_code, body),
    )
    if not kept:
        raise IdempotencyKeyInUse
