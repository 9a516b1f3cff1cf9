"""Settings, read once from the `INVITREE_*` environment variables and then frozen."""

import os
import re
import ssl
from collections.abc import Iterator, Mapping
from email.headerregistry import Address
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, structs

from invitree.base.addresses import AddressError, parse_address, with_environment
from invitree.base.origins import parse_origins
from invitree.base.rates import parse_rate
from invitree.base.smtp import MailServer, is_helo_name, parse_mail_server, parse_sender

_MIN_SECRET_LENGTH = 32
_PLACEHOLDER = re.compile(r"(?i)change.?me|insecure|example|secret.?key|password")


class SettingsError(ValueError):
    """A setting is invalid. The message is one line for the operator."""


def usable_cores() -> list[int]:
    """Return the CPU cores available to this process: a container or `taskset` may limit them."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


class Settings(Struct, frozen=True, kw_only=True):
    """Every setting with its default. The environment name is `INVITREE_` and the field in capitals.

    Any setting can be read from a file instead: `INVITREE_SECRET_KEY_FILE=/run/secrets/key`.
    """

    database_url: str = ""
    """PostgreSQL 15 or newer. Empty: an embedded one in the data directory."""
    data_dir: str = "invitree-data"
    """The embedded database and the generated secret live here."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = 8000
    """The TCP port to listen on."""
    workers: int = len(usable_cores())
    """Web processes."""
    secret_key: str = ""
    """Signs tokens: 32 characters or more. Several, separated by commas: the first signs, all verify. Empty: one is
    made and kept in the data directory."""
    pool_size: int = 20
    """Database connections of one web process, at most."""
    cache_size: int = 100_000
    """Codes that one web process keeps in memory, at most. 0: every lookup asks the database."""
    access_log: bool = False
    """Log one line a request."""
    log_format: str = "auto"
    """`json`, `console`, or `auto`: console on a terminal, JSON elsewhere."""
    metrics_token: str = ""
    """The bearer token that opens `/metrics`. Empty: there is no `/metrics`."""
    production: bool = False
    """Refuse to start with what is only fit for trying out."""
    public_url: str = ""
    """Where people reach the service, `https://invite.example.com`: links in mail begin with it. Empty: the address
    listened on."""
    trusted_proxies: int = 0
    """How many proxies stand in front, each adding to `X-Forwarded-For`. 0: the peer is the client."""
    cors_origins: str = ""
    """Origins whose pages may call the service from a browser, separated by commas: `https://app.example.com`. Those of
    the programs' policies come on top."""
    smtp_url: str = ""
    """`smtp://user:password@host:587` (STARTTLS) or `smtps://user:password@host:465`. Empty: mail is written to
    `outbox` in the data directory."""
    smtp_user: str = ""
    """Who logs in to the mail server, instead of in the URL."""
    smtp_password: str = ""
    """The password for it, as it is."""
    smtp_password_in_the_clear: bool = False
    """Send the password even to a mail server without TLS, where everybody in the network can read it."""
    smtp_ca: str = ""
    """Certificates, in PEM, of the authorities that the mail server's is checked against, instead of the system's:
    `INVITREE_SMTP_CA_FILE=/path/ca.pem`. With it, TLS is required."""
    smtp_helo: str = ""
    """What mail servers are greeted with. Empty: the host name of the public URL, else this machine's IP address."""
    mail_from: str = "Invitree <invitree@localhost>"
    """The sender of mail."""
    allow_local_email: bool = False
    """Let people sign up with addresses that exist in a local network or a test suite alone, such as `me@corp.local`,
    `me@localhost` and `me@example.test`."""
    retention_days: int = 400
    """How long events of accounts are kept, and mail that was given up, in days: 31 or more. Events go by whole months
    (UTC)."""
    throttle: str = "on"
    """`on`, or `off` for load tests."""
    limit_login: str = "10/5m"
    """Failed logins of one name from one client."""
    limit_login_by_ip: str = "100/5m"
    """Failed logins from one client."""
    limit_login_by_name: str = "50/15m"
    """Failed logins of one name from anywhere."""
    limit_logins: str = "60/15m"
    """Logins of one name from one client, right ones too."""
    limit_logins_by_ip: str = "1200/15m"
    """Logins from one client, right ones too."""
    limit_register: str = "60/1h"
    """Sign-ups from one client."""
    limit_mail_by_ip: str = "30/1h"
    """Mails asked for from one client: resets and activation links."""
    limit_mail_by_target: str = "5/1h"
    """Mails asked for to one address from one client, and those that somebody signed in sends to themselves."""
    limit_mail_to_target: str = "20/1h"
    """Mails asked for to one address from anywhere."""
    limit_lookup: str = "120/1m"
    """Lookups by e-mail by one user."""
    limit_refresh: str = "30/5m"
    """Refreshes of one session."""
    limit_create: str = "60/1h"
    """Codes that one user creates."""
    limit_check: str = "120/1m"
    """Checks of codes from one client."""

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The secret keys: the first signs, all of them verify."""
        return tuple(filter(None, (key.strip() for key in self.secret_key.split(","))))

    @property
    def origins(self) -> list[str]:
        """Origins allowed by CORS for every program. Raises ValueError."""
        return parse_origins(self.cors_origins.split(","))

    @property
    def mail_server(self) -> MailServer:
        """The SMTP server, where one is configured. Raises ValueError."""
        server = parse_mail_server(self.smtp_url)
        if self.smtp_user and server.user:
            raise ValueError("it names a user, and so does INVITREE_SMTP_USER; keep one of the two")
        return structs.replace(server, user=self.smtp_user, password=self.smtp_password) if self.smtp_user else server

    @property
    def sender(self) -> Address:
        """The From address of mail. Raises ValueError."""
        sender = parse_sender(self.mail_from)
        if sender is None:
            raise ValueError("must be one address, or a name and an address such as Invitree <invitree@example.com>")
        return sender

    @property
    def public_base(self) -> str:
        """The base URL of links, without a trailing slash."""
        if self.public_url:
            return self.public_url.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104  a wildcard includes the loopback address
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


_LIMITS = [name for name in Settings.__struct_fields__ if name.startswith("limit_")]


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from `environ`. Raises SettingsError, which names the invalid variable."""
    found: dict[str, str] = {}
    for field in Settings.__struct_fields__:
        name = f"INVITREE_{field.upper()}"
        path, value = environ.get(f"{name}_FILE"), environ.get(name)
        if path and value:
            raise SettingsError(f"{name} and {name}_FILE are both set; unset one")
        if path:
            found[field] = _read_file(name, path)
        elif value:
            found[field] = value
    try:
        if found.get("database_url"):
            found["database_url"] = with_environment(found["database_url"], environ)
            parse_address(found["database_url"])
        settings = msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(_type_error(str(error))) from None
    except AddressError as error:
        raise SettingsError(f"INVITREE_DATABASE_URL cannot be used: {error}") from None
    check_settings(settings)
    return settings


def _read_file(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{name}_FILE cannot be read: {path}: {reason}") from None


def _type_error(message: str) -> str:
    what, _, where = message.partition(" - at `$.")
    wanted = "a whole number" if "`int`" in what else "true or false"
    return f"INVITREE_{where.rstrip('`').upper()} must be {wanted}"


def check_settings(settings: Settings) -> None:
    """Check values that have the right type. Raises SettingsError for one that is still invalid."""
    for wrong, message in _errors(settings):
        if wrong:
            raise SettingsError(message)
    for name, field in {"cors_origins": "origins", "smtp_url": "mail_server", "mail_from": "sender"}.items():
        try:
            _ = getattr(settings, field) if getattr(settings, name) else None
        except ValueError as error:
            raise SettingsError(f"INVITREE_{name.upper()}: {error}") from None
    for name in _LIMITS:
        try:
            parse_rate(getattr(settings, name))
        except ValueError as error:
            raise SettingsError(f"INVITREE_{name.upper()}: {error}") from None
    if settings.production:
        for wrong, message in _production_errors(settings):
            if wrong:
                raise SettingsError(f"{message} in production mode")


def _errors(settings: Settings) -> Iterator[tuple[bool, str]]:
    yield not 1 <= settings.port <= 65535, "INVITREE_PORT must be between 1 and 65535"
    yield settings.workers < 1 or settings.pool_size < 1, "INVITREE_WORKERS and INVITREE_POOL_SIZE must be 1 or more"
    yield settings.cache_size < 0, "INVITREE_CACHE_SIZE must be 0 or more"
    yield settings.log_format not in ("auto", "json", "console"), "INVITREE_LOG_FORMAT must be auto, json or console"
    yield bool(settings.secret_key) and not settings.secret_keys, "INVITREE_SECRET_KEY has no key in it"
    # Each key by itself: the setting may hold several, separated by commas.
    short = any(len(key) < _MIN_SECRET_LENGTH for key in settings.secret_keys)
    yield short, f"INVITREE_SECRET_KEY must have {_MIN_SECRET_LENGTH} characters or more"
    yield settings.retention_days < 31, "INVITREE_RETENTION_DAYS must be 31 or more"
    yield settings.throttle not in ("on", "off"), "INVITREE_THROTTLE must be on or off"
    yield not 0 <= settings.trusted_proxies <= 10, "INVITREE_TRUSTED_PROXIES must be between 0 and 10"
    url = bool(settings.public_url) and not _is_base_url(settings.public_url)
    yield url, "INVITREE_PUBLIC_URL must be http:// or https://, a host, and at most a path"
    alone = bool(settings.smtp_password) and not settings.smtp_user
    yield alone, "INVITREE_SMTP_PASSWORD needs INVITREE_SMTP_USER"
    helo = bool(settings.smtp_helo) and not is_helo_name(settings.smtp_helo)
    yield helo, "INVITREE_SMTP_HELO must be a full host name (mail.example.com) or an address ([192.0.2.1])"
    ca = bool(settings.smtp_ca) and not _are_certificates(settings.smtp_ca)
    yield ca, "INVITREE_SMTP_CA must be certificates in PEM (INVITREE_SMTP_CA_FILE names a file of them)"


def _production_errors(settings: Settings) -> Iterator[tuple[bool, str]]:
    yield settings.throttle == "off", "INVITREE_THROTTLE=off is refused"
    yield not settings.public_url.startswith("https://"), "INVITREE_PUBLIC_URL must begin with https://"
    # A repeated or copied key: few distinct characters, or words such as "change me".
    weak = any(len(set(key)) < 10 or _PLACEHOLDER.search(key) for key in settings.secret_keys)
    yield weak, "INVITREE_SECRET_KEY must be random; `openssl rand -base64 48` makes one,"
    sender = bool(settings.smtp_url) and settings.mail_from == Settings().mail_from
    yield sender, "INVITREE_MAIL_FROM must be set where INVITREE_SMTP_URL is"
    # Without a proxy in front, the service would answer everybody in plain HTTP.
    wild = settings.host in ("0.0.0.0", "::") and settings.trusted_proxies == 0  # noqa: S104
    yield wild, "INVITREE_HOST must not be a wildcard without INVITREE_TRUSTED_PROXIES"


def _is_base_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return bool(
            url.scheme in ("http", "https")
            and url.hostname
            and url.port != 0  # accessing `port` raises ValueError for an invalid one
            and not (url.query or url.fragment or url.username)
            and text.isascii()
            and text.isprintable()
            and " " not in text
        )
    except ValueError:
        return False


def _are_certificates(text: str) -> bool:
    try:
        return ssl.create_default_context(cadata=text).cert_store_stats()["x509"] > 0
    except (ssl.SSLError, ValueError):
        return False
