"""The room of closing accounts."""

from invitree.intake.closure.api import HANDLERS
from invitree.kit.room import Room

ROOM = Room(prefix="/auth", routes=HANDLERS)
