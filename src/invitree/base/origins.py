"""Web origins, in the form browsers send in the `Origin` header (RFC 6454)."""

import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from urllib.parse import urlsplit

MAX_ORIGINS = 50
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_HOST = re.compile(r"(?!-)[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def parse_origins(texts: Iterable[str]) -> list[str]:
    """Return normalized origins without blanks and duplicates. Raises ValueError with one line for the operator."""
    origins = list(dict.fromkeys(_parse(text) for text in map(str.strip, texts) if text))
    if len(origins) > MAX_ORIGINS:
        raise ValueError(f"{len(origins)} origins are too many; {MAX_ORIGINS} at most")
    return origins


def _parse(text: str) -> str:
    if "*" in text:
        raise ValueError(f"{text!r} is a wildcard; list each origin, such as https://app.example.com")
    if text.lower() == "null":
        raise ValueError(f"{text!r} is what every sandboxed page sends; serve the page from an origin of its own")
    if not text.isascii():
        raise ValueError(
            f"{text!r} is not ASCII; write the host as browsers send it, such as https://xn--bcher-kva.example"
        )
    try:
        url = urlsplit(text)
        host, port = _host(url.hostname or ""), url.port
    except ValueError:
        host, port = "", None
    if not _SCHEME.fullmatch(url.scheme if host else "") or port == 0 or url.username is not None:
        raise ValueError(f"{text!r} is not an origin; write scheme://host or scheme://host:port")
    origin = f"{url.scheme}://{host}" + (f":{port}" if port and port != _DEFAULT_PORTS.get(url.scheme) else "")
    if url.path or "?" in text or "#" in text:
        raise ValueError(f"{text!r} has more than an origin in it; write {origin}")
    return origin


def _host(name: str) -> str:
    """Return the host part of an origin. Raises ValueError."""
    if ":" in name:
        return f"[{IPv6Address(name)}]"
    if not _HOST.fullmatch(name):
        raise ValueError
    return name
