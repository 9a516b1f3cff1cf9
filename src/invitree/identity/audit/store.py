"""Every statement about events."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from invitree.kit.data.db import Queryable

Kind = Literal[
    "account.activated",
    "account.created",
    "account.deactivated",
    "account.deleted",
    "account.reactivated",
    "code.created",
    "code.deleted",
    "code.replaced",
    "email.change_requested",
    "email.changed",
    "login.failed",
    "login.succeeded",
    "password.changed",
    "password.reset",
    "password.reset_requested",
    "refresh_token.reused",
    "session.ended",
    "session.evicted",
    "username.changed",
    "username.reset_requested",
]
ActorKind = Literal["self", "staff", "operator", "unknown"]


class Actor(Struct, frozen=True, kw_only=True):
    """Who did something: the user, a staff member, whoever runs the service, or somebody who proved nothing."""

    actor: ActorKind
    actor_id: int | None = None
    ip_prefix: str = ""


OPERATOR = Actor(actor="operator")


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened."""

    id: int
    kind: str
    actor: ActorKind
    ip_prefix: str
    created_at: datetime


async def insert_event(db: Queryable, *, program_id: int, kind: Kind, user_id: int | None, actor: Actor) -> int:
    """Record what happened to a user's account, None where it was nobody's; return the event's id.

    Of what happens while a user is locked the ids are in the order in which it is committed.
    """
    event_id: int = await db.fetchval(
        """
        INSERT INTO audit (program_id, kind, user_id, actor, actor_id, ip_prefix) VALUES ($1, $2, $3, $4, $5, $6)
        RETURNING id
        """,
        program_id,
        kind,
        user_id,
        actor.actor,
        actor.actor_id,
        actor.ip_prefix,
    )
    return event_id


async def has_logged_in_from(db: Queryable, *, program_id: int, user_id: int, ip_prefix: str) -> bool:
    """Return whether a user has logged in, or signed up, in a network."""
    was: bool = await db.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM audit WHERE program_id = $1 AND user_id = $2 AND ip_prefix = $3
              AND kind IN ('account.created', 'login.succeeded')
        )
        """,
        program_id,
        user_id,
        ip_prefix,
    )
    return was


async def list_events(db: Queryable, *, program_id: int, user_id: int, before: int, limit: int) -> Sequence[Event]:
    """Return a page of what happened to a user's account, newest first, from events with an id below `before`."""
    rows = await db.fetch(
        """
        SELECT id, kind, actor, ip_prefix, created_at FROM audit
        WHERE program_id = $1 AND user_id = $2 AND id < $3
        ORDER BY id DESC LIMIT $4
        """,
        program_id,
        user_id,
        before,
        limit,
    )
    return [Event(**row) for row in rows]


async def occurred_within_hour(db: Queryable, *, program_id: int, user_id: int, kind: Kind) -> bool:
    """Return whether this has happened to a user's account within the hour.

    What a clock that was ahead has left in the future has not.
    """
    found: bool = await db.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM audit
            WHERE program_id = $1 AND user_id = $2 AND kind = $3
              AND created_at BETWEEN now() - interval '1 hour' AND now() + interval '1 hour'
        )
        """,
        program_id,
        user_id,
        kind,
    )
    return found
