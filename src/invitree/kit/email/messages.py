"""Mail: letters out of templates, delivered by SMTP or into a folder.

For the worker alone. Web processes never import this module, aiosmtplib, Jinja or PgQueuer: they start in the time that
it takes to load them. A test sees to that.
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
from invitree.kit.email.smtp import Step, Undeliverable, Undelivered, hand_over

_LONGEST_VALUE = 150  # characters of what a person has chosen
_LINK_LIKE = re.compile(r"(?<=\.)(?=\w{2})|(?<=:)(?=//)|(?<=@)")
_log = structlog.get_logger()


class Content(Struct, frozen=True, kw_only=True):
    """What a letter says."""

    subject: str
    text: str
    html: str
    language: str


class Letter(Content, frozen=True, kw_only=True):
    """What a letter says, and to whom: `to` is a plain mailbox address."""

    to: str
    message_id: str
    """The same at every attempt, so that a mail server can drop a double."""


def render(
    folder: Path, name: str, *, language: Literal["en", "ru"], site: str, link: str = "", **values: str
) -> Content:
    """Return the letter `<name>.<language>.txt` of `folder`, with an HTML part made of its paragraphs by `layout.html`.

    The template's first line is the subject, and a link is a paragraph of its own. `site` and `link` are ours; the
    other values may be what somebody has chosen, and can become no header, no markup and no link. Raises
    jinja2.UndefinedError where the template needs a value that is missing.
    """
    templates = _templates(folder)
    shown = {key: _harmless(value) for key, value in values.items()} | {"site": site}
    if link:
        shown["link"] = link
    subject, *paragraphs = templates.get_template(f"{name}.{language}.txt").render(shown).strip().split("\n\n")
    html = templates.get_template("layout.html").render(
        language=language, subject=subject, paragraphs=paragraphs, link=link, site=site
    )
    return Content(subject=subject, text="\n\n".join(paragraphs) + "\n", html=html, language=language)


@cache
def _templates(folder: Path) -> Environment:
    # The texts are plain text; only the layout is HTML.
    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        autoescape=lambda name: name is not None and name.endswith(".html"),  # noqa: S701
    )


def _harmless(value: str) -> str:
    """Return what a person has chosen as one short line in which mail programs find no link."""
    visible = "".join(" " if character.isspace() else character for character in value)
    line = " ".join("".join(c for c in visible if unicodedata.category(c)[0] != "C").split())[:_LONGEST_VALUE]
    return _LINK_LIKE.sub("\u2060", line)  # a word joiner: not seen, and no part of a host name


def message_id(settings: Settings, *, job_id: int, payload: bytes) -> str:
    """Return the Message-ID of the letter that a job sends, the same at each of its attempts and in no other job."""
    # Keyed, and not the number itself: another database of the same operator counts its jobs from 1 too.
    seed = b"%d %s" % (job_id, payload)
    digest = hashlib.blake2b(seed, key=settings.secret_keys[0].encode()[:64], digest_size=16).hexdigest()
    return f"<{digest}@{settings.sender.domain}>"


async def deliver(
    letter: Letter, *, settings: Settings, patience_s: float = 50.0, on_step: Callable[[Step], None] = lambda _: None
) -> None:
    """Hand the letter to the mail server of `settings`, or write it into the outbox in the data folder.

    `patience_s` is for all of it, from connecting to the server's word on the letter. Raises Undeliverable for what
    will never succeed, and Undelivered for what may later on. When this returns, the letter is accepted. When it raises
    Undelivered in doubt, it can have been accepted all the same: the attempt after that sends a double, under the same
    Message-ID.
    """
    if not settings.smtp_url:
        await asyncio.to_thread(_write, letter, settings)
        return
    message = _message(letter, settings, encoding="quoted-printable")
    await hand_over(
        message,
        sender=settings.sender,
        recipient=_mailbox(letter.to),
        settings=settings,
        patience_s=patience_s,
        on_step=on_step,
    )


def _message(letter: Letter, settings: Settings, *, encoding: str) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = settings.sender
    message["To"] = _mailbox(letter.to)
    message["Subject"] = letter.subject
    message["Date"] = format_datetime(datetime.now(UTC))
    message["Message-ID"] = letter.message_id
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    message.set_content(letter.text, cte=encoding)
    message.add_alternative(letter.html, subtype="html", cte=encoding)
    message["Content-Language"] = letter.language  # last: setting the content drops headers of this kind
    return message


def _mailbox(text: str) -> Address:
    parsed = parse_email(text)
    if parsed is None:
        raise Undeliverable("it is not an address")
    # As typed, for some servers mind the case; the domain as name servers know it.
    local = unicodedata.normalize("NFKC", parsed.typed).rpartition("@")[0]
    return Address(username=local, domain=parsed.key.rpartition("@")[2])


def _write(letter: Letter, settings: Settings) -> None:
    # Nothing encoded, for people to read and search.
    content = _message(letter, settings, encoding="8bit").as_bytes(policy=SMTPUTF8)
    number = hashlib.blake2b(letter.message_id.encode(), digest_size=6).hexdigest()
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
    with suppress(Exception):  # it is written, whatever becomes of the log
        _log.info("mail.written", path=str(path))
