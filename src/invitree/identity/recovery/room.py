"""The room of recovery."""

from invitree.identity.recovery.api import HANDLERS
from invitree.kit.room import Room

ROOM = Room(prefix="/auth", routes=HANDLERS)
