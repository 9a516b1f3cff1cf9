"""The room of programs."""

from invitree.identity.programs.actions import TOPIC, apply_notification, invalidate
from invitree.kit.room import Room

ROOM = Room(
    caches={TOPIC: lambda _: 1_000},
    invalidators={TOPIC: invalidate},
    handlers={TOPIC: apply_notification},
)
