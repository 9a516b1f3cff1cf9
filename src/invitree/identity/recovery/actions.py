"""Changing what proves who somebody is."""

import asyncpg
from msgspec import Struct

from invitree.base.emails import Email, parse_email
from invitree.base.problems import InvalidInput, Text
from invitree.identity.audit.store import Actor, insert_event
from invitree.identity.auth.actions import end_all_sessions, notify_user_changed
from invitree.identity.auth.store import UserSession
from invitree.identity.email.actions import send_link, send_notice
from invitree.identity.email.rules import LinkKind
from invitree.identity.email.store import delete_unused_tokens, find_token, use_token
from invitree.identity.programs.store import Program
from invitree.identity.recovery.problems import StaleToken
from invitree.identity.users import store
from invitree.identity.users.actions import VerifiedPassword, lock_verified_password, uniqueness_problem
from invitree.identity.users.rules import BAD_EMAIL, EMAIL_TAKEN, INVALID_PASSWORD, clean_password, password_errors
from invitree.identity.users.store import Account, User
from invitree.kit.client_info import ClientInfo
from invitree.kit.context import AppContext
from invitree.kit.data.db import Transaction
from invitree.kit.data.notifications import notify
from invitree.kit.secrets.keys import Keyring

# Announced when a user has another address: what was found under the old one is not to be shown.
TOPIC = "addresses"
INVALID_UID = Text("Invalid user id or user doesn't exist.", "Неверный id пользователя, или его не существует.")
INVALID_TOKEN = Text("Invalid token for given user.", "Неверный токен для этого пользователя.")


class MailLink(Struct, frozen=True, kw_only=True):
    """A link that somebody followed: whose it is, and the token in it, found and not yet used."""

    kind: LinkKind
    program_id: int
    user: User
    token_id: int
    new_email: str | None


async def resolve_link(
    ctx: AppContext, *, kind: LinkKind, program_id: int, user_id: int | None, token: str
) -> MailLink:
    """Return what a link stands for. Raises InvalidInput on `uid` or `token`, or StaleToken after an activation."""
    user = user_id and await store.find_user(ctx.db, program_id=program_id, user_id=user_id)
    if not user:
        raise InvalidInput({"uid": [INVALID_UID]})
    found = await find_token(ctx.db, program_id=program_id, kind=kind, hashes=ctx.keys.hashes(token))
    if found is None or found.user_id != user.id:
        raise InvalidInput({"token": [INVALID_TOKEN]})
    if found.is_used and kind == "activation":
        raise StaleToken
    if not found.is_alive:
        raise InvalidInput({"token": [INVALID_TOKEN]})
    return MailLink(kind=kind, program_id=program_id, user=user, token_id=found.id, new_email=found.new_email)


async def _use(tx: Transaction, link: MailLink) -> Account:
    """Use a link up, with its account locked. Raises InvalidInput where somebody did so since it was followed."""
    account = await store.lock_account(tx, program_id=link.program_id, user_id=link.user.id)
    if account is None or not await use_token(tx, program_id=link.program_id, token_id=link.token_id):
        raise StaleToken if link.kind == "activation" else InvalidInput({"token": [INVALID_TOKEN]})
    return account


async def activate(tx: Transaction, link: MailLink, *, origin: ClientInfo) -> None:
    """Confirm the address that the link was sent to. Raises StaleToken where that is done already."""
    await _use(tx, link)
    if not await store.activate(tx, program_id=link.program_id, user_id=link.user.id):
        raise StaleToken
    await insert_event(
        tx,
        program_id=link.program_id,
        kind="account.activated",
        user_id=link.user.id,
        actor=_self(link.user.id, origin),
    )


def validate_new_password(password: str, *, email: str, username: str, program: Program) -> str:
    """Return a user's new password in the form it is hashed in. Raises InvalidInput on `new_password`."""
    address, password = parse_email(email), clean_password(password)
    key = address.key if address else ""
    if complaints := password_errors(password, email=key, username=username, program=program.slug):
        raise InvalidInput({"new_password": complaints})
    return password


async def set_password(
    tx: Transaction, caller: UserSession, *, verified: VerifiedPassword, new_hash: str, origin: ClientInfo
) -> None:
    """Change the password of somebody who has proved to know it; every other session ends.

    Raises InvalidInput where it was changed since.
    """
    program_id, user_id = caller.program_id, caller.user_id
    await store.lock_account(tx, program_id=program_id, user_id=user_id)
    replaced = await store.replace_hash(
        tx, program_id=program_id, user_id=user_id, old_hash=verified.password_hash, new_hash=new_hash
    )
    if not replaced:
        raise InvalidInput({"current_password": [INVALID_PASSWORD]})
    await end_all_sessions(tx, program_id=program_id, user_id=user_id, but=caller.session_id)
    await delete_unused_tokens(tx, program_id=program_id, user_id=user_id)
    actor = _self(user_id, origin)
    await insert_event(tx, program_id=program_id, kind="password.changed", user_id=user_id, actor=actor)
    await send_notice(tx, kind="password_changed", program_id=program_id, user_id=user_id, language=origin.language)


async def reset_password(tx: Transaction, link: MailLink, *, new_hash: str, origin: ClientInfo) -> None:
    """Give a new password to whoever reads the account's mail, which confirms the address.

    Every session, link and pending change from before dies: somebody else may have made the account.
    """
    program_id, user_id = link.program_id, link.user.id
    await _use(tx, link)
    if not await store.reset_password(tx, program_id=program_id, user_id=user_id, new_hash=new_hash):
        raise InvalidInput({"token": [INVALID_TOKEN]})
    await end_all_sessions(tx, program_id=program_id, user_id=user_id)
    await delete_unused_tokens(tx, program_id=program_id, user_id=user_id)
    actor = _self(user_id, origin)
    await insert_event(tx, program_id=program_id, kind="password.reset", user_id=user_id, actor=actor)
    await send_notice(tx, kind="password_changed", program_id=program_id, user_id=user_id, language=origin.language)


async def reset_username(tx: Transaction, link: MailLink, *, username: str, origin: ClientInfo) -> None:
    """Give a new name to whoever reads the account's mail. Raises InvalidInput on `new_username` or `token`."""
    await _use(tx, link)
    try:
        await store.update_username(tx, program_id=link.program_id, user_id=link.user.id, username=username)
    except asyncpg.UniqueViolationError as error:
        raise uniqueness_problem(error, email="new_username", username="new_username") from None
    actor = _self(link.user.id, origin)
    await insert_event(tx, program_id=link.program_id, kind="username.changed", user_id=link.user.id, actor=actor)
    await notify_user_changed(tx, program_id=link.program_id, user_id=link.user.id)


async def request_email_change(
    tx: Transaction, keys: Keyring, verified: VerifiedPassword, *, address: Email, origin: ClientInfo
) -> None:
    """Send a link to a user's new address, which is the user's once it is followed. Raises InvalidInput."""
    program_id, user_id = verified.program_id, verified.user_id
    await lock_verified_password(tx, verified)
    if await store.is_email_taken(tx, program_id=program_id, email_key=address.key, but=user_id):
        raise InvalidInput({"new_email": [EMAIL_TAKEN]})
    await send_link(
        tx,
        keys,
        kind="email_change",
        program_id=program_id,
        user_id=user_id,
        language=origin.language,
        new_email=address.typed,
    )
    actor = _self(user_id, origin)
    await insert_event(tx, program_id=program_id, kind="email.change_requested", user_id=user_id, actor=actor)


async def change_email(tx: Transaction, link: MailLink, *, origin: ClientInfo) -> None:
    """Give a user the address that the link was sent to, and tell the old one. Raises InvalidInput on `new_email`."""
    program_id, user_id, address = link.program_id, link.user.id, _parsed(link.new_email)
    old = await _use(tx, link)
    try:
        await store.update_email(tx, program_id=program_id, user_id=user_id, email=address)
    except asyncpg.UniqueViolationError as error:
        raise uniqueness_problem(error, email="new_email", username="new_email") from None
    await delete_unused_tokens(tx, program_id=program_id, user_id=user_id)
    actor = _self(user_id, origin)
    at = await insert_event(tx, program_id=program_id, kind="email.changed", user_id=user_id, actor=actor)
    await send_notice(
        tx, kind="email_changed", program_id=program_id, user_id=user_id, language=origin.language, to=old.email
    )
    await notify_user_changed(tx, program_id=program_id, user_id=user_id)
    await notify(tx, topic=TOPIC, payload=(program_id, old.email_key, at))


def _parsed(new_email: str | None) -> Email:
    address = parse_email(new_email or "")
    if address is None:  # as a rule of a later version has it
        raise InvalidInput({"new_email": [BAD_EMAIL]})
    return address


def _self(user_id: int, origin: ClientInfo) -> Actor:
    return Actor(actor="self", actor_id=user_id, ip_prefix=origin.ip_prefix)
