"""The room of referrals."""

from invitree.kit.room import Room
from invitree.sharing.referrals.api import HANDLERS
from invitree.sharing.referrals.invariants import INVARIANTS, REFERENCES

ROOM = Room(prefix="/api/users", routes=HANDLERS, invariants=INVARIANTS, references=REFERENCES)
