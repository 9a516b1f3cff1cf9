"""Sending one email by SMTP, with each failure attributed to the address, the email, or the configuration."""

import asyncio
import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from ipaddress import IPv6Address, ip_address
from typing import Literal
from urllib.parse import urlsplit

import aiosmtplib

from invitree.base.settings import Settings
from invitree.base.smtp import is_helo_name
from invitree.kit.email.refusals import is_address_at_fault, is_sender_at_fault, status_of
from invitree.kit.work.jobs import GiveUp, TryAgain

Step = Literal["resolve", "connect", "encrypt", "hello", "login", "sender", "recipient", "letter", "answer"]

_QUIT_TIMEOUT_S = 2.0
_ADDRESS = re.compile(r"[^\s<>@]+@[^\s<>@]+")
_NO_EHLO = (500, 502)
_START_INPUT, _COMPLETED = 354, 250


class Undeliverable(GiveUp):
    """The email can never be delivered. The message is the reason, without addresses."""


class Undelivered(TryAgain):
    """The email could not be delivered now. The message is the reason, without addresses."""


async def send_message(
    message: EmailMessage,
    *,
    sender: Address,
    recipient: Address,
    settings: Settings,
    timeout_s: float,
    on_step: Callable[[Step], None],
) -> None:
    """Send a message by the SMTP server of `settings`, within `timeout_s`; `on_step` is called before each step.

    Raises Undeliverable if the server permanently rejects the address, and Undelivered for everything else, `in_doubt`
    only if the whole message was sent and no reply received.
    """
    session = _Session(settings, timeout_s, on_step)
    try:
        async with asyncio.timeout(timeout_s):
            await session.begin()
            await session.send(message, sender.addr_spec, recipient.addr_spec)
    # TimeoutError is an OSError, and an invalid host name is a ValueError.
    except (aiosmtplib.SMTPException, OSError, ValueError, asyncio.CancelledError) as error:
        session.client.close()
        raise _classify(session.step, error) from None
    # The message is accepted. It must not be sent again, whatever happens to QUIT.
    with suppress(Exception, asyncio.CancelledError):
        await session.client.quit(timeout=_QUIT_TIMEOUT_S)
    session.client.close()


class _Session:
    """An SMTP session for one message; `step` is the last step begun."""

    def __init__(self, settings: Settings, timeout_s: float, on_step: Callable[[Step], None]) -> None:
        self._settings, self._server, self._on_step = settings, settings.mail_server, on_step
        self.step: Step = "resolve"
        # A server that gets a password needs TLS and a valid certificate. Without a password, TLS is opportunistic and
        # unverified: an attacker with a false certificate could also hide STARTTLS, and a local relay may have none.
        is_clear = not self._server.user or settings.smtp_password_in_the_clear
        self._demands_tls = bool(settings.smtp_ca) or not is_clear
        self.client = aiosmtplib.SMTP(
            hostname=self._server.host,
            port=self._server.port,
            use_tls=self._server.implicit_tls,
            start_tls=False,
            timeout=timeout_s,
            local_hostname="localhost",  # avoids a DNS query; the real name is set after connecting
        )

    def _begin_step(self, step: Step) -> None:
        self.step = step
        self._on_step(step)

    async def begin(self) -> None:
        """Connect, start TLS, say EHLO, and log in."""
        self._begin_step("resolve")
        await asyncio.get_running_loop().getaddrinfo(self._server.host, self._server.port)
        self._begin_step("connect")
        self.client.tls_context = await asyncio.to_thread(self._tls)
        await self.client.connect()
        self._begin_step("hello")
        self.client.local_hostname = helo_name(self._settings, self.client.get_transport_info("sockname")[0])
        await self._say_ehlo()
        if not self._server.implicit_tls and (self._demands_tls or self.client.supports_extension("starttls")):
            self._begin_step("encrypt")
            await self.client.starttls()
            self._begin_step("hello")
            await self._say_ehlo()
        if self._server.user:
            self._begin_step("login")
            await self.client.login(self._server.user, self._server.password)

    def _tls(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self._settings.smtp_ca or None)
        if not self._demands_tls and not self._server.implicit_tls:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context

    async def _say_ehlo(self) -> None:
        try:
            await self.client.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            if error.code not in _NO_EHLO:
                raise
            await self.client.helo()

    async def send(self, message: EmailMessage, sender: str, recipient: str) -> None:
        """Send a message to its one recipient."""
        is_ascii = (sender + recipient).isascii()
        if not is_ascii and not self.client.supports_extension("smtputf8"):
            self._begin_step("recipient" if sender.isascii() else "sender")
            raise aiosmtplib.SMTPNotSupported("the mail server does not offer SMTPUTF8, which the address needs")
        self._begin_step("sender")
        encoding, options = ("ascii", []) if is_ascii else ("utf-8", ["SMTPUTF8", "BODY=8BITMIME"])
        await self.client.mail(sender, options=options, encoding=encoding)
        self._begin_step("recipient")
        await self.client.rcpt(recipient, encoding=encoding)
        self._begin_step("letter")
        content = message.as_bytes(policy=SMTP if is_ascii else SMTPUTF8)
        response = await self.client.execute_command(b"DATA")
        protocol = self.client.protocol
        if response.code != _START_INPUT or protocol is None:
            raise aiosmtplib.SMTPDataError(response.code, response.message)
        # In two steps, unlike aiosmtplib's `data`: only after the second may the server have accepted the message.
        self._begin_step("answer")
        protocol.write(re.sub(rb"(?m)^\.", b"..", content) + b".\r\n")
        response = await protocol.read_response()
        if response.code != _COMPLETED:
            raise aiosmtplib.SMTPDataError(response.code, response.message)


def helo_name(settings: Settings, own_ip: str) -> str:
    """Return the HELO name: the setting, or the public host name, or else this machine's IP address."""
    if settings.smtp_helo:
        return settings.smtp_helo
    public = urlsplit(settings.public_url).hostname or ""
    if is_helo_name(public):
        return public
    ip = ip_address(own_ip.partition("%")[0])
    return f"[IPv6:{ip}]" if isinstance(ip, IPv6Address) else f"[{ip}]"


def _classify(step: Step, error: BaseException) -> Undeliverable | Undelivered:
    code, reply = 0, ""
    if isinstance(error, aiosmtplib.SMTPResponseException):
        code, reply = error.code, error.message
        reason = f"{code} {reply}"
    elif isinstance(error, asyncio.CancelledError):
        return Undelivered("interrupted", in_doubt=step == "answer")
    elif isinstance(error, TimeoutError):
        reason = f"the mail server does not answer in time ({step})"
    else:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        step = "encrypt" if isinstance(cause, ssl.SSLError) else step
        reason = str(error) or type(error).__name__
    about_this_email = step in ("recipient", "letter", "answer")
    if step == "recipient" and isinstance(error, aiosmtplib.SMTPNotSupported):
        return Undeliverable(_reason(reason))
    if about_this_email and code and is_address_at_fault(code, reply, of_recipient=step == "recipient"):
        return Undeliverable(_reason(reason))
    # A temporary rejection of a recipient concerns one email; any other failure blocks all of them.
    is_about_one_email = about_this_email and (not code or (code < 500 and not is_sender_at_fault(reply)))
    in_doubt = step == "answer" and not code
    obstacle = "" if is_about_one_email else " ".join(filter(None, (step, str(code or ""), status_of(reply))))
    return Undelivered(_reason(reason), in_doubt=in_doubt, obstacle=obstacle)


def _reason(text: str) -> str:
    """Return an SMTP reply as one short line without addresses."""
    return _ADDRESS.sub("***", " ".join(text.split()))[:200]
