"""Creating, replacing and revoking codes, and looking them up, which most requests do."""

import secrets
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct

from invitree.base.emails import parse_email
from invitree.base.problems import InvalidInput, Text, Unauthenticated
from invitree.identity.audit.store import Actor, Kind, insert_event
from invitree.identity.programs.store import Program
from invitree.kit.context import AppContext
from invitree.kit.data.cache import Cache, Ticket
from invitree.kit.data.db import Transaction
from invitree.kit.data.notifications import notify
from invitree.sharing.codes import store
from invitree.sharing.codes.problems import CodeActive, CodeNotFound, EmailNotConfirmed
from invitree.sharing.codes.rules import ALPHABET, Refused, expiry_for, instant_for, is_rude, spell
from invitree.sharing.codes.store import Code, Owner

TOPIC = "codes"
OWNERS = "owners of codes"  # a cache without notifications
LATER_THAN_TODAY = Text("It must be later than today.", "Дата должна быть позже сегодняшней.")
IN_THE_FUTURE = Text("It must be in the future.", "Время должно быть в будущем.")


class CodeChanged(Struct, frozen=True, array_like=True):
    """The notification that a user's active code was replaced or revoked; `at` is the id of the audit event."""

    program_id: int
    email_key: str
    code: Code | None
    at: int


class CachedCode(Struct):
    """A cached active code, and the response to a lookup of it once there was one."""

    code: Code
    shown: tuple[Program, Any] | None = None


Codes = Cache[tuple[int, str], CachedCode]
"""Active codes by program and the owner's email key."""


def _code_cache(ctx: AppContext) -> Codes:
    return ctx.caches[TOPIC]


def expiry_of_day(last_day: date, *, program: Program, now: datetime) -> datetime:
    """Return when a code valid through a day expires. Raises InvalidInput on `expiration_date`."""
    expiry = expiry_for(last_day, now=now, zone=program.zone, longest=program.longest_code_life)
    return _checked("expiration_date", expiry, LATER_THAN_TODAY, program)


def expiry_of_instant(expires_at: datetime, *, program: Program, now: datetime) -> datetime:
    """Return when a code valid until an instant expires. Raises InvalidInput on `expires_at`."""
    expiry = instant_for(expires_at, now=now, longest=program.longest_code_life)
    return _checked("expires_at", expiry, IN_THE_FUTURE, program)


def _checked(field: str, expiry: datetime | Refused, too_early: Text, program: Program) -> datetime:
    if isinstance(expiry, datetime):
        return expiry
    days = program.longest_code_life_days
    too_far = Text(f"A code lives {days} days at most.", f"Код живёт не дольше {days} дней.")
    raise InvalidInput({field: [too_early if expiry is Refused.NOT_IN_THE_FUTURE else too_far]})


async def create_code(
    tx: Transaction, *, program: Program, user_id: int, expires_at: datetime, replace: bool, actor: Actor
) -> Code:
    """Create a user's code. Raises CodeActive if the user has one, unless it is to be replaced.

    Raises EmailNotConfirmed if the program requires confirmed addresses and the user's is not: nobody gets a code under
    somebody else's address.
    """
    owner = await _lock(tx, program.id, user_id)
    if program.activation == "required" and not owner.is_confirmed:
        raise EmailNotConfirmed
    replaced = replace and await store.revoke(tx, program_id=program.id, user_id=user_id)
    await store.revoke_expired(tx, program_id=program.id, user_id=user_id)
    code = await _insert(tx, program, user_id, expires_at)
    kind: Kind = "code.replaced" if replaced else "code.created"
    at = await insert_event(tx, program_id=program.id, kind=kind, user_id=user_id, actor=actor)
    await notify(tx, topic=TOPIC, payload=CodeChanged(program.id, owner.email_key, code, at))
    return code


async def delete_code(ctx: AppContext, *, program_id: int, user_id: int, actor: Actor) -> None:
    """Revoke a user's active code, with effect from the commit in all processes. Raises CodeNotFound."""
    async with ctx.db.transaction() as tx:
        owner = await _lock(tx, program_id, user_id)
        if not await store.revoke(tx, program_id=program_id, user_id=user_id):
            raise CodeNotFound
        at = await insert_event(tx, program_id=program_id, kind="code.deleted", user_id=user_id, actor=actor)
        await notify(tx, topic=TOPIC, payload=CodeChanged(program_id, owner.email_key, None, at))


async def revoke_with_account(tx: Transaction, *, program_id: int, user_id: int, email_key: str, at: int) -> None:
    """Revoke the code of a user whose account is being closed; `at` is the id of the audit event.

    The account must be locked in this transaction.
    """
    await store.revoke(tx, program_id=program_id, user_id=user_id)
    await notify(tx, topic=TOPIC, payload=CodeChanged(program_id, email_key, None, at))


async def notify_code_gone(tx: Transaction, *, program_id: int, email_key: str) -> None:
    """Invalidate a user's active code in the caches of all processes."""
    await notify(tx, topic=TOPIC, payload=CodeChanged(program_id, email_key, None, at=0))


def cached_code(ctx: AppContext, *, program_id: int, email_key: str) -> CachedCode | None:
    """Return a user's active code if it is cached."""
    return _code_cache(ctx).get((program_id, email_key), now=ctx.clock.seconds())


def cached_code_by_text(ctx: AppContext, *, program_id: int, text: str) -> CachedCode | None:
    """Return the active code with exactly this spelling if it is cached."""
    email_key = _owner_cache(ctx).get((program_id, text), now=0)
    cached = cached_code(ctx, program_id=program_id, email_key=email_key) if email_key else None
    return cached if cached and cached.code.code == text else None


async def get_active_code(ctx: AppContext, *, program_id: int, email: str) -> CachedCode:
    """Return the active code of the user with this address. Raises CodeNotFound, whatever the reason."""
    address = parse_email(email)
    if address is None:
        raise CodeNotFound
    if cached := cached_code(ctx, program_id=program_id, email_key=address.key):
        return cached
    ticket = _code_cache(ctx).ticket()
    code = await store.find_active_code(ctx.db, program_id=program_id, email_key=address.key)
    if code is None:
        raise CodeNotFound
    return _fill_cache(ctx, program_id, address.key, code, ticket)


async def find_active_code_by_text(ctx: AppContext, *, program_id: int, text: str) -> Code | None:
    """Return the active code meant by a text, look-alikes included. The cache only knows exact spellings."""
    if cached := cached_code_by_text(ctx, program_id=program_id, text=text):
        return cached.code
    ticket = _code_cache(ctx).ticket()
    owned = await store.find_active_code_by_text(ctx.db, program_id=program_id, code=text)
    if owned is None:
        return None
    # A code's owner never changes. Whether it is active is left to the cache that gets notifications.
    _owner_cache(ctx).fill((program_id, owned.code.code), owned.email_key, ticket=_owner_cache(ctx).ticket())
    _fill_cache(ctx, program_id, owned.email_key, owned.code, ticket)
    return owned.code


def _owner_cache(ctx: AppContext) -> Cache[tuple[int, str], str]:
    return ctx.caches[OWNERS]


def _fill_cache(ctx: AppContext, program_id: int, email_key: str, code: Code, ticket: Ticket) -> CachedCode:
    cached = CachedCode(code)
    _code_cache(ctx).fill((program_id, email_key), cached, ticket=ticket, expires_at=code.expires_at.timestamp())
    return cached


def apply_notification(ctx: AppContext, payload: bytes) -> None:
    """Apply a committed change, of this or another process, to the cached code."""
    change = msgspec.json.decode(payload, type=CodeChanged)
    key = (change.program_id, change.email_key)
    if change.code is None:
        _code_cache(ctx).change(key, at=change.at)
    else:
        expires_at = change.code.expires_at.timestamp()
        _code_cache(ctx).replace(key, CachedCode(change.code), expires_at=expires_at, at=change.at)


def invalidate(ctx: AppContext, payload: bytes) -> None:
    """Invalidate a code after a commit of this process. The new code is not cached: it may be revoked by now."""
    change = msgspec.json.decode(payload, type=CodeChanged)
    _code_cache(ctx).change((change.program_id, change.email_key), at=change.at)


def invalidate_address(ctx: AppContext, payload: bytes) -> None:
    """Invalidate the code cached under a user's previous address."""
    program_id, email_key, at = msgspec.json.decode(payload, type=tuple[int, str, int])
    _code_cache(ctx).change((program_id, email_key), at=at)


async def _lock(tx: Transaction, program_id: int, user_id: int) -> Owner:
    owner = await store.lock_owner(tx, program_id=program_id, user_id=user_id)
    if owner is None:
        raise Unauthenticated  # deactivated after the request was authenticated
    return owner


async def _insert(tx: Transaction, program: Program, user_id: int, expires_at: datetime) -> Code:
    for text in candidates(program.code_length):
        try:
            code = await store.insert_code(tx, program_id=program.id, user_id=user_id, code=text, expires_at=expires_at)
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name == "codes_one_live":
                raise CodeActive from None
            raise
        if code is not None:
            return code
    raise AssertionError("candidates never end")


def candidates(length: int) -> Iterator[str]:
    """Yield random codes without rude words, endlessly."""
    while True:
        code = spell(secrets.randbelow(len(ALPHABET)) for _ in range(length))
        if not is_rude(code):
            yield code
