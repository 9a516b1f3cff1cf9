"""PostgreSQL connection URLs, with libpq's parameters: each documented one is supported, ignored, or refused by name.

Error messages name parameters but never quote a value: any part of the URL may be part of the password.
"""

import os
import pwd
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from msgspec import Struct

_SOCKETS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "localhost")  # noqa: S108  the usual places
_PORT = "5432"
_ESCAPES = {"%": "%25", "/": "%2F", "@": "%40"}
_TLS_MODES = ("require", "verify-ca", "verify-full")
_TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
_TARGETS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")

# Supported parameters, each with a pattern of allowed values; None allows any.
_SUPPORTED: Mapping[str, str | None] = {
    "host": None,
    "hostaddr": None,
    "port": None,
    "dbname": None,
    "user": None,
    "password": None,
    "passfile": None,
    "options": None,
    "connect_timeout": r"-?\d{1,9}",
    "keepalives": r"[01]",
    "keepalives_idle": r"\d{1,5}",
    "keepalives_interval": r"\d{1,5}",
    "keepalives_count": r"\d{1,3}",
    "tcp_user_timeout": r"\d{1,9}",
    "sslmode": "|".join(("disable", "allow", "prefer", *_TLS_MODES)),
    "sslnegotiation": "postgres|direct",
    "sslcert": None,
    "sslkey": None,
    "sslrootcert": None,
    "sslcrl": None,
    "sslcrldir": None,
    "sslcertmode": "disable|allow",
    "sslsni": "1",
    "ssl_min_protocol_version": "|".join(map(re.escape, _TLS_VERSIONS)),
    "ssl_max_protocol_version": "|".join(map(re.escape, _TLS_VERSIONS)),
    "channel_binding": "disable|prefer|require",
    "gssencmode": "disable|prefer",
    "target_session_attrs": "|".join(_TARGETS),
    "load_balance_hosts": "disable|random",
    "client_encoding": "(?i:auto|utf-?8)",
    "replication": "0|off|no|false",
    "min_protocol_version": r"3\.0",
}
# Safe to ignore, and why.
_IGNORED = {
    "application_name": "the service's own name is what its commands know each other by",
    "fallback_application_name": "the service has a name of its own",
    "krbsrvname": "there is no Kerberos here",
    "gsslib": "there is no Kerberos here",
    "gssdelegation": "there is no Kerberos here",
    "sslcompression": "TLS is never compressed",
    "max_protocol_version": "the protocol is always 3.0",
}
_REFUSED = {
    "require_auth": "leave it out, and use sslmode=verify-full so that no other server is given the password",
    "requirepeer": "leave it out, and keep the socket in a folder that only the server's user can write to",
    "requiressl": "write sslmode=require",
    "service": "write the parameters of the service into the address",
    "servicefile": "write the parameters of the service into the address",
    "sslpassword": "decrypt the key (openssl pkey -in KEY -out NEW) and let only the service's user read it",
    "sslkeylogfile": "leave it out",
    "scram_client_key": "write the password",
    "scram_server_key": "write the password",
    "oauth_issuer": "use a password or a client certificate",
    "oauth_client_id": "use a password or a client certificate",
    "oauth_client_secret": "use a password or a client certificate",
    "oauth_scope": "use a password or a client certificate",
    "database": "write dbname",
}
# Without effect on a single connection, and unknown to older versions of libpq.
_NOT_FOR_LIBPQ = ("load_balance_hosts", "sslcertmode", "min_protocol_version", "replication", "client_encoding")
# Server settings accepted beside the parameters; libpq accepts them only inside `options`.
_SERVER_SETTINGS = frozenset(
    (
        "search_path",
        "role",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "work_mem",
        "jit",
        "timezone",
        "plan_cache_mode",
        "synchronous_commit",
    )
)
VARIABLES = {
    "PGPASSWORD": "password",
    "PGPASSFILE": "passfile",
    "PGSSLMODE": "sslmode",
    "PGSSLNEGOTIATION": "sslnegotiation",
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGSSLROOTCERT": "sslrootcert",
    "PGSSLCRL": "sslcrl",
    "PGSSLCRLDIR": "sslcrldir",
    "PGSSLCERTMODE": "sslcertmode",
    "PGSSLMINPROTOCOLVERSION": "ssl_min_protocol_version",
    "PGSSLMAXPROTOCOLVERSION": "ssl_max_protocol_version",
    "PGCHANNELBINDING": "channel_binding",
    "PGREQUIREAUTH": "require_auth",
    "PGREQUIREPEER": "requirepeer",
    "PGGSSENCMODE": "gssencmode",
}
"""The environment variables that are read, and the parameter each one sets: only those about authentication.

Those that locate the database (PGHOST, …) are not read: a stray one would point the service at another database.
"""


class AddressError(ValueError):
    """The URL cannot be used. The message is one line for the operator and quotes no part of the URL."""


class Address(Struct, frozen=True):
    """A parsed connection URL."""

    places: tuple[tuple[str, int], ...]
    """Hosts or socket directories, each with its port; tried in order."""
    user: str
    dbname: str
    password: str | None
    parameters: Mapping[str, str]
    """The other libpq parameters, except `options`."""
    server_settings: Mapping[str, str]
    """Settings for the session, including `options`."""

    @property
    def sslmode(self) -> str:
        """The sslmode for TCP connections."""
        strict = self.parameters.get("sslrootcert") == "system"
        return self.parameters.get("sslmode", "verify-full" if strict else "prefer")

    @property
    def is_tls_required(self) -> bool:
        """Whether a connection without TLS must be refused."""
        return self.sslmode in _TLS_MODES and not all(is_socket(host) for host, _ in self.places)


def is_socket(host: str) -> bool:
    """Return whether a host is a socket directory."""
    return host.startswith("/")


def parse_address(text: str) -> Address:
    """Parse a connection URL. Raises AddressError."""
    given = _parse(text)
    parameters = {name: value for name, value in given.items() if name in _SUPPORTED and value}
    settings = {name: value for name, value in given.items() if name in _SERVER_SETTINGS}
    if options := parameters.pop("options", ""):
        settings["options"] = options
    places = _places(*(parameters.pop(name, "") for name in ("host", "hostaddr", "port")), parameters=parameters)
    user = parameters.pop("user", "") or _system_user()
    dbname = parameters.pop("dbname", user)
    address = Address(places, user, dbname, parameters.pop("password", None), parameters, settings)
    _check(address)
    return address


def ignored_parameters(text: str) -> list[str]:
    """Return one warning for each ignored parameter of a URL."""
    given = _parse(text)
    warnings = [f"{name} is ignored: {why}" for name, why in _IGNORED.items() if name in given]
    if given.get("channel_binding") == "require":
        warnings.append("channel_binding is ignored: the certificate proves the server (sslmode=verify-full)")
    return [f"in INVITREE_DATABASE_URL, {line}" for line in warnings]


def with_environment(text: str, environ: Mapping[str, str]) -> str:
    """Return the URL with parameters added from the environment where it lacks them. Raises AddressError."""
    given = _parse(text)
    for variable, name in VARIABLES.items():
        if (value := environ.get(variable)) and name not in given:
            _check_parameter(name, value)
            text += f"{'&' if '?' in text else '?'}{name}={quote(value, safe='')}"
    return text


def for_libpq(address: Address) -> dict[str, str]:
    """Return the parameters for libpq 15 or newer, without the password."""
    options = [address.server_settings.get("options", "")]
    options += [_option(name, value) for name, value in address.server_settings.items() if name != "options"]
    return {
        "host": ",".join(host for host, _ in address.places),
        "port": ",".join(str(port) for _, port in address.places),
        "user": address.user,
        "dbname": address.dbname,
        **{name: value for name, value in address.parameters.items() if name not in _NOT_FOR_LIBPQ},
        "sslmode": address.sslmode,
        **({"options": " ".join(filter(None, options))} if any(options) else {}),
    }


def as_uri(text: str) -> str:
    """Return the URL in a form that psql accepts."""
    address = parse_address(text)
    if not set(address.server_settings) - {"options"}:
        return text
    parameters = for_libpq(address)
    user, dbname = (quote(parameters.pop(name), safe="") for name in ("user", "dbname"))
    login = user if address.password is None else f"{user}:{quote(address.password, safe='')}"
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
    return f"postgresql://{login}@/{dbname}?{query}"


def _option(name: str, value: str) -> str:
    return f"-c {name}=" + re.sub(r"([\s\\])", r"\\\1", value)


def _parse(text: str) -> dict[str, str]:
    """Return all parameters of a URL, split as libpq splits it. Raises AddressError for one that is not accepted."""
    match = re.fullmatch(r"postgres(?:ql)?://(?:([^@/]*)@)?(.*)", text, flags=re.DOTALL)
    if match is None or not text.isprintable():
        raise AddressError("it must be postgresql://user:password@host:5432/database")
    place, _, query = match[2].partition("?")
    authority, _, dbname = place.partition("/")
    ports = [re.fullmatch(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::(\d*))?", one) for one in authority.split(",")]
    if "@" in place or "/" in dbname or None in ports:
        raise AddressError(_encoding_hint(match[2]))
    user, colon, password = (match[1] or "").partition(":")
    given = {"user": _decoded(user), "dbname": _decoded(dbname)}
    given |= {"password": _decoded(password)} if colon else {}
    given["host"] = ",".join(_decoded(re.sub(r":\d*$", "", one)).strip("[]") for one in authority.split(","))
    given["port"] = ",".join(match[1] or "" for match in ports if match)
    given = {name: value for name, value in given.items() if value.strip(",")}
    for pair in filter(None, query.split("&")):
        name, equals, value = pair.partition("=")
        name, value = _decoded(name), _decoded(value)
        if (name, value) == ("ssl", "true"):
            name, value = "sslmode", "require"  # as JDBC writes it
        if not equals or name not in _SUPPORTED.keys() | _IGNORED.keys() | _REFUSED.keys() | _SERVER_SETTINGS:
            raise AddressError(_unknown_parameter(name, is_nameable="password" not in given and "@" not in query))
        _check_parameter(name, value)
        given[name] = value
    return given


def _unknown_parameter(name: str, *, is_nameable: bool) -> str:
    known = is_nameable and re.fullmatch(r"[a-z_.]{2,63}", name)
    what = f"there is no parameter {name}" if known else "it has a parameter that there is not"
    return f"{what}; a setting of the server is written options=-c%20NAME%3DVALUE, and an & in a value as %26"


def _check_parameter(name: str, value: str) -> None:
    if name in _REFUSED:
        raise AddressError(f"{name} cannot be obeyed: {_REFUSED[name]}")
    pattern = _SUPPORTED.get(name)
    if name == "gssencmode" and value == "require":
        raise AddressError("gssencmode=require cannot be obeyed: write sslmode=verify-full, which encrypts too")
    if name == "sslcertmode" and value == "require":
        raise AddressError("sslcertmode=require cannot be obeyed: write sslmode=verify-full and sslcert")
    if name == "sslsni" and value == "0":
        raise AddressError("sslsni=0 cannot be obeyed: write the server's IP address as the host, and leave it out")
    if value and pattern is not None and not re.fullmatch(pattern, value):
        raise AddressError(f"{name} has a value that it cannot have")


def _encoding_hint(rest: str) -> str:
    """Return a hint about the character to percent-encode in a URL that could not be split."""
    at, slash = rest.find("@"), rest.find("/")
    if at < 0:
        return "its host or port cannot be read; a port is a number, and an IPv6 address stands in [ ]"
    sign = "/" if 0 <= slash < at else "@"
    return f"in the user name, the password and the database, write {sign} as {_ESCAPES[sign]}"


def _decoded(text: str) -> str:
    if re.search(r"%(?![0-9A-Fa-f]{2})|%00", text):
        raise AddressError(f"write % as {_ESCAPES['%']}, where it does not begin the code of another character")
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise AddressError(f"what % stands for must be UTF-8; % itself is {_ESCAPES['%']}") from None


def _places(host: str, hostaddr: str, port: str, *, parameters: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    if host and hostaddr and parameters.get("sslmode") == "verify-full":
        raise AddressError("hostaddr cannot be obeyed with sslmode=verify-full: leave it out")
    hosts = (hostaddr or host).split(",") if hostaddr or host else list(_SOCKETS)
    ports = port.split(",") if port else [_PORT]
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts) or "" in hosts or any(one.startswith("@") for one in hosts):
        raise AddressError("there must be one port, or one for each host, and no host may be empty or begin with @")
    numbers = [int(one or _PORT) if re.fullmatch(r"\d{0,5}", one) else 0 for one in ports]
    if not all(0 < number < 65_536 for number in numbers):
        raise AddressError("a port must be between 1 and 65535")
    return tuple(zip(hosts, numbers, strict=True))


def _check(address: Address) -> None:
    parameters = address.parameters
    if parameters.get("sslrootcert") == "system" and address.sslmode != "verify-full":
        raise AddressError("sslrootcert=system needs sslmode=verify-full")
    if parameters.get("sslnegotiation") == "direct" and address.sslmode not in _TLS_MODES:
        raise AddressError("sslnegotiation=direct needs sslmode=require, verify-ca or verify-full")
    is_over_tls = address.sslmode == "verify-full" and not any(is_socket(host) for host, _ in address.places)
    if parameters.get("channel_binding") == "require" and not is_over_tls:
        raise AddressError(
            "channel_binding=require needs sslmode=verify-full, where the certificate proves the server instead; add "
            "sslrootcert=system for a certificate of a public authority, sslrootcert=FILE for another"
        )


def _system_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise AddressError("it names no user: write postgresql://user@host/database") from None
