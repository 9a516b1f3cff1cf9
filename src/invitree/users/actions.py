"""Making an account and proving that one is yours."""

from collections.abc import Sequence

import asyncpg
from msgspec import Struct

from invitree.base.emails import Email, parse_email
from invitree.base.problems import InvalidInput, Text
from invitree.kit.db import Queryable
from invitree.kit.passwords import Hasher
from invitree.kit.resources import Resources
from invitree.users import store
from invitree.users.rules import (
    BAD_EMAIL,
    BAD_USERNAME,
    EMAIL_TAKEN,
    LONGEST_PASSWORD,
    USERNAME_TAKEN,
    clean_username,
    password_complaints,
)
from invitree.users.store import Credentials, User

_TAKEN = {
    "users_email_key_unique": {"email": [EMAIL_TAKEN]},
    "users_username_unique": {"username": [USERNAME_TAKEN]},
}


class Applicant(Struct, frozen=True, kw_only=True):
    """Somebody whose account can be written: everything checked, the password hashed."""

    email: Email
    username: str
    password_hash: str


async def admit(hasher: Hasher, *, email: str, username: str, password: str) -> Applicant:
    """Check what a new account is made of and hash its password. Raises InvalidInput with every complaint."""
    address, name = parse_email(email), clean_username(username)
    complaints: dict[str, Sequence[Text]] = {
        "email": [] if address else [BAD_EMAIL],
        "username": [] if name else [BAD_USERNAME],
        "password": password_complaints(password, email=address.key if address else "", username=name or ""),
    }
    if address is None or name is None or complaints["password"]:
        raise InvalidInput({field: texts for field, texts in complaints.items() if texts})
    return Applicant(email=address, username=name, password_hash=await hasher.hash(password))


async def add_user(db: Queryable, *, program_id: int, applicant: Applicant, is_staff: bool = False) -> User:
    """Write a new user. Raises InvalidInput where the e-mail address or the username is taken."""
    try:
        return await store.insert_user(
            db,
            program_id=program_id,
            email=applicant.email,
            username=applicant.username,
            password_hash=applicant.password_hash,
            is_staff=is_staff,
        )
    except asyncpg.UniqueViolationError as error:
        if fields := _TAKEN.get(error.constraint_name or ""):
            raise InvalidInput(fields) from None
        raise


async def find_user_by_password(
    here: Resources, *, program_id: int, email: str | None, username: str | None, password: str
) -> int | None:
    """Return the id of the active user whose password this is.

    Wrong, unknown, inactive and malformed all take one verification and look the same.
    """
    credentials = await _credentials(here, program_id, email, username)
    # What is longer than any password can be is not worth hashing.
    matches = await here.hasher.verify(
        credentials.password_hash if credentials else None, password[: LONGEST_PASSWORD + 1]
    )
    return credentials.user_id if credentials and matches and credentials.is_active else None


async def _credentials(here: Resources, program_id: int, email: str | None, username: str | None) -> Credentials | None:
    if email and username:
        return None
    if username:
        name = clean_username(username) or ""
        return await store.find_credentials_by_username(here.db, program_id=program_id, username=name)
    address = parse_email(email or "")
    if address is None:
        return None
    return await store.find_credentials_by_email(here.db, program_id=program_id, email_key=address.key)
