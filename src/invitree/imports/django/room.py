"""The room of the import from Django."""

from invitree.imports.django.invariants import REFERENCES
from invitree.kit.room import Room

ROOM = Room(references=REFERENCES)
