"""Emails made from templates and delivered by SMTP or into a folder.

Only the worker imports this module: loading aiosmtplib, Jinja and PgQueuer would double the startup time of web
processes. A test checks that they do not.
"""

import asyncio
import hashlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime
from functools import cache
from pathlib import Path
from typing import Literal

import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct

from invitree.base.emails import parse_email
from invitree.base.settings import Settings
from invitree.kit.email.smtp import Step, Undeliverable, Undelivered, send_message

_MAX_VALUE_LENGTH = 150  # characters of a value chosen by a user
_LINK_LIKE = re.compile(r"(?<=\.)(?=\w{2})|(?<=:)(?=//)|(?<=@)")
_log = structlog.get_logger()


class EmailContent(Struct, frozen=True, kw_only=True):
    """Subject and body of an email."""

    subject: str
    text: str
    html: str
    language: str


class OutgoingEmail(EmailContent, frozen=True, kw_only=True):
    """An email to one recipient: `to` is a plain mailbox address."""

    to: str
    message_id: str
    """The same at every attempt, so that a mail server can drop duplicates."""


def render(
    folder: Path, name: str, *, language: Literal["en", "ru"], site: str, link: str = "", **values: str
) -> EmailContent:
    """Render the template `<name>.<language>.txt` of `folder`, with an HTML part built by `layout.html`.

    The template's first line is the subject, and a link is a paragraph of its own. `site` and `link` are trusted; the
    other values may be chosen by users, and are kept from becoming headers, markup or links. Raises
    jinja2.UndefinedError if the template needs a missing value.
    """
    templates = _templates(folder)
    shown = {key: _harmless(value) for key, value in values.items()} | {"site": site}
    if link:
        shown["link"] = link
    subject, *paragraphs = templates.get_template(f"{name}.{language}.txt").render(shown).strip().split("\n\n")
    html = templates.get_template("layout.html").render(
        language=language, subject=subject, paragraphs=paragraphs, link=link, site=site
    )
    return EmailContent(subject=subject, text="\n\n".join(paragraphs) + "\n", html=html, language=language)


@cache
def _templates(folder: Path) -> Environment:
    # Templates are plain text; only the layout is HTML.
    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        autoescape=lambda name: name is not None and name.endswith(".html"),  # noqa: S701
    )


def _harmless(value: str) -> str:
    """Return a user's text as one short line in which mail programs detect no link."""
    visible = "".join(" " if character.isspace() else character for character in value)
    line = " ".join("".join(c for c in visible if unicodedata.category(c)[0] != "C").split())[:_MAX_VALUE_LENGTH]
    return _LINK_LIKE.sub("\u2060", line)  # a word joiner: invisible, and not valid in a host name


def message_id(settings: Settings, *, job_id: int, payload: bytes) -> str:
    """Return the Message-ID for a job's email: the same at every attempt, and unique to the job."""
    # A keyed hash instead of the job id: another database of the same operator also counts from 1.
    seed = b"%d %s" % (job_id, payload)
    digest = hashlib.blake2b(seed, key=settings.secret_keys[0].encode()[:64], digest_size=16).hexdigest()
    return f"<{digest}@{settings.sender.domain}>"


async def deliver(
    email: OutgoingEmail,
    *,
    settings: Settings,
    timeout_s: float = 50.0,
    on_step: Callable[[Step], None] = lambda _: None,
) -> None:
    """Send an email by the SMTP server of `settings`, or write it into the outbox in the data directory.

    `timeout_s` limits the whole exchange, from connecting to the server's final reply. Raises Undeliverable if it can
    never succeed, and Undelivered if a later attempt may. An Undelivered with `in_doubt` may have been accepted after
    all; the next attempt then sends a duplicate with the same Message-ID.
    """
    if not settings.smtp_url:
        await asyncio.to_thread(_write, email, settings)
        return
    message = _message(email, settings, encoding="quoted-printable")
    await send_message(
        message,
        sender=settings.sender,
        recipient=_mailbox(email.to),
        settings=settings,
        timeout_s=timeout_s,
        on_step=on_step,
    )


def _message(email: OutgoingEmail, settings: Settings, *, encoding: str) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = settings.sender
    message["To"] = _mailbox(email.to)
    message["Subject"] = email.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = email.message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    message.set_content(email.text, cte=encoding)
    message.add_alternative(email.html, subtype="html", cte=encoding)
    message["Content-Language"] = email.language  # last: setting the content drops headers of this kind
    return message


def _mailbox(text: str) -> Address:
    parsed = parse_email(text)
    if parsed is None:
        raise Undeliverable("it is not an address")
    # The local part as typed, because some servers are case-sensitive; the domain in ASCII form.
    local = unicodedata.normalize("NFKC", parsed.typed).rpartition("@")[0]
    return Address(username=local, domain=parsed.key.rpartition("@")[2])


def _write(email: OutgoingEmail, settings: Settings) -> None:
    # Unencoded, so that people can read and search it.
    content = _message(email, settings, encoding="8bit").as_bytes(policy=SMTPUTF8)
    number = hashlib.blake2b(email.message_id.encode(), digest_size=6).hexdigest()
    folder = Path(settings.data_dir) / "outbox"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        path = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{number}.eml"
        descriptor, draft = tempfile.mkstemp(dir=folder, prefix=".", suffix=".draft")  # mode 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).rename(path)
        except BaseException:
            Path(draft).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Undelivered(f"cannot write into {folder}: {error.strerror}", obstacle="outbox") from None
    with suppress(Exception):  # the email is written even if logging fails
        _log.info("mail.written", path=str(path))
