"""The room of operations."""

from invitree.faces.operations.api import HANDLERS
from invitree.kit.room import Room

ROOM = Room(routes=HANDLERS)
