"""The room of sessions."""

from invitree.identity.auth.actions import TOPIC, invalidate
from invitree.identity.auth.api import HANDLERS
from invitree.identity.auth.invariants import INVARIANTS, REFERENCES
from invitree.identity.auth.store import delete_ended_sessions
from invitree.kit.room import Room

ROOM = Room(
    prefix="/auth",
    routes=HANDLERS,
    caches={TOPIC: lambda _: 10_000},
    invalidators={TOPIC: invalidate},
    purges=[delete_ended_sessions],
    invariants=INVARIANTS,
    references=REFERENCES,
)
