"""The room of email."""

from invitree.identity.email.invariants import REFERENCES
from invitree.identity.email.store import delete_expired_tokens, erase_person
from invitree.kit.room import Room

ROOM = Room(
    purges=[delete_expired_tokens],
    erase=lambda tx, who: erase_person(tx, program_id=who.program_id, user_id=who.user_id, email_key=who.email_key),
    jobs="invitree.identity.email.jobs",
    references=REFERENCES,
)
