"""Having letters sent, and following the links in them."""

from typing import Literal

from msgspec import Struct

from invitree.base.problems import Language
from invitree.base.tokens import format_token
from invitree.identity.email import store
from invitree.identity.email.rules import LINK_TTL, LinkKind, NoticeKind
from invitree.kit.data.db import Queryable
from invitree.kit.secrets.keys import Keyring, new_token
from invitree.kit.work.jobs import enqueue

JOB = "send_mail"
ResetKind = Literal["activation", "password_reset", "username_reset"]


class EmailJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the worker is to send: to a user, or to whoever has an address. `nonce` is what its link is derived from."""

    kind: LinkKind | NoticeKind
    program_id: int
    language: Language
    user_id: int | None = None
    email_key: str | None = None
    to: str | None = None
    """Where it goes, if not to the user's own address."""
    nonce: str = ""
    ip_prefix: str = ""


async def send_link(
    tx: Queryable,
    keys: Keyring,
    *,
    kind: LinkKind,
    program_id: int,
    user_id: int,
    language: Language,
    new_email: str | None = None,
) -> None:
    """Send a user a link that can be followed once; with `new_email`, send it there."""
    nonce = new_token()
    await store.insert_token(
        tx,
        program_id=program_id,
        user_id=user_id,
        kind=kind,
        token_hash=keys.hash(format_token(program_id=program_id, secret=keys.links(nonce)[0])),
        new_email=new_email,
        ttl=LINK_TTL[kind],
    )
    letter = EmailJob(kind=kind, program_id=program_id, language=language, user_id=user_id, to=new_email, nonce=nonce)
    await enqueue(tx, job=JOB, payload=letter)


async def send_link_to_address(
    db: Queryable, *, email_key: str, kind: ResetKind, program_id: int, language: Language, ip_prefix: str
) -> None:
    """Send a link to the user with this address, if there is one.

    Whether there is one is found out by the worker: here, the same is done in the same time either way.
    """
    letter = EmailJob(
        kind=kind,
        program_id=program_id,
        language=language,
        email_key=email_key,
        nonce=new_token(),
        ip_prefix=ip_prefix,
    )
    await enqueue(db, job=JOB, payload=letter)


async def send_notice(
    tx: Queryable, *, kind: NoticeKind, program_id: int, user_id: int, language: Language, to: str | None = None
) -> None:
    """Tell a user what happened to the account; at an address that was the user's until now, with `to`."""
    await enqueue(
        tx, job=JOB, payload=EmailJob(kind=kind, program_id=program_id, language=language, user_id=user_id, to=to)
    )
