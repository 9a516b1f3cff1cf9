"""The room of users."""

from invitree.identity.users.api import HANDLERS
from invitree.identity.users.invariants import INVARIANTS, REFERENCES
from invitree.kit.room import Room

ROOM = Room(prefix="/auth", routes=HANDLERS, invariants=INVARIANTS, references=REFERENCES)
