"""The room of the front page and the JSON indexes."""

from invitree.faces.home import api, pages
from invitree.kit.room import Room

ROOM = Room(routes=[*api.HANDLERS, *pages.HANDLERS])
