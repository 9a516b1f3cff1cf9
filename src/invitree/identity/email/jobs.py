"""What the worker does with letters: find whom they are for, make the link, send."""

from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import msgspec
import structlog

from invitree.base.emails import masked
from invitree.base.tokens import format_token
from invitree.identity.audit.store import Actor, Kind, insert_event
from invitree.identity.email import store
from invitree.identity.email.actions import JOB, EmailJob
from invitree.identity.email.rules import LINK_TTL, LinkKind, link
from invitree.identity.email.store import Recipient
from invitree.kit.context import AppContext
from invitree.kit.data.db import OUTAGES
from invitree.kit.email import messages as mail
from invitree.kit.work.jobs import TryAgain

_TEMPLATES = Path(__file__).parent / "letters"
# Asked for by whoever knew the address; recorded where the account is known.
_REQUESTED: dict[str, Kind] = {
    "password_reset": "password.reset_requested",
    "username_reset": "username.reset_requested",
}
_log = structlog.get_logger()


async def send_mail(ctx: AppContext, payload: bytes, job_id: int) -> None:
    """Send a letter; nothing where there is nobody to send it to, or where its link has died since it was asked for.

    Raises what `kit.email.messages.deliver` raises.
    """
    job = msgspec.json.decode(payload, type=EmailJob)
    try:
        letter = await _letter(ctx, job, message_id=mail.message_id(ctx.settings, job_id=job_id, payload=payload))
    except (*OUTAGES, asyncpg.PostgresError) as error:
        raise TryAgain(type(error).__name__) from None  # before anything was sent
    if letter is None:
        _log.info("mail.moot", kind=job.kind, job=job_id)
        return
    await mail.deliver(letter, settings=ctx.settings)


async def _letter(ctx: AppContext, job: EmailJob, *, message_id: str) -> mail.Letter | None:
    recipient = await _find(ctx, job)
    if recipient is None or not _is_due(job, recipient):
        return None
    values = {"username": recipient.username}
    if job.kind == "password_changed" or job.kind == "session_stolen":
        address = ""
    elif job.kind == "email_changed":
        address, values["new_email"] = "", masked(recipient.email_key)
    else:
        token = await _token(ctx, job, job.kind, recipient)
        if token is None:
            return None
        address = link(ctx.settings.public_base, job.kind, user_id=recipient.user_id, token=token)
    content = mail.render(
        _TEMPLATES,
        job.kind,
        language=job.language,
        site=urlsplit(ctx.settings.public_base).hostname or "",
        link=address,
        **values,
    )
    return mail.Letter(**msgspec.structs.asdict(content), to=job.to or recipient.email, message_id=message_id)


async def _find(ctx: AppContext, job: EmailJob) -> Recipient | None:
    if job.email_key is not None:
        return await store.find_recipient_by_email(ctx.db, program_id=job.program_id, email_key=job.email_key)
    return await store.find_recipient(ctx.db, program_id=job.program_id, user_id=job.user_id or 0)


def _is_due(job: EmailJob, recipient: Recipient) -> bool:
    match job.kind:
        case "activation":
            return not recipient.is_confirmed
        case "username_reset":
            return recipient.is_active
    return True


async def _token(ctx: AppContext, job: EmailJob, kind: LinkKind, recipient: Recipient) -> str | None:
    """Return the token of a letter's link, whose life begins now, or None where it was used or revoked.

    One that was asked for by an address is written at the first attempt to send it: only here is it known whose it is.
    """
    tokens = [format_token(program_id=job.program_id, secret=secret) for secret in ctx.keys.links(job.nonce)]
    by_hash = {token_hash: token for token in tokens for token_hash in ctx.keys.hashes(token)}
    hashes, ttl = list(by_hash), LINK_TTL[kind]
    async with ctx.db.transaction() as tx:
        by_address = job.email_key is not None
        if by_address and not await store.find_token(tx, program_id=job.program_id, kind=kind, hashes=hashes):
            await store.insert_token(
                tx,
                program_id=job.program_id,
                user_id=recipient.user_id,
                kind=kind,
                token_hash=ctx.keys.hash(tokens[0]),
                new_email=None,
                ttl=ttl,
            )
            if kind in _REQUESTED:
                actor = Actor(actor="unknown", ip_prefix=job.ip_prefix)
                await insert_event(
                    tx, program_id=job.program_id, kind=_REQUESTED[kind], user_id=recipient.user_id, actor=actor
                )
            return tokens[0]
        found = await store.start_expiry(tx, program_id=job.program_id, hashes=hashes, ttl=ttl)
    return by_hash.get(found) if found else None


JOBS = {JOB: send_mail}
