"""The floor: a bare ASGI function that asks the same questions and writes the same answers, and does nothing else.

No framework, no authentication, no limits, no cache, no timeouts. What the service costs beyond this is its own doing.
"""

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

import asyncpg
import msgspec

from bench.data import STAR
from invitree.base.settings import read_settings
from invitree.identity.audit.store import Actor, Kind, insert_event
from invitree.kit.clock import Clock
from invitree.kit.web.paging import LARGEST_ID
from invitree.sharing.codes import store as codes
from invitree.sharing.codes.actions import TOPIC, CodeChanged, candidates
from invitree.sharing.codes.api import CheckOut, CodeOut
from invitree.sharing.codes.rules import last_day_of
from invitree.sharing.codes.store import Code
from invitree.sharing.referrals import store as referrals
from invitree.sharing.referrals.api import ReferralOut

_PROGRAM, _UTC, _PAGE = 1, ZoneInfo("UTC"), 20
_encode = msgspec.json.Encoder().encode
_pools: list[Any] = []


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer `GET /lookup/EMAIL`, `/check/CODE` and `/referrals?after=ID`, `POST` and `DELETE /code/USER`."""
    if scope["type"] == "lifespan":
        await receive()
        settings = read_settings(os.environ)
        _pools.append(await asyncpg.create_pool(settings.database_url, max_size=settings.pool_size, reset=_keep))
        await send({"type": "lifespan.startup.complete"})
        return
    _, what, *rest = scope["path"].split("/")
    status, answer = await _ANSWERS[scope["method"], what](_pools[0], scope, *rest)
    body = b"" if answer is None else _encode(answer)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _keep(_connection: Any) -> None:
    """Hand a connection back as it is."""


async def _live(_db: Any, _scope: Any) -> tuple[int, Any]:
    return 200, None


async def _look_up(db: Any, _scope: Any, email: str) -> tuple[int, Any]:
    code = await codes.find_active_code(db, program_id=_PROGRAM, email_key=email)
    return (200, _shown(code)) if code else (404, None)


async def _check(db: Any, _scope: Any, code: str) -> tuple[int, Any]:
    found = await codes.find_active_code_by_text(db, program_id=_PROGRAM, code=code)
    return 200, CheckOut(valid=True, expires_at=found.code.expires_at) if found else CheckOut(valid=False)


async def _list(db: Any, scope: Any) -> tuple[int, Any]:
    after = int(parse_qs(scope["query_string"].decode()).get("after", [str(LARGEST_ID)])[0])
    people = await referrals.list_referrals(db, program_id=_PROGRAM, referrer_id=STAR, before=after, limit=_PAGE + 1)
    shown = [ReferralOut(email=one.email, id=one.user_id, registered_at=one.registered_at) for one in people[:_PAGE]]
    return 200, shown


async def _create(db: Any, _scope: Any, user: str) -> tuple[int, Any]:
    user_id, text, expires_at = int(user), next(candidates(10)), Clock().now() + timedelta(days=30)
    async with db.acquire() as tx, tx.transaction():
        owner = await codes.lock_owner(tx, program_id=_PROGRAM, user_id=user_id)
        await codes.revoke_expired(tx, program_id=_PROGRAM, user_id=user_id)
        code = await codes.insert_code(tx, program_id=_PROGRAM, user_id=user_id, code=text, expires_at=expires_at)
        await _tell(tx, user_id, owner, code)
    return 201, code and _shown(code)


async def _delete(db: Any, _scope: Any, user: str) -> tuple[int, Any]:
    user_id = int(user)
    async with db.acquire() as tx, tx.transaction():
        owner = await codes.lock_owner(tx, program_id=_PROGRAM, user_id=user_id)
        await codes.revoke(tx, program_id=_PROGRAM, user_id=user_id)
        await _tell(tx, user_id, owner, None)
    return 204, None


async def _tell(tx: Any, user_id: int, owner: codes.Owner | None, code: Code | None) -> None:
    actor = Actor(actor="self", actor_id=user_id)
    kind: Kind = "code.created" if code else "code.deleted"
    at = await insert_event(tx, program_id=_PROGRAM, kind=kind, user_id=user_id, actor=actor)
    news = _encode(CodeChanged(_PROGRAM, owner.email_key if owner else "", code, at)).decode()
    await tx.execute("SELECT pg_notify($1, $2)", f"invitree_{TOPIC}", news)


def _shown(code: Code) -> CodeOut:
    return CodeOut(code=code.code, expiration_date=last_day_of(code.expires_at, zone=_UTC), expires_at=code.expires_at)


_ANSWERS: dict[tuple[str, str], Callable[..., Awaitable[tuple[int, Any]]]] = {
    ("GET", "healthz"): _live,
    ("GET", "lookup"): _look_up,
    ("GET", "check"): _check,
    ("GET", "referrals"): _list,
    ("POST", "code"): _create,
    ("DELETE", "code"): _delete,
}
