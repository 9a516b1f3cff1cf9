"""The room of answers that are kept for requests with an Idempotency-Key."""

from invitree.identity.idempotency.invariants import INVARIANTS, REFERENCES
from invitree.identity.idempotency.store import delete_answers_about, delete_old_answers
from invitree.kit.room import Room

ROOM = Room(
    purges=[delete_old_answers],
    erase=lambda tx, who: delete_answers_about(tx, program_id=who.program_id, user_id=who.user_id),
    invariants=INVARIANTS,
    references=REFERENCES,
)
