"""Which program a request means, and what changes one."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import msgspec

from invitree.base.origins import parse_origins
from invitree.identity.programs import store
from invitree.identity.programs.problems import UnknownProgram
from invitree.identity.programs.rules import host_of, is_slug, policy_error
from invitree.identity.programs.store import Program
from invitree.kit.context import AppContext
from invitree.kit.data.cache import Cache
from invitree.kit.data.db import Database
from invitree.kit.data.notifications import notify

TOPIC = "programs"


_Key = int | tuple[str, str]


class BadPolicy(ValueError):
    """The policy cannot be; the message says why."""


def cached_program(ctx: AppContext, key: "_Key") -> Program | None:
    """Return a program if it is in memory under its id, or under ("host", …)."""
    return _cache(ctx).get(key, now=ctx.clock.seconds())


async def get_program(ctx: AppContext, program_id: int) -> Program:
    """Return a program, from memory where it is there. Raises UnknownProgram."""
    return await _get(ctx, program_id, lambda: store.find_program(ctx.db, program_id=program_id))


async def get_program_by_slug(ctx: AppContext, slug: str) -> Program:
    """Return the program of this name. Raises UnknownProgram."""
    if not is_slug(slug):
        raise UnknownProgram
    return await _get(ctx, ("slug", slug), lambda: store.find_program_by_slug(ctx.db, slug=slug))


async def get_program_of_host(ctx: AppContext, header: str) -> Program:
    """Return the program that claims the host in a `Host` header, or the default one. Raises UnknownProgram."""
    host = host_of(header)
    return await _get(ctx, ("host", host), lambda: store.find_program_of_host(ctx.db, host=host))


async def _get(ctx: AppContext, key: _Key, find: Callable[[], Awaitable[Program | None]]) -> Program:
    cache = _cache(ctx)
    if cached := cache.get(key, now=ctx.clock.seconds()):
        return cached
    ticket = cache.ticket()
    program = await find()
    if program is None:
        raise UnknownProgram
    cache.fill(key, program, ticket=ticket)
    return program


def _cache(ctx: AppContext) -> Cache[_Key, Program]:
    return ctx.caches[TOPIC]


async def set_policy(db: Database, *, program_id: int, **changes: Any) -> Program:
    """Change what is given of a program's policy, for every process from the commit on.

    Raises BadPolicy or UnknownProgram.
    """
    async with db.transaction() as tx:
        program = await store.lock_program(tx, program_id=program_id)
        if program is None:
            raise UnknownProgram
        changed = msgspec.structs.replace(program, **changes)
        changed = msgspec.structs.replace(changed, host=changed.host or None)
        policy: dict[str, Any] = {
            "time_zone": changed.time_zone,
            "code_length": changed.code_length,
            "longest_code_life_days": changed.longest_code_life_days,
            "referral_list": changed.referral_list,
            "activation": changed.activation,
            "host": changed.host,
            "origins": changed.origins,
        }
        if why := policy_error(**policy):
            raise BadPolicy(why)
        policy["origins"] = parse_origins(changed.origins)
        try:
            await store.update_program(tx, program_id=program_id, **policy)
        except asyncpg.UniqueViolationError:
            raise BadPolicy(f"another program claims the host {changed.host}") from None
        await notify(tx, topic=TOPIC, payload=program.id)
    return msgspec.structs.replace(changed, origins=policy["origins"])


async def create_program(db: Database, *, slug: str) -> Program:
    """Make a program with the default policy. Raises BadPolicy."""
    if not is_slug(slug):
        raise BadPolicy(f"{slug!r} is not a name: small letters, digits and hyphens, 63 at most")
    async with db.transaction() as tx:
        try:
            program = await store.insert_program(tx, slug=slug)
        except asyncpg.UniqueViolationError:
            raise BadPolicy(f"there is a program {slug!r} already") from None
        await notify(tx, topic=TOPIC, payload=program.id)
    return program


def invalidate(ctx: AppContext, _payload: bytes) -> None:
    """Forget every program: one was changed, and any host may have been told to mean it. They are few."""
    _cache(ctx).clear()


def apply_notification(ctx: AppContext, payload: bytes) -> None:
    """Forget every program, and read anew whose pages may call the service."""
    invalidate(ctx, payload)
    ctx.origins.schedule_reload()
