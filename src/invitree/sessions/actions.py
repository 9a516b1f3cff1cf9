"""Beginning, proving, continuing and ending a session."""

from typing import Annotated

import structlog
from msgspec import Meta, Struct, structs

from invitree.base.problems import TokenNotValid
from invitree.kit.db import Queryable
from invitree.kit.keys import Keyring, new_token
from invitree.kit.resources import Resources
from invitree.sessions import store
from invitree.sessions.rules import (
    REFRESH_LIFE,
    Turn,
    access_claims,
    program_of,
    read_access_claims,
    seal,
    turn_for,
)
from invitree.sessions.store import Caller, Family, RefreshToken

_log = structlog.get_logger()


class Pair(Struct, frozen=True):
    """A refresh token and an access token of one session."""

    refresh: Annotated[
        str,
        Meta(
            description="Opaque, good once within 30 days.", examples=["1.j_yJQu7CUGdV6aSmlnKMI3UYUmRG3r8BcCqk0B4wwP0"]
        ),
    ]
    access: Annotated[str, Meta(description="A JWT, good for 5 minutes.", examples=["eyJ0eXAiOiJKV1Qi…"])]


async def open_token_session(here: Resources, *, program_id: int, user_id: int) -> str:
    """Begin a session on a device and return its opaque token."""
    token = seal(program_id=program_id, secret=new_token())
    await store.insert_session(here.db, program_id=program_id, user_id=user_id, token_hash=here.keys.hash(token))
    return token


async def open_jwt_session(here: Resources, *, program_id: int, user_id: int) -> Pair:
    """Begin a session that lives by refresh tokens and return its first pair."""
    refresh = seal(program_id=program_id, secret=new_token())
    async with here.db.transaction() as tx:
        session_id = await store.insert_session(tx, program_id=program_id, user_id=user_id, token_hash=None)
        await store.insert_refresh_token(
            tx,
            program_id=program_id,
            session_id=session_id,
            parent_id=None,
            token_hash=here.keys.hash(refresh),
            life=REFRESH_LIFE,
        )
    return Pair(refresh, _access(here, program_id, Family(session_id=session_id, user_id=user_id)))


async def find_caller(here: Resources, authorization: str) -> Caller | None:
    """Return who an `Authorization` header speaks for, or None where it proves nothing."""
    scheme, _, token = authorization.strip().partition(" ")
    match scheme.lower():
        case "token":
            return await _caller_by_token(here, token.strip())
        case "jwt" | "bearer":
            return await _caller_by_access(here, token.strip())
    return None


async def _caller_by_token(here: Resources, token: str) -> Caller | None:
    program_id = program_of(token)
    if program_id is None:
        return None
    return await store.find_caller_by_token(here.db, program_id=program_id, hashes=here.keys.hashes(token))


async def _caller_by_access(here: Resources, token: str) -> Caller | None:
    claims = read_access_claims(here.keys.verify(token), now=here.clock.now())
    if claims is None:
        return None
    return await store.find_caller_by_session(
        here.db, program_id=claims.pid, session_id=claims.session_id, user_id=claims.user_id
    )


async def verify(here: Resources, token: str) -> None:
    """Return where an access token, or an unused refresh token, is good. Raises TokenNotValid."""
    if await _caller_by_access(here, token) is not None:
        return
    program_id = program_of(token)
    if program_id is not None:
        found = await store.find_refresh_token(here.db, program_id=program_id, hashes=here.keys.hashes(token))
        if found is not None and found.used_at is None and found.now < found.expires_at:
            return
    raise TokenNotValid


async def refresh(here: Resources, token: str) -> Pair:
    """Return the pair that follows a refresh token. Raises TokenNotValid; a stolen token's family dies."""
    program_id = program_of(token)
    if program_id is None:
        raise TokenNotValid
    hashes = here.keys.hashes(token)
    # The death of a family must be committed, so the refusal is raised only after the transaction.
    async with here.db.transaction() as tx:
        family = await store.lock_family(tx, program_id=program_id, hashes=hashes)
        found = family and await store.find_refresh_token(tx, program_id=program_id, hashes=hashes)
        following = family and found and await _follow(tx, here.keys, program_id, family, found, token)
    if not (family and following):
        raise TokenNotValid
    return Pair(following, _access(here, program_id, family))


async def _follow(
    tx: Queryable, keys: Keyring, program_id: int, family: Family, found: RefreshToken, token: str
) -> str | None:
    """Return the successor of a locked refresh token, or None where it gets none."""
    successors = [seal(program_id=program_id, secret=secret) for secret in keys.successors(token)]
    turn = turn_for(
        expires_at=found.expires_at, used_at=found.used_at, successor_unused=found.successor_unused, now=found.now
    )
    if turn is Turn.REPEAT:
        return next((text for text in successors if found.successor_hash in keys.hashes(text)), None)
    if turn is Turn.ROTATE and await store.use_refresh_token(tx, program_id=program_id, token_id=found.id):
        await store.insert_refresh_token(
            tx,
            program_id=program_id,
            session_id=family.session_id,
            parent_id=found.id,
            token_hash=keys.hash(successors[0]),
            life=REFRESH_LIFE,
        )
        return successors[0]
    if turn is Turn.STOLEN:
        _log.warning("refresh_token.reused", program_id=program_id, user_id=family.user_id)
        await store.delete_session(tx, program_id=program_id, session_id=family.session_id)
    return None


async def close_family(here: Resources, token: str) -> None:
    """End the session of a refresh token; one that is not known is no error (RFC 7009, 2.2)."""
    program_id = program_of(token)
    if program_id is not None:
        await store.delete_family(here.db, program_id=program_id, hashes=here.keys.hashes(token))


def _access(here: Resources, program_id: int, family: Family) -> str:
    claims = access_claims(
        program_id=program_id,
        user_id=family.user_id,
        session_id=family.session_id,
        nonce=new_token()[:12],
        now=here.clock.now(),
    )
    return here.keys.sign(structs.asdict(claims))
