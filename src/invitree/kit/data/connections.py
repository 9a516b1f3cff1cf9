"""Connecting to the database at a URL, with nothing but what the URL says.

asyncpg itself also reads the environment and the home directory, and treats any unknown parameter as a server setting.
"""

import errno
import os
import random
import re
import socket
import ssl
import stat
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import asyncpg

from invitree.base.addresses import Address, for_libpq, ignored_parameters, is_socket, parse_address

_PINNED = {
    # Guarantees such as "one of two registrations wins" are tested at this level; stricter ones raise errors instead.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "idle_session_timeout": "0",
    "timezone": "UTC",
}
"""Settings of every connection, which override the defaults of the URL, the database and the role."""

# Whether to use TLS at the first attempt, and at the second.
_TLS_ATTEMPTS = {"disable": (False,), "allow": (False, True), "prefer": (True, False)}
_DEFAULTS = {"sslrootcert": "root.crt", "sslcrl": "root.crl", "sslcert": "postgresql.crt", "sslkey": "postgresql.key"}
_SYSTEM_ROOTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")
_KEEPALIVES = {
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}
_TRY_NEXT_HOST = (OSError, asyncpg.CannotConnectNowError, asyncpg.TargetServerAttributeNotMatched)
_TRY_NEXT_TLS = (ConnectionError, ssl.SSLError, asyncpg.InvalidAuthorizationSpecificationError)


async def connect(url: str, *, timeout: float, server_settings: Mapping[str, str] = {}, **options: Any) -> Any:  # noqa: ASYNC109
    """Return an asyncpg connection to the first host of a URL that can be reached and meets its requirements.

    `timeout` applies to each host, unless the URL sets another; `server_settings` override those of the URL. Raises
    AddressError, and asyncpg's errors.
    """
    address = parse_address(url)
    options |= {
        "timeout": max(float(address.parameters.get("connect_timeout", 0)), 0) or timeout,
        "user": address.user,
        "database": address.dbname,
        "password": password_for(address) or "",  # with None, asyncpg would search for one itself
        "direct_tls": address.parameters.get("sslnegotiation") == "direct",
        "server_settings": {**address.server_settings, **_PINNED, **server_settings},
        "krbsrvname": "postgres",
        "gsslib": "gssapi",
    }
    failure: Exception = ConnectionError("there is no such server")
    for target in _target_attrs(address):
        for host, port in _in_order(address):
            attempts = (False,) if is_socket(host) else _TLS_ATTEMPTS.get(address.sslmode, (True,))
            contexts = [_context(url, _mtimes(address)) if tls else False for tls in attempts]
            try:
                connection = await _attempt(contexts, host=host, port=port, target_session_attrs=target, **options)
            except _TRY_NEXT_HOST as error:
                failure = error
            else:
                _keep_alive(connection, address.parameters)
                return connection
    raise _without_host(failure) from None


async def _attempt(contexts: Sequence[ssl.SSLContext | bool], **options: Any) -> Any:
    try:
        return await asyncpg.connect(ssl=contexts[0], **options)
    except _TRY_NEXT_TLS as error:
        hopeless = isinstance(error, ConnectionRefusedError | asyncpg.InvalidPasswordError)
        if len(contexts) == 1 or hopeless:
            raise
    return await asyncpg.connect(ssl=contexts[1], **options)


def _target_attrs(address: Address) -> tuple[str, ...]:
    target = address.parameters.get("target_session_attrs", "any")
    return ("standby", "any") if target == "prefer-standby" else (target,)


def _in_order(address: Address) -> Sequence[tuple[str, int]]:
    if address.parameters.get("load_balance_hosts") == "random":
        return random.sample(address.places, len(address.places))
    return address.places


def _without_host(failure: Exception) -> Exception:
    """Return an equivalent error that does not contain the host."""
    if isinstance(failure, ssl.SSLCertVerificationError):
        reason = failure.verify_message.partition(",")[0]
        return ConnectionError(f"the server's certificate is refused: {reason}")
    if isinstance(failure, ConnectionError) and "rejected SSL upgrade" in str(failure):
        return ConnectionError("the server has no TLS, which sslmode asks for")
    if isinstance(failure, ConnectionRefusedError) and failure.errno:
        return ConnectionRefusedError(failure.errno, os.strerror(failure.errno))
    if isinstance(failure, OSError) and str(failure).startswith("Multiple exceptions"):
        return ConnectionRefusedError(errno.ECONNREFUSED, "no address of the host takes connections")
    return failure


def _keep_alive(connection: Any, parameters: Mapping[str, str]) -> None:
    """Enable TCP keepalives, as libpq does."""
    sock = connection._transport.get_extra_info("socket")  # noqa: SLF001
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(parameters.get("keepalives", 1)))
    for name, option in _KEEPALIVES.items():
        if (value := int(parameters.get(name, 0))) and hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


@cache
def warn_about_ignored(url: str) -> None:
    """Print a warning about each ignored parameter of a URL, once per process."""
    for warning in ignored_parameters(url):
        print(f"invitree: {warning}", file=sys.stderr, flush=True)


def is_encrypted(connection: Any) -> bool:
    """Return whether a connection uses TLS."""
    return connection._transport.get_extra_info("ssl_object") is not None  # noqa: SLF001


def parameters_of(address: Address) -> dict[str, str]:
    """Return the parameters for libpq without a home directory, without the password."""
    found = for_libpq(address)
    found.pop("passfile", None)
    if is_socket(address.places[0][0]) or address.sslmode in ("disable", "allow", "prefer"):
        names: tuple[str, ...] = ("sslcert", "sslkey")
    else:
        names = tuple(_DEFAULTS)
    found |= {name: file for name in names if (file := _file(address, name))}
    if address.parameters.get("sslcertmode") == "disable":
        found = {name: value for name, value in found.items() if name not in ("sslcert", "sslkey")}
    if found.get("sslrootcert") == "system":  # older libpq than 16 does not know "system"
        found["sslrootcert"] = next((file for file in _SYSTEM_ROOTS if _mtime(Path(file))), "system")
    return found


def password_for(address: Address) -> str | None:
    """Return the password of an address: its own, or from the password file."""
    if address.password is not None:
        return address.password
    given = address.parameters.get("passfile")
    path = Path(given) if given else _home() / ".pgpass"
    try:
        is_private = not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
        lines = path.read_text(encoding="utf-8").splitlines() if is_private else []
    except (OSError, UnicodeError) as error:
        if given:
            raise ConnectionError(f"passfile cannot be used: {_reason(error)}") from None
        return None
    if given and not is_private:
        raise ConnectionError("passfile cannot be used: others may read it, chmod 600 it")
    for place in address.places:
        for line in lines:
            if not line.startswith("#") and (found := _password_in(line, address, *place)) is not None:
                return found
    return None


def _password_in(line: str, address: Address, host: str, port: int) -> str | None:
    fields = [re.sub(r"\\(.)", r"\1", field) for field in re.findall(r"(?:^|:)((?:\\.|[^:\\])*)", line)]
    if len(fields) < 5:
        return None
    hosts = (host, "localhost") if is_socket(host) else (host,)
    fits = fields[0] in ("*", *hosts) and all(
        field in ("*", value)
        for field, value in zip(fields[1:4], (str(port), address.dbname, address.user), strict=True)
    )
    return ":".join(fields[4:]) if fits else None


def _file(address: Address, name: str) -> str:
    """Return the file for a parameter: the given one, or libpq's default if it exists and can be read."""
    default = _home() / ".postgresql" / _DEFAULTS[name]
    return address.parameters.get(name) or (str(default) if _mtime(default) else "")


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        return Path("/nonexistent")


def _mtime(path: Path) -> int:
    """Return a file's modification time in ns, or 0 if there is no such file."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _mtimes(address: Address) -> tuple[object, ...]:
    """Return a cache key that changes when a certificate is renewed."""
    files = [_file(address, name) for name in _DEFAULTS]
    return tuple((file, _mtime(Path(file))) for file in files if file)


@lru_cache(maxsize=4)
def _context(url: str, _mtimes: tuple[object, ...]) -> ssl.SSLContext:
    address = parse_address(url)
    parameters = address.parameters
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if address.is_tls_required:
        _trust(context, address)
    if parameters.get("sslcertmode") != "disable" and (certificate := _file(address, "sslcert")):
        with _naming("sslcert"):
            context.load_cert_chain(certificate, _file(address, "sslkey") or None, password=lambda: "")
    context.minimum_version = _version(parameters.get("ssl_min_protocol_version", "TLSv1.2"))
    if newest := parameters.get("ssl_max_protocol_version"):
        context.maximum_version = _version(newest)
    context.set_alpn_protocols(["postgresql"])
    return context


def _trust(context: ssl.SSLContext, address: Address) -> None:
    """Set up verification of the server's certificate, if sslmode or a root certificate asks for it."""
    roots = _file(address, "sslrootcert")
    if not roots and address.sslmode == "require":
        return
    if not roots:
        raise ConnectionError(
            f"sslmode={address.sslmode} needs the certificate of the server's authority: sslrootcert=FILE, or "
            "sslrootcert=system for a public one"
        )
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = address.sslmode == "verify-full"
    if roots == "system":
        context.load_default_certs()
    else:
        with _naming("sslrootcert"):
            context.load_verify_locations(cafile=roots)
    revoked, folder = _file(address, "sslcrl"), address.parameters.get("sslcrldir")
    if revoked or folder:
        with _naming("sslcrl" if revoked else "sslcrldir"):
            context.load_verify_locations(cafile=revoked or None, capath=folder)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Turn an OSError into a ConnectionError that names the parameter."""
    try:
        yield
    except OSError as error:
        raise ConnectionError(f"{name} cannot be used: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return "it is not a certificate with its key, in PEM"
    return getattr(error, "strerror", None) or "it is not UTF-8 text"


def _version(name: str) -> ssl.TLSVersion:
    return ssl.TLSVersion[name.replace(".", "_")]
