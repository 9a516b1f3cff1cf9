"""The room of signing up."""

from invitree.intake.signup.api import HANDLERS
from invitree.kit.room import Room

ROOM = Room(prefix="/auth", routes=HANDLERS)
