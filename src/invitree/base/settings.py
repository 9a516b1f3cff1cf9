"""Settings: what an operator can choose through `INVITREE_*`, read once and frozen."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

_SHORTEST_SECRET = 32


class SettingsError(ValueError):
    """A setting cannot be used; the message is one line for the operator."""


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
    workers: int = os.cpu_count() or 1
    """Web processes."""
    secret_key: str = ""
    """Signs tokens: 32 characters or more. Several, separated by commas: the first signs, all verify. Empty: one is
    made and kept in the data directory."""
    pool_size: int = 20
    """Database connections of one web process, at most."""
    access_log: bool = False
    """Log one line a request."""
    log_format: str = "auto"
    """`json`, `console`, or `auto`: console on a terminal, JSON elsewhere."""
    metrics_token: str = ""
    """The bearer token that opens `/metrics`. Empty: there is no `/metrics`."""

    @property
    def secret_keys(self) -> tuple[str, ...]:
        """The secrets in order: the first signs, all verify."""
        return tuple(filter(None, (key.strip() for key in self.secret_key.split(","))))


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings in `environ`. Raises SettingsError, naming the variable, for one that cannot be used."""
    found: dict[str, str] = {}
    for field in Settings.__struct_fields__:
        name = f"INVITREE_{field.upper()}"
        path, value = environ.get(f"{name}_FILE"), environ.get(name)
        if path and value:
            raise SettingsError(f"{name} and {name}_FILE are both set; unset one")
        if path:
            found[field] = _read(name, path)
        elif value:
            found[field] = value
    try:
        settings = msgspec.convert(found, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(_naming_the_variable(str(error))) from None
    check_settings(settings)
    return settings


def _read(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"{name}_FILE cannot be read: {path}: {reason}") from None


def _naming_the_variable(message: str) -> str:
    what, _, where = message.partition(" - at `$.")
    wanted = "a whole number" if "`int`" in what else "true or false"
    return f"INVITREE_{where.rstrip('`').upper()} must be {wanted}"


def check_settings(settings: Settings) -> None:
    """Raise SettingsError where a value has the right type and cannot be used all the same."""
    if not 1 <= settings.port <= 65535:
        raise SettingsError("INVITREE_PORT must be between 1 and 65535")
    if settings.workers < 1 or settings.pool_size < 1:
        raise SettingsError("INVITREE_WORKERS and INVITREE_POOL_SIZE must be 1 or more")
    if settings.log_format not in ("auto", "json", "console"):
        raise SettingsError("INVITREE_LOG_FORMAT must be auto, json or console")
    if settings.secret_key and not settings.secret_keys:
        raise SettingsError("INVITREE_SECRET_KEY has no key in it")
    if any(len(key) < _SHORTEST_SECRET for key in settings.secret_keys):  # each of them: a comma parts two
        raise SettingsError(f"INVITREE_SECRET_KEY must have {_SHORTEST_SECRET} characters or more")
