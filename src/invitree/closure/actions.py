"""Closing accounts."""

from invitree.base.problems import NotFound
from invitree.codes.actions import revoke_with_account
from invitree.events.store import Author, insert_event
from invitree.kit.db import Database, Queryable
from invitree.mails.store import delete_unused_tokens
from invitree.sessions.store import delete_sessions
from invitree.users import store


async def delete_account(db: Database, *, program_id: int, user_id: int, by: Author) -> None:
    """End an account for good, leaving a pseudonym in the referrals. Raises NotFound where it is gone already."""
    async with db.transaction() as tx:
        await _end(tx, program_id, user_id)
        await store.pseudonymize(tx, program_id=program_id, user_id=user_id)
        await insert_event(tx, program_id=program_id, kind="account.deleted", user_id=user_id, by=by)


async def deactivate_account(db: Database, *, program_id: int, user_id: int, by: Author) -> bool:
    """Keep a user out; return False where the user is out already. Raises NotFound."""
    async with db.transaction() as tx:
        await _end(tx, program_id, user_id)
        if not await store.deactivate(tx, program_id=program_id, user_id=user_id):
            return False
        await insert_event(tx, program_id=program_id, kind="account.deactivated", user_id=user_id, by=by)
    return True


async def reactivate_account(db: Database, *, program_id: int, user_id: int, by: Author) -> bool:
    """Let a user in again, who logs in and mints a code anew; return False where the user was not kept out."""
    async with db.transaction() as tx:
        if not await store.reactivate(tx, program_id=program_id, user_id=user_id):
            return False
        await insert_event(tx, program_id=program_id, kind="account.reactivated", user_id=user_id, by=by)
    return True


async def _end(tx: Queryable, program_id: int, user_id: int) -> None:
    """End everything that an account can do."""
    account = await store.lock_account(tx, program_id=program_id, user_id=user_id)
    if account is None:
        raise NotFound
    await delete_sessions(tx, program_id=program_id, user_id=user_id)
    await delete_unused_tokens(tx, program_id=program_id, user_id=user_id)
    await revoke_with_account(tx, program_id=program_id, user_id=user_id, email_key=account.email_key)
