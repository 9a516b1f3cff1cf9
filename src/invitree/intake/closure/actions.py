"""Closing accounts."""

from invitree.base.problems import NotFound
from invitree.identity.audit.store import Actor, insert_event
from invitree.identity.auth.actions import end_all_sessions
from invitree.identity.email.store import delete_unused_tokens
from invitree.identity.users import store
from invitree.identity.users.actions import VerifiedPassword, lock_verified_password
from invitree.identity.users.store import Account
from invitree.kit.context import AppContext, Erased
from invitree.kit.data.db import Database, Transaction
from invitree.sharing.codes.actions import revoke_with_account


async def delete_account(
    ctx: AppContext, *, program_id: int, user_id: int, actor: Actor, verified: VerifiedPassword | None = None
) -> None:
    """End an account for good, leaving a pseudonym in the referrals.

    Raises NotFound where it is gone already, and InvalidInput where the password that was proved is another by now.
    """
    async with ctx.db.transaction() as tx:
        account = await _end(tx, program_id, user_id)
        if verified is not None:
            await lock_verified_password(tx, verified)  # after the stronger lock on what may be the same row
        at = await insert_event(tx, program_id=program_id, kind="account.deleted", user_id=user_id, actor=actor)
        erased = Erased(program_id=program_id, user_id=user_id, email_key=account.email_key, at=at)
        for erase in ctx.erasures:
            await erase(tx, erased)
        # Last, for it locks what refers to the user: a sign-up under way has locked the code, and is about to refer.
        await store.pseudonymize(tx, program_id=program_id, user_id=user_id)


async def deactivate_account(db: Database, *, program_id: int, user_id: int, actor: Actor) -> bool:
    """Keep a user out; return False where the user is out already. Raises NotFound."""
    async with db.transaction() as tx:
        account = await _end(tx, program_id, user_id)
        if not await store.deactivate(tx, program_id=program_id, user_id=user_id):
            return False
        at = await insert_event(tx, program_id=program_id, kind="account.deactivated", user_id=user_id, actor=actor)
        await revoke_with_account(tx, program_id=program_id, user_id=user_id, email_key=account.email_key, at=at)
    return True


async def reactivate_account(db: Database, *, program_id: int, user_id: int, actor: Actor) -> bool:
    """Let a user in again, who logs in and mints a code anew; return False where the user was not kept out."""
    async with db.transaction() as tx:
        if not await store.reactivate(tx, program_id=program_id, user_id=user_id):
            return False
        await insert_event(tx, program_id=program_id, kind="account.reactivated", user_id=user_id, actor=actor)
    return True


async def _end(tx: Transaction, program_id: int, user_id: int) -> Account:
    """End every session and link of an account; return what it was."""
    account = await store.lock_account(tx, program_id=program_id, user_id=user_id)
    if account is None:
        raise NotFound
    await end_all_sessions(tx, program_id=program_id, user_id=user_id)
    await delete_unused_tokens(tx, program_id=program_id, user_id=user_id)
    return account
