"""Minting, replacing and revoking a code, and the lookup that most requests are."""

import secrets
from collections.abc import Iterator
from datetime import date, datetime

import asyncpg
import msgspec
from msgspec import Struct

from invitree.base.emails import parse_email
from invitree.base.problems import CodeActive, CodeNotFound, EmailNotConfirmed, InvalidInput, Text, Unauthenticated
from invitree.codes import store
from invitree.codes.rules import ALPHABET, Refused, expiry_for, instant_for, is_rude, spell
from invitree.codes.store import Code, Owner
from invitree.events.store import Author, Kind, insert_event
from invitree.kit.cache import Cache
from invitree.kit.db import Queryable
from invitree.kit.listen import announce
from invitree.kit.resources import Resources
from invitree.programs.store import Program

TOPIC = "codes"
LATER_THAN_TODAY = Text("It must be later than today.", "Дата должна быть позже сегодняшней.")
IN_THE_FUTURE = Text("It must be in the future.", "Время должно быть в будущем.")


class CodeChanged(Struct, frozen=True, array_like=True):
    """What every process hears when a user's live code is another, or none."""

    program_id: int
    email_key: str
    code: Code | None


def _cache(here: Resources) -> Cache[tuple[int, str], Code]:
    return here.caches[TOPIC]


def expiry_of_day(last_day: date, *, program: Program, now: datetime) -> datetime:
    """Return when a code good through a day dies. Raises InvalidInput on `expiration_date`."""
    answer = expiry_for(last_day, now=now, zone=program.zone, longest=program.longest_code_life)
    return _accepted("expiration_date", answer, LATER_THAN_TODAY, program)


def expiry_of_instant(expires_at: datetime, *, program: Program, now: datetime) -> datetime:
    """Return when a code good until an instant dies. Raises InvalidInput on `expires_at`."""
    answer = instant_for(expires_at, now=now, longest=program.longest_code_life)
    return _accepted("expires_at", answer, IN_THE_FUTURE, program)


def _accepted(field: str, answer: datetime | Refused, too_early: Text, program: Program) -> datetime:
    if isinstance(answer, datetime):
        return answer
    days = program.longest_code_life_days
    too_far = Text(f"A code lives {days} days at most.", f"Код живёт не дольше {days} дней.")
    raise InvalidInput({field: [too_early if answer is Refused.NOT_IN_THE_FUTURE else too_far]})


async def create_code(
    here: Resources, *, program: Program, user_id: int, expires_at: datetime, replace: bool, by: Author
) -> Code:
    """Mint the live code of a user. Raises CodeActive where there is one, unless it is to be replaced.

    Raises EmailNotConfirmed where the program asks for confirmed addresses and the user's is not: whoever signs up with
    somebody else's address gets no code in that name.
    """
    async with here.db.transaction() as tx:
        owner = await _lock(tx, program.id, user_id)
        if program.activation == "required" and not owner.is_confirmed:
            raise EmailNotConfirmed
        replaced = replace and await store.revoke(tx, program_id=program.id, user_id=user_id)
        await store.revoke_expired(tx, program_id=program.id, user_id=user_id)
        code = await _insert(tx, program, user_id, expires_at)
        kind: Kind = "code.replaced" if replaced else "code.created"
        await insert_event(tx, program_id=program.id, kind=kind, user_id=user_id, by=by)
        await announce(tx, topic=TOPIC, news=CodeChanged(program.id, owner.email_key, code))
    _settle(here, program.id, owner.email_key, code)
    return code


async def delete_code(here: Resources, *, program_id: int, user_id: int, by: Author) -> None:
    """Revoke the live code of a user, for everybody from the commit on. Raises CodeNotFound."""
    async with here.db.transaction() as tx:
        owner = await _lock(tx, program_id, user_id)
        if not await store.revoke(tx, program_id=program_id, user_id=user_id):
            raise CodeNotFound
        await insert_event(tx, program_id=program_id, kind="code.deleted", user_id=user_id, by=by)
        await announce(tx, topic=TOPIC, news=CodeChanged(program_id, owner.email_key, None))
    _settle(here, program_id, owner.email_key, None)


async def revoke_with_account(tx: Queryable, *, program_id: int, user_id: int, email_key: str) -> None:
    """Revoke the code of a user whose account, locked in this transaction, is being closed."""
    await store.revoke(tx, program_id=program_id, user_id=user_id)
    await announce(tx, topic=TOPIC, news=CodeChanged(program_id, email_key, None))


async def get_open_code(here: Resources, *, program_id: int, email: str) -> Code:
    """Return the live code of the person with this address. Raises CodeNotFound, whatever the reason."""
    address = parse_email(email)
    if address is None:
        raise CodeNotFound
    cache, key = _cache(here), (program_id, address.key)
    if cached := cache.get(key, now=here.clock.now()):
        return cached
    ticket = cache.ticket(key)
    code = await store.find_open_code(here.db, program_id=program_id, email_key=address.key)
    if code is None:
        raise CodeNotFound
    cache.fill(key, code, ticket=ticket, expires_at=code.expires_at)
    return code


def forget(here: Resources, *, program_id: int, email_key: str) -> None:
    """Forget, in this process, the code of an account that was closed; the news of it may still be on its way to us."""
    _settle(here, program_id, email_key, None)


def heard(cache: Cache[tuple[int, str], Code], news: bytes) -> None:
    """Take over what a commit, of this or another process, made of a user's live code."""
    change = msgspec.json.decode(news, type=CodeChanged)
    expires_at = change.code.expires_at if change.code else None
    cache.change((change.program_id, change.email_key), change.code, expires_at=expires_at)


def heard_of_address(cache: Cache[tuple[int, str], Code], news: bytes) -> None:
    """Forget what was found under an address that its user has no longer."""
    cache.change(msgspec.json.decode(news, type=tuple[int, str]), None)


def _settle(here: Resources, program_id: int, email_key: str, code: Code | None) -> None:
    """Forget, in this process, what the commit has ended; the news of it may still be on its way to us."""
    cache, key = _cache(here), (program_id, email_key)
    if code is None or cache.get(key, now=here.clock.now()) != code:
        cache.change(key, None)


async def _lock(tx: Queryable, program_id: int, user_id: int) -> Owner:
    owner = await store.lock_owner(tx, program_id=program_id, user_id=user_id)
    if owner is None:
        raise Unauthenticated  # deactivated since the request began
    return owner


async def _insert(tx: Queryable, program: Program, user_id: int, expires_at: datetime) -> Code:
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
    """Yield random codes for ever, none of them rude."""
    while True:
        code = spell(secrets.randbelow(len(ALPHABET)) for _ in range(length))
        if not is_rude(code):
            yield code
