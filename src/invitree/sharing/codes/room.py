"""The room of codes."""

from invitree.identity.recovery.actions import TOPIC as ADDRESSES
from invitree.kit.room import Room
from invitree.sharing.codes.actions import (
    OWNERS,
    TOPIC,
    apply_notification,
    invalidate,
    invalidate_address,
    revoke_with_account,
)
from invitree.sharing.codes.api import HANDLERS
from invitree.sharing.codes.invariants import INVARIANTS, REFERENCES

ROOM = Room(
    prefix="/api/referral_codes",
    routes=HANDLERS,
    caches={TOPIC: lambda settings: settings.cache_size, OWNERS: lambda settings: settings.cache_size},
    invalidators={TOPIC: invalidate, ADDRESSES: invalidate_address},
    handlers={TOPIC: apply_notification},
    erase=lambda tx, who: revoke_with_account(
        tx, program_id=who.program_id, user_id=who.user_id, email_key=who.email_key, at=who.at
    ),
    invariants=INVARIANTS,
    references=REFERENCES,
)
