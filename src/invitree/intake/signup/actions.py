"""Signing up a user."""

from datetime import datetime

from invitree.base.problems import InvalidInput, Text
from invitree.identity.audit.store import Actor
from invitree.identity.email.actions import send_link
from invitree.identity.programs.store import Program
from invitree.identity.users.actions import NewUser, add_user
from invitree.identity.users.store import User
from invitree.kit.client_info import ClientInfo
from invitree.kit.data.db import Transaction
from invitree.kit.secrets.keys import Keyring
from invitree.sharing.codes.rules import parse_code
from invitree.sharing.codes.store import LockedCode, lock_code
from invitree.sharing.referrals.store import insert_referral

INVALID_CODE = Text("This referral code is not valid.", "Этот реферальный код недействителен.")


async def sign_up(
    tx: Transaction,
    keys: Keyring,
    *,
    program: Program,
    new_user: NewUser,
    referral_code: str | None,
    origin: ClientInfo,
) -> User:
    """Create a user and, with a code, the referral; enqueue the activation email if the program requires one.

    Raises InvalidInput, and then nothing may be committed.
    """
    needs_activation = program.activation == "required"
    actor = Actor(actor="self", ip_prefix=origin.ip_prefix)
    user = await add_user(tx, program_id=program.id, new_user=new_user, actor=actor, is_active=not needs_activation)
    if referral_code:
        await _attribute(tx, program_id=program.id, referee_id=user.id, referral_code=referral_code)
    if needs_activation:
        language = origin.language
        await send_link(tx, keys, kind="activation", program_id=program.id, user_id=user.id, language=language)
    return user


async def _attribute(tx: Transaction, *, program_id: int, referee_id: int, referral_code: str) -> None:
    text = parse_code(referral_code)
    code = text and await lock_code(tx, program_id=program_id, code=text)
    # Read after the lock was granted: now() is the start of the transaction, and the code may expire during the wait.
    used_at: datetime = await tx.fetchval("SELECT clock_timestamp()")
    if not isinstance(code, LockedCode) or not _is_active(code, now=used_at):
        raise InvalidInput({"referral_code": [INVALID_CODE]})
    await insert_referral(
        tx, program_id=program_id, referrer_id=code.user_id, referee_id=referee_id, code_id=code.id, created_at=used_at
    )


def _is_active(code: LockedCode, *, now: datetime) -> bool:
    return code.revoked_at is None and now < code.expires_at and code.owner_is_active
