"""Mail: letters out of templates, delivered by SMTP or into a folder.

For the worker alone. Web processes never import this module, aiosmtplib, Jinja or PgQueuer: they start in the time that
it takes to load them. A test sees to that.
"""

import asyncio
import hashlib
import os
import re
import ssl
import tempfile
import unicodedata
from contextlib import suppress
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, parseaddr
from functools import cache
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

import aiosmtplib
import structlog
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from msgspec import Struct

from invitree.base.emails import parse_email
from invitree.base.settings import Settings
from invitree.kit.jobs import GiveUp, TryAgain

_FAREWELL_S = 2.0
_LONGEST_VALUE = 150  # characters of what a person has chosen
_ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")
_LINK_LIKE = re.compile(r"(?<=\.)(?=\w{2})|(?<=:)(?=//)|(?<=@)")
_ASKED_TO_LOG_IN = (530, 534, 535, 538)
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


class Undeliverable(GiveUp):
    """This letter will never reach this mailbox. The message is the reason, without addresses."""


class Undelivered(TryAgain):
    """The letter could not be delivered now. The message is the reason, without addresses."""


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
    return f"<{digest}@{parseaddr(settings.mail_from)[1].rpartition('@')[2]}>"


async def deliver(letter: Letter, *, settings: Settings, patience_s: float = 20.0) -> None:
    """Hand the letter to the mail server of `settings`, or write it into the outbox in the data folder.

    `patience_s` is for all of it, from connecting to the server's word on the letter. Raises Undeliverable for what
    will never succeed, and Undelivered for what may later on. When this returns, the letter is accepted. When it raises
    Undelivered, it can have been accepted all the same if the server's answer was lost: the attempt after that sends a
    double, under the same Message-ID.
    """
    if not settings.smtp_url:
        await asyncio.to_thread(_write, letter, settings)
        return
    message = _message(letter, settings, encoding="quoted-printable")
    client = _client(urlsplit(settings.smtp_url), patience_s)
    try:
        await _send(client, message, patience_s)
        # It is accepted. Whatever happens to the farewell, the letter must not be sent again.
        with suppress(Exception):
            await client.quit(timeout=_FAREWELL_S)
    finally:
        client.close()


def _message(letter: Letter, settings: Settings, *, encoding: str) -> EmailMessage:
    message = EmailMessage(policy=SMTP)
    message["From"] = settings.mail_from
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


def _client(url: SplitResult, patience_s: float) -> aiosmtplib.SMTP:
    implicit, user = url.scheme == "smtps", unquote(url.username or "")
    return aiosmtplib.SMTP(
        hostname=url.hostname,
        port=url.port or (465 if implicit else 587),
        username=user or None,
        password=unquote(url.password or "") if user else None,
        use_tls=implicit,
        # Whoever is to get a password must speak TLS and have a certificate. Without a password, TLS is taken where it
        # is offered: who can show a false certificate can as well hide the offer, and a relay on this machine has none.
        start_tls=True if user and not implicit else False if implicit else None,
        validate_certs=bool(user) or implicit,
        timeout=patience_s,
    )


async def _send(client: aiosmtplib.SMTP, message: EmailMessage, patience_s: float) -> None:
    """Send to the one recipient. All before the recipient is named is for the operator to mend, and tried again."""
    reached = False
    try:
        async with asyncio.timeout(patience_s):
            await client.connect()
            reached = True
            await client.send_message(message)
    except aiosmtplib.SMTPRecipientsRefused as error:
        refusal = error.recipients[0]
        raise _refused(refusal.code, refusal.message) from None
    except aiosmtplib.SMTPDataError as error:
        raise _refused(error.code, error.message) from None
    except aiosmtplib.SMTPResponseException as error:
        raise Undelivered(_reason(f"{error.code} {error.message}")) from None
    except aiosmtplib.SMTPNotSupported as error:
        raise (Undeliverable if reached else Undelivered)(_reason(error.message)) from None
    except TimeoutError:
        raise Undelivered("the mail server does not answer in time") from None
    except (aiosmtplib.SMTPException, OSError, ssl.SSLError) as error:
        raise Undelivered(_reason(str(error) or type(error).__name__)) from None


def _refused(code: int, text: str) -> Undeliverable | Undelivered:
    is_for_ever = 500 <= code < 600 and code not in _ASKED_TO_LOG_IN
    return (Undeliverable if is_for_ever else Undelivered)(_reason(f"{code} {text}"))


def _reason(text: str) -> str:
    """Return what a mail server says as one short line without addresses."""
    return _ADDRESS.sub("***", " ".join(text.split()))[:200]


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
        raise Undelivered(f"cannot write into {folder}: {error.strerror}") from None
    _log.info("mail.written", path=str(path))
