"""Which program a request means, and what changes one."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from invitree.kit.cache import Cache
from invitree.kit.db import Database
from invitree.kit.listen import announce
from invitree.kit.resources import Resources
from invitree.programs import store
from invitree.programs.rules import DEFAULT_SLUG, complaint
from invitree.programs.store import Program

TOPIC = "programs"


class UnknownProgram(LookupError):
    """There is no such program."""


class BadPolicy(ValueError):
    """The policy cannot be; the message says why."""


async def get_program(here: Resources, program_id: int) -> Program:
    """Return a program, from memory where it is there. Raises UnknownProgram."""
    return await _get(here, program_id, lambda: store.find_program(here.db, program_id=program_id))


async def get_default_program(here: Resources) -> Program:
    """Return the program of a request that names none. Raises UnknownProgram."""
    return await _get(here, DEFAULT_SLUG, lambda: store.find_program_by_slug(here.db, slug=DEFAULT_SLUG))


async def _get(here: Resources, key: int | str, find: Callable[[], Awaitable[Program | None]]) -> Program:
    cache: Cache[int | str, Program] = here.caches[TOPIC]
    if cached := cache.get(key, now=here.clock.now()):
        return cached
    ticket = cache.ticket(key)
    program = await find()
    if program is None:
        raise UnknownProgram(key)
    cache.fill(key, program, ticket=ticket)
    return program


async def set_policy(db: Database, *, program_id: int, **changes: Any) -> Program:
    """Change what is given of a program's policy, for every process from the commit on.

    Raises BadPolicy or UnknownProgram.
    """
    async with db.transaction() as tx:
        program = await store.lock_program(tx, program_id=program_id)
        if program is None:
            raise UnknownProgram(program_id)
        changed = msgspec.structs.replace(program, **changes)
        policy: dict[str, Any] = {
            "time_zone": changed.time_zone,
            "code_length": changed.code_length,
            "longest_code_life_days": changed.longest_code_life_days,
            "referral_list": changed.referral_list,
        }
        if why := complaint(**policy):
            raise BadPolicy(why)
        await store.update_program(tx, program_id=program_id, **policy)
        await announce(tx, topic=TOPIC, news=[program.id, program.slug])
    return changed


def heard(cache: Cache[int | str, Program], news: bytes) -> None:
    """Forget a program that was changed."""
    for key in msgspec.json.decode(news, type=tuple[int, str]):
        cache.change(key, None)
