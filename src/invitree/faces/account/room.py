"""The room of the account pages."""

from invitree.faces.account.pages import HANDLERS
from invitree.kit.room import Room

ROOM = Room(routes=HANDLERS)
