"""Parsing the mail settings: the SMTP server, the sender, and the HELO name."""

import ipaddress
import re
from email.headerregistry import Address
from urllib.parse import unquote

from msgspec import Struct

from invitree.base.emails import parse_email

_IMPLICIT_TLS, _STARTTLS = 465, (25, 587)
_PLACE = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/@?#%\[\]]+)(?::(?P<port>[0-9]{1,5}))?/?")
_RESERVED = re.compile(r"[/@?#\[\]\s]|%(?![0-9A-Fa-f]{2})")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})+")
_NAMED = re.compile(r"(?P<name>.*?)\s*<(?P<address>[^<>]*)>", re.DOTALL)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FORM = "must be smtp://user:password@host:587 or smtps://user:password@host:465"
_HINT = "or move both to INVITREE_SMTP_USER and INVITREE_SMTP_PASSWORD"


class MailServer(Struct, frozen=True, kw_only=True):
    """An SMTP server. `user` is empty if it needs no login."""

    host: str
    port: int
    implicit_tls: bool
    user: str
    password: str


def parse_mail_server(url: str) -> MailServer:
    """Parse an `smtp://` or `smtps://` URL.

    Raises ValueError, which says what is wrong and how to fix it. It quotes no part of the URL but one character: any
    part may be part of the password.
    """
    scheme, _, rest = url.partition("://")
    login, at, host_and_port = rest.rpartition("@")
    if reserved := _RESERVED.search(login):
        character = reserved[0]
        raise ValueError(
            f"the user and the password must be percent-encoded: write {character!r} as %{ord(character):02X}, {_HINT}"
        )
    match = _PLACE.fullmatch(host_and_port)
    port = int(match["port"] or 0) if match else 0
    if not match or scheme not in ("smtp", "smtps") or not url.isprintable() or (match["port"] and not port):
        raise ValueError(f"{_FORM}; a password with special characters must be percent-encoded, {_HINT}")
    if port > 65535:
        raise ValueError("the port must be between 1 and 65535")
    if scheme == "smtp" and port == _IMPLICIT_TLS:
        raise ValueError("port 465 expects TLS from the first byte: write smtps:// instead of smtp://")
    if scheme == "smtps" and port in _STARTTLS:
        raise ValueError(f"port {port} expects STARTTLS: write smtp:// instead of smtps://, or use port 465")
    user, _, password = login.partition(":")
    if at and not user:
        raise ValueError("there is an @ without a user before it")
    return MailServer(
        host=_ascii_host(match["host"].strip("[]")),
        port=port or (_IMPLICIT_TLS if scheme == "smtps" else 587),
        implicit_tls=scheme == "smtps",
        user=unquote(user),
        password=unquote(password),
    )


def _ascii_host(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        raise ValueError("the host name cannot be encoded as a domain name") from None


def parse_sender(text: str) -> Address | None:
    """Parse a sender, `address` or `Any name <address>`; return None if it is neither.

    The name may be quoted and may contain any printable character. The domain is returned in ASCII form.
    """
    text = text.strip()
    named = _NAMED.fullmatch(text)
    name, typed = (named["name"].strip(), named["address"]) if named else ("", text)
    parsed = parse_email(typed)
    if parsed is None or not text.isprintable() or name.count("<"):
        return None
    if quoted := _QUOTED.fullmatch(name):
        name = re.sub(r"\\(.)", r"\1", quoted[1])
    return Address(display_name=name, username=parsed.typed.rpartition("@")[0], domain=parsed.key.rpartition("@")[2])


def is_helo_name(text: str) -> bool:
    """Return whether a text is a valid HELO name: a full host name, or an IP address in brackets (RFC 5321, 4.1.3)."""
    if text.startswith("[") and text.endswith("]"):
        try:
            ipaddress.ip_address(text[1:-1].removeprefix("IPv6:"))
        except ValueError:
            return False
        return (":" in text) == text.startswith("[IPv6:")
    return len(text) <= 253 and bool(_HOST_NAME.fullmatch(text)) and not text.rpartition(".")[2].isdecimal()
