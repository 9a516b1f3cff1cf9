"""Making an account and proving that one is yours."""

from collections.abc import Sequence
from functools import partial

import asyncpg
from msgspec import Struct

from invitree.base.emails import Email, parse_email
from invitree.base.problems import Internal, InvalidInput, NotFound, Text, Unavailable
from invitree.identity.audit.store import Actor, has_logged_in_from, insert_event
from invitree.identity.auth.actions import notify_user_changed
from invitree.identity.programs.store import Program
from invitree.identity.users import store
from invitree.identity.users.rules import (
    BAD_USERNAME,
    EMAIL_TAKEN,
    INVALID_PASSWORD,
    LONGEST_PASSWORD,
    USERNAME_TAKEN,
    clean_password,
    clean_username,
    email_errors,
    name_key,
    password_attempts,
    password_errors,
)
from invitree.identity.users.store import Credentials, LoginCandidate, User
from invitree.kit.context import AppContext
from invitree.kit.data.db import Queryable, Transaction
from invitree.kit.secrets.passwords import Hasher, Match


class Login(Struct, frozen=True, kw_only=True):
    """Who somebody claims to be: by an address, by a username, or by the id of whoever is signed in."""

    email: str | None = None
    username: str | None = None
    user_id: int | None = None

    @property
    def name(self) -> str:
        """What attempts are counted by: the same for every spelling of an address, and for its plus tags."""
        address = parse_email(self.email or "")
        return (address.identity if address else "") + name_key(self.username or "")

    @property
    def is_plain(self) -> bool:
        """Whether the name is the one that all its spellings are counted by; another may be a stranger's account."""
        address, username = parse_email(self.email or ""), self.username or ""
        return (address is None or address.key == address.identity) and username == name_key(username)


class VerifiedPassword(Struct, frozen=True, kw_only=True):
    """That somebody knew the password with this hash. It may be another one by the time that something is written."""

    program_id: int
    user_id: int
    password_hash: str


class NewUser(Struct, frozen=True, kw_only=True):
    """Somebody whose account can be written: everything checked, the password hashed."""

    email: Email
    username: str
    password_hash: str


async def validate_new_user(
    hasher: Hasher,
    *,
    email: str,
    username: str,
    password: str,
    program: Program,
    takes_local_email: bool,
    lane: str = "",
) -> NewUser:
    """Check what a new account is made of and hash its password. Raises InvalidInput with every complaint."""
    address, name, password = parse_email(email), clean_username(username), clean_password(password)
    complaints: dict[str, Sequence[Text]] = {
        "email": email_errors(address, takes_local=takes_local_email),
        "username": [] if name else [BAD_USERNAME],
        "password": password_errors(
            password, email=address.key if address else "", username=name or "", program=program.slug
        ),
    }
    if address is None or name is None or any(complaints.values()):
        raise InvalidInput({field: texts for field, texts in complaints.items() if texts})
    return NewUser(email=address, username=name, password_hash=await hasher.hash(password, lane=lane))


async def add_user(
    db: Queryable,
    *,
    program_id: int,
    new_user: NewUser,
    actor: Actor,
    is_staff: bool = False,
    is_active: bool = True,
    is_confirmed: bool = False,
) -> User:
    """Write a new user. Raises InvalidInput where the e-mail address or the username is taken."""
    insert = partial(
        store.insert_user,
        db,
        program_id=program_id,
        email=new_user.email,
        username=new_user.username,
        password_hash=new_user.password_hash,
        is_staff=is_staff,
        is_active=is_active,
        is_confirmed=is_confirmed,
    )
    user = await insert(quietly=True)
    if user is None:
        await _refuse_taken(db, program_id, new_user)
        user = await insert(quietly=False)  # which names whatever else it was
    if user is None:
        raise Internal  # not without a conflict
    await insert_event(db, program_id=program_id, kind="account.created", user_id=user.id, actor=actor)
    return user


async def _refuse_taken(db: Queryable, program_id: int, new_user: NewUser) -> None:
    """Raise InvalidInput for what somebody else has: the address, the username, or both."""
    email, username = await store.find_taken(
        db, program_id=program_id, email_key=new_user.email.key, username=new_user.username
    )
    complaints = {"email": [EMAIL_TAKEN] if email else [], "username": [USERNAME_TAKEN] if username else []}
    if email or username:
        raise InvalidInput({field: texts for field, texts in complaints.items() if texts})


def uniqueness_problem(error: asyncpg.UniqueViolationError, *, email: str, username: str) -> Exception:
    """Return the problem that a violation is, told under these names of fields; what is unforeseen, as it is."""
    match error.constraint_name:
        case "users_email_key_unique":
            return InvalidInput({email: [EMAIL_TAKEN]})
        case "users_username_unique":
            return InvalidInput({username: [USERNAME_TAKEN]})
    return error


async def rename(
    tx: Transaction,
    *,
    program_id: int,
    user_id: int,
    username: str,
    field: str,
    actor: Actor,
    verified: VerifiedPassword | None = None,
) -> User:
    """Give a user another name. Raises NotFound, or InvalidInput on `field` or where a password proved is stale."""
    name = clean_username(username)
    if name is None:
        raise InvalidInput({field: [BAD_USERNAME]})
    try:
        user = await store.update_username(tx, program_id=program_id, user_id=user_id, username=name)
    except asyncpg.UniqueViolationError as error:
        raise uniqueness_problem(error, email=field, username=field) from None
    if user is None:
        raise NotFound
    if verified is not None:
        await lock_verified_password(tx, verified)  # after the stronger lock on the same row
    await insert_event(tx, program_id=program_id, kind="username.changed", user_id=user_id, actor=actor)
    await notify_user_changed(tx, program_id=program_id, user_id=user_id)
    return user


class LoginFailure(Struct, frozen=True):
    """A password that was not the one, and whose account it was tried on, if anybody's."""

    user_id: int | None


async def lock_verified_password(tx: Transaction, verified: VerifiedPassword) -> None:
    """Keep the password from being changed until the transaction ends. Raises InvalidInput where it was already."""
    held = await store.lock_password(
        tx, program_id=verified.program_id, user_id=verified.user_id, password_hash=verified.password_hash
    )
    if not held:
        raise InvalidInput({"current_password": [INVALID_PASSWORD]})


async def check_password(
    ctx: AppContext, *, program_id: int, login: Login, password: str, lane: str
) -> VerifiedPassword | LoginFailure:
    """Say whether this is the password of the active user of this name.

    Wrong, unknown, inactive and malformed all take the same time and look the same.
    """
    claim = await _find_candidate(ctx.db, program_id, login)
    # Who is inactive is nobody, in time as well.
    known = claim.known if claim.known and claim.known.is_active else None
    attempts, match = password_attempts(password), Match.WRONG
    for attempt in attempts:
        # What is longer than any password can be is not worth hashing.
        tried = attempt[: LONGEST_PASSWORD + 1]
        match = await ctx.hasher.check(known.password_hash if known else None, tried, decoys=claim.decoys, lane=lane)
        if match is not Match.WRONG:
            break
    if known is None or match is Match.WRONG:
        return LoginFailure(claim.known.user_id if claim.known else None)
    is_stale = match is Match.RIGHT_BUT_STALE or attempt != attempts[0]
    fresh = await _rehash(ctx, program_id, known, attempts[0], lane) if is_stale else None
    return VerifiedPassword(program_id=program_id, user_id=known.user_id, password_hash=fresh or known.password_hash)


async def _rehash(ctx: AppContext, program_id: int, known: Credentials, password: str, lane: str) -> str | None:
    """Store the hash of a good password as we make them and return it, unless the password was changed meanwhile."""
    try:
        new_hash = await ctx.hasher.hash(password, lane=lane)
    except Unavailable:  # the next login will do
        return None
    replaced = await store.replace_hash(
        ctx.db,
        program_id=program_id,
        user_id=known.user_id,
        old_hash=known.password_hash,
        new_hash=new_hash,
    )
    return new_hash if replaced else None


async def is_familiar_network(db: Queryable, *, program_id: int, login: Login, ip_prefix: str) -> bool:
    """Return whether somebody has logged in from this network to the account that is meant, or made it there."""
    known = (await _find_candidate(db, program_id, login)).known
    return known is not None and await has_logged_in_from(
        db, program_id=program_id, user_id=known.user_id, ip_prefix=ip_prefix
    )


async def _find_candidate(db: Queryable, program_id: int, login: Login) -> LoginCandidate:
    if login.user_id is not None:
        return await store.find_login_candidate(db, program_id=program_id, user_id=login.user_id)
    # Nobody has an empty name or key; what is neither takes as long as what is one.
    name, address = clean_username(login.username or "") or "", parse_email(login.email or "")
    if login.username and not login.email:
        return await store.find_login_candidate_by_username(db, program_id=program_id, username=name)
    key = address.key if address else ""
    if login.username:
        return await store.find_login_candidate_by_both(db, program_id=program_id, email_key=key, username=name)
    return await store.find_login_candidate_by_email(db, program_id=program_id, email_key=key)
