"""Beginning, proving, continuing and ending a session."""

import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import structlog
from msgspec import Meta, Struct, structs

from invitree.base.problems import NotFound, TokenNotValid
from invitree.base.tokens import format_token, is_drf_token, program_id_of_token
from invitree.identity.audit.store import Actor, insert_event, occurred_within_hour
from invitree.identity.auth import store
from invitree.identity.auth.rules import (
    MAX_SESSIONS,
    REFRESH_TTL,
    AccessClaims,
    RefreshDecision,
    access_claims,
    decide_refresh,
    read_access_claims,
)
from invitree.identity.auth.store import Family, Principal, RefreshToken, UserSession
from invitree.identity.email.actions import send_notice
from invitree.identity.programs.store import Program
from invitree.kit.client_info import ClientInfo
from invitree.kit.context import AppContext
from invitree.kit.data.cache import Cache
from invitree.kit.data.db import OUTAGES, Queryable, Transaction
from invitree.kit.data.notifications import notify
from invitree.kit.limits.rate_limiter import limit
from invitree.kit.secrets.keys import Keyring, new_token

# Announced when a user's sessions end, or the user is another: what is remembered of the user is not to be used.
TOPIC = "users"
_REMEMBERED_S = 10.0
_log = structlog.get_logger()

_Home = Callable[[], Awaitable[Program]]
_Recognized = tuple[UserSession | None, float]
"""Who it is, and until when that may be remembered of the header."""


class TokenPair(Struct, frozen=True):
    """A refresh token and an access token of one session."""

    refresh: Annotated[
        str,
        Meta(
            description="Opaque, good once within 30 days.", examples=["1.j_yJQu7CUGdV6aSmlnKMI3UYUmRG3r8BcCqk0B4wwP0"]
        ),
    ]
    access: Annotated[str, Meta(description="A JWT, good for 5 minutes.", examples=["eyJ0eXAiOiJKV1Qi…"])]
    refresh_expires_at: datetime
    access_expires_at: datetime


class _Refresh(Struct, frozen=True):
    """A refresh token and when it ends."""

    text: str
    expires_at: datetime


async def open_token_session(
    db: Queryable,
    ctx: AppContext,
    *,
    program_id: int,
    user_id: int,
    origin: ClientInfo,
    password_hash: str | None = None,
) -> str | None:
    """Begin a session on a device and return its opaque token.

    With the hash of the password that was proved: None where it is another by now.
    """
    token = format_token(program_id=program_id, secret=new_token())
    session_id = await store.insert_session(
        db,
        program_id=program_id,
        user_id=user_id,
        password_hash=password_hash,
        token_hash=ctx.keys.hash(token),
        device=origin.device,
        ip_prefix=origin.ip_prefix,
    )
    return token if session_id else None


async def open_jwt_session(
    tx: Queryable,
    ctx: AppContext,
    *,
    program_id: int,
    user_id: int,
    origin: ClientInfo,
    password_hash: str | None = None,
) -> TokenPair | None:
    """Begin a session that lives by refresh tokens and return its first pair.

    With the hash of the password that was proved: None where it is another by now.
    """
    session_id = await store.insert_session(
        tx,
        program_id=program_id,
        user_id=user_id,
        password_hash=password_hash,
        token_hash=None,
        device=origin.device,
        ip_prefix=origin.ip_prefix,
    )
    if session_id is None:
        return None
    refresh = format_token(program_id=program_id, secret=new_token())
    expires_at = await store.insert_refresh_token(
        tx,
        program_id=program_id,
        session_id=session_id,
        parent_id=None,
        token_hash=ctx.keys.hash(refresh),
        ttl=REFRESH_TTL,
    )
    return _pair(ctx, program_id, Family(session_id=session_id, user_id=user_id), _Refresh(refresh, expires_at))


def cached_principal(ctx: AppContext, authorization: str) -> Principal | None:
    """Return who an `Authorization` header was found to speak for in the last seconds.

    Good enough to be shown something, and not to write: a session that another process ends is remembered here until
    the news arrives, which is within a second.
    """
    return _principals(ctx).get(authorization, now=ctx.clock.seconds())


async def find_principal(ctx: AppContext, authorization: str, *, home: _Home) -> Principal | None:
    """Return who an `Authorization` header speaks for, or None where it proves nothing.

    `home` says which program a token belongs to that names none: those of the Django service.
    """
    scheme, _, token = authorization.strip().partition(" ")
    ticket = _principals(ctx).ticket()
    for recognize in RECOGNIZERS.get(scheme.lower(), ()):
        principal, ends = await recognize(ctx, token.strip(), home)
        if principal is not None:
            if not principal.is_outdated and ends:
                ends = min(ends, ctx.clock.seconds() + _REMEMBERED_S)
                owner = (principal.program_id, principal.user_id)
                _principals(ctx).fill(authorization, principal, ticket=ticket, expires_at=ends, owner=owner)
            return principal
    return None


async def _opaque_token(ctx: AppContext, token: str, home: _Home) -> _Recognized:
    is_drf = is_drf_token(token)
    program_id = (await home()).id if is_drf else program_id_of_token(token)
    if program_id is None:
        return None, 0
    found = await store.find_session_by_token(ctx.db, program_id=program_id, hashes=ctx.keys.hashes(token))
    return found, 0 if is_drf else math.inf  # whose that of the Django service is depends on more than the header


async def _access_token(ctx: AppContext, token: str, _home: _Home) -> _Recognized:
    claims = read_access_claims(ctx.keys.verify(token), now=ctx.clock.now())
    return (await _session_of(ctx, claims), claims.exp) if claims else (None, 0)


# Who tries credentials of a scheme, in turn. None is for "not mine", or for what proves nothing.
RECOGNIZERS = {"token": (_opaque_token,), "jwt": (_access_token,), "bearer": (_access_token,)}


def _principals(ctx: AppContext) -> Cache[str, Principal]:
    return ctx.caches[TOPIC]


def invalidate(ctx: AppContext, payload: bytes) -> None:
    """Forget whom a commit, of this or another process, has changed or logged out."""
    _principals(ctx).change(msgspec.json.decode(payload, type=tuple[int, int]))


async def notify_user_changed(tx: Transaction, *, program_id: int, user_id: int) -> None:
    """Have every process forget what it knows of a user, who is another after this transaction, or logged out."""
    await notify(tx, topic=TOPIC, payload=(program_id, user_id))


async def end_all_sessions(tx: Transaction, *, program_id: int, user_id: int, but: int | None = None) -> None:
    """End every session of a user, but the one with the id that may be given."""
    await store.delete_sessions(tx, program_id=program_id, user_id=user_id, but=but)
    await notify_user_changed(tx, program_id=program_id, user_id=user_id)


async def touch_session(ctx: AppContext, session: UserSession, *, authorization: str, ip_prefix: str) -> None:
    """Write down that a session is in use. Where the database takes no writes, reading goes on without."""
    scheme, _, token = authorization.strip().partition(" ")
    token_hash = ctx.keys.hash(token.strip()) if scheme.lower() == "token" else None
    try:
        await store.touch_session(
            ctx.db,
            program_id=session.program_id,
            session_id=session.session_id,
            ip_prefix=ip_prefix,
            token_hash=token_hash,
        )
    except OUTAGES as error:
        _log.warning("session.not_noted", reason=type(error).__name__)


async def _session_of(ctx: AppContext, claims: AccessClaims) -> UserSession | None:
    return await store.find_session(ctx.db, program_id=claims.pid, session_id=claims.session_id, user_id=claims.user_id)


async def verify(ctx: AppContext, token: str) -> None:
    """Return where an access token, or an unused refresh token, is good. Raises TokenNotValid."""
    claims = read_access_claims(ctx.keys.verify(token), now=ctx.clock.now())
    if claims and await _session_of(ctx, claims) is not None:
        return
    program_id = program_id_of_token(token)
    if program_id is not None:
        found = await store.find_refresh_token(ctx.db, program_id=program_id, hashes=ctx.keys.hashes(token))
        if found is not None and found.used_at is None and found.now < found.expires_at:
            return
    raise TokenNotValid


async def refresh(ctx: AppContext, token: str, *, origin: ClientInfo, scope: Any) -> TokenPair:
    """Return the pair that follows a refresh token, counted for the request of this ASGI scope.

    Raises TokenNotValid, and a stolen token's family dies; or TooManyRequests.
    """
    program_id = program_id_of_token(token)
    if program_id is None:
        raise TokenNotValid
    hashes = ctx.keys.hashes(token)
    # The death of a family must be committed, so the refusal is raised only after the transaction.
    async with ctx.db.transaction() as tx:
        family = await store.lock_family(tx, program_id=program_id, hashes=hashes)
        if family:
            most = limit("refresh", ctx.settings.limit_refresh, str(family.session_id))
            ctx.tally.count(scope, program_id, most)
        found = family and await store.find_refresh_token(tx, program_id=program_id, hashes=hashes)
        following = family and found and await _follow(tx, ctx.keys, program_id, family, found, token, origin)
    if not (family and following):
        raise TokenNotValid
    return _pair(ctx, program_id, family, following)


async def _follow(
    tx: Transaction, keys: Keyring, program_id: int, family: Family, found: RefreshToken, token: str, origin: ClientInfo
) -> _Refresh | None:
    """Return the successor of a locked refresh token, or None where it gets none."""
    successors = [format_token(program_id=program_id, secret=secret) for secret in keys.successors(token)]
    turn = decide_refresh(
        expires_at=found.expires_at, used_at=found.used_at, successor_unused=found.successor_unused, now=found.now
    )
    if turn is RefreshDecision.REPEAT:
        text = next((text for text in successors if found.successor_hash in keys.hashes(text)), None)
        return _Refresh(text, found.successor_expires_at) if text and found.successor_expires_at else None
    if turn is RefreshDecision.ROTATE and await store.use_refresh_token(tx, program_id=program_id, token_id=found.id):
        expires_at = await store.insert_refresh_token(
            tx,
            program_id=program_id,
            session_id=family.session_id,
            parent_id=found.id,
            token_hash=keys.hash(successors[0]),
            ttl=REFRESH_TTL,
        )
        return _Refresh(successors[0], expires_at)
    if turn is RefreshDecision.STOLEN:
        await _end_stolen(tx, program_id, family, origin)
    return None


async def _end_stolen(tx: Transaction, program_id: int, family: Family, origin: ClientInfo) -> None:
    _log.warning("refresh_token.reused", program_id=program_id, user_id=family.user_id)
    actor = Actor(actor="unknown", ip_prefix=origin.ip_prefix)
    # One letter an hour: whoever has the account could fill its mailbox by stealing from themselves.
    told = await occurred_within_hour(tx, program_id=program_id, user_id=family.user_id, kind="refresh_token.reused")
    await insert_event(tx, program_id=program_id, kind="refresh_token.reused", user_id=family.user_id, actor=actor)
    if not told:
        await send_notice(
            tx, kind="session_stolen", program_id=program_id, user_id=family.user_id, language=origin.language
        )
    await store.delete_session(tx, program_id=program_id, user_id=family.user_id, session_id=family.session_id)
    await notify_user_changed(tx, program_id=program_id, user_id=family.user_id)


async def evict_sessions(ctx: AppContext, *, program_id: int, user_id: int) -> None:
    """End the sessions of a user that were idle longest, where a login has made more than anybody needs.

    After the login's commit: of logins at once, the last to come here sees all of them.
    """
    if not await store.has_more_sessions(ctx.db, program_id=program_id, user_id=user_id, most=MAX_SESSIONS):
        return
    async with ctx.db.transaction() as tx:
        ended = await store.delete_idlest_sessions(tx, program_id=program_id, user_id=user_id, most=MAX_SESSIONS)
        await notify_user_changed(tx, program_id=program_id, user_id=user_id)
        for _ in range(ended):
            actor = Actor(actor="self", actor_id=user_id)
            await insert_event(tx, program_id=program_id, kind="session.evicted", user_id=user_id, actor=actor)


async def end_sessions(ctx: AppContext, *, program_id: int, user_id: int, only: int | None, actor: Actor) -> None:
    """End every session of a user, or only the one with an id. Raises NotFound where the user has no such session."""
    async with ctx.db.transaction() as tx:
        if only is None:
            await store.delete_sessions(tx, program_id=program_id, user_id=user_id)
        elif not await store.delete_session(tx, program_id=program_id, user_id=user_id, session_id=only):
            raise NotFound
        await notify_user_changed(tx, program_id=program_id, user_id=user_id)
        await insert_event(tx, program_id=program_id, kind="session.ended", user_id=user_id, actor=actor)


async def revoke_family(ctx: AppContext, token: str, *, origin: ClientInfo) -> None:
    """End the session of a refresh token; one that is not known is no error (RFC 7009, 2.2)."""
    program_id = program_id_of_token(token)
    if program_id is None:
        return
    async with ctx.db.transaction() as tx:
        user_id = await store.delete_family(tx, program_id=program_id, hashes=ctx.keys.hashes(token))
        if user_id is not None:
            actor = Actor(actor="self", actor_id=user_id, ip_prefix=origin.ip_prefix)
            await insert_event(tx, program_id=program_id, kind="session.ended", user_id=user_id, actor=actor)
            await notify_user_changed(tx, program_id=program_id, user_id=user_id)


def _pair(ctx: AppContext, program_id: int, family: Family, refresh: _Refresh) -> TokenPair:
    claims = access_claims(
        program_id=program_id,
        user_id=family.user_id,
        session_id=family.session_id,
        nonce=new_token()[:12],
        now=ctx.clock.now(),
    )
    # Clients of simplejwt read these two; since 5.5 it writes the id as a string.
    access = ctx.keys.sign({**structs.asdict(claims), "user_id": claims.sub, "token_type": claims.typ})
    return TokenPair(refresh.text, access, refresh.expires_at, datetime.fromtimestamp(claims.exp, UTC))
