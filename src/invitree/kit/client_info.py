"""The client of a request: network, device, and preferred language."""

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from litestar.connection import ASGIConnection
from msgspec import Struct

from invitree.base.problems import Language
from invitree.kit.context import app_context
from invitree.kit.web.responses import language_of

_MAX_DEVICE_LENGTH = 200
Address = IPv4Address | IPv6Address


class ClientInfo(Struct, frozen=True, kw_only=True):
    """The client of a request.

    `network` is the key for rate limits: an IPv4 address or an IPv6 /64, which a client cannot change at will.
    `ip_prefix` (/24 or /48) is what is stored, to recognize a network. `device` is the User-Agent.
    """

    network: str = ""
    ip_prefix: str = ""
    device: str = ""
    language: Language = "en"

    @property
    def lane(self) -> str:
        """The queue for password hashing: an IPv4 address or an IPv6 /48, as one site may own all its /64s."""
        return self.ip_prefix if ":" in self.network else self.network


def client_info(connection: ASGIConnection[Any, Any, Any, Any]) -> ClientInfo:
    """Return the client of a request, behind as many proxies as `INVITREE_TRUSTED_PROXIES` says."""
    headers = connection.headers
    address = _address(connection.scope, proxies=app_context(connection).settings.trusted_proxies)
    return ClientInfo(
        network=network_of(address),
        ip_prefix=prefix_of(address),
        device="".join(filter(str.isprintable, headers.get("user-agent", "")))[:_MAX_DEVICE_LENGTH],
        language=language_of(headers.get("accept-language", "")),
    )


def network_of_scope(scope: Any, *, proxies: int) -> str:
    """Return the rate-limit key for the client of an ASGI request."""
    return network_of(_address(scope, proxies=proxies))


def _address(scope: Any, *, proxies: int) -> Address | None:
    forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for") if proxies else b""
    return client_address(scope["client"][0] if scope["client"] else "", forwarded.decode("latin-1"), proxies=proxies)


@lru_cache(10_000)
def client_address(peer: str, forwarded_for: str, *, proxies: int) -> Address | None:
    """Return the client's address: the one that connected to the outermost of `proxies` trusted proxies.

    Whatever is further left in `X-Forwarded-For` was written by the client.
    """
    chain = [*filter(None, (part.strip() for part in forwarded_for.split(","))), peer]
    return _parse(chain[-min(proxies + 1, len(chain))]) or _parse(peer)


@lru_cache(10_000)
def network_of(address: Address | None) -> str:
    """Return the rate-limit key: an IPv4 address, or an IPv6 /64, which belongs to one customer."""
    return str(ip_network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address or "")


def prefix_of(address: Address | None) -> str:
    """Return the prefix that may be stored: an IPv4 /24 or an IPv6 /48."""
    if address is None:
        return ""
    network = ip_network((address, 24 if isinstance(address, IPv4Address) else 48), strict=False)
    return network.compressed if isinstance(network, IPv6Network) else str(network)


def _parse(text: str) -> Address | None:
    """Parse an address, without the port that some proxies add; an IPv4-mapped IPv6 address becomes IPv4."""
    host = text.partition("]")[0].lstrip("[") if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
