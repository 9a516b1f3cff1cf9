"""What a benchmark runs on: people, the servers that they ask, and the floor beside these."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

from msgspec import Struct

from bench import servers
from bench.crowds import crowd_at, crowd_in
from bench.data import Advance, Sizes, fill
from bench.paths import Crowd, Kind
from bench.servers import Server
from invitree.base.settings import Settings, usable_cores
from invitree.kit.postgres.embedded import embedded_postgres
from invitree.kit.secrets.keys import Keyring
from invitree.migrations.upgrade import upgrade

_SECRET = "the secret of the benchmark and of nothing else"  # noqa: S105
_UNLIMITED = {"INVITREE_THROTTLE": "off"}
# Counted as in production, and never reached.
_COUNTED = {f"INVITREE_{name.upper()}": "999999/1s" for name in Settings.__struct_fields__ if name.startswith("limit_")}


class Stage(Struct, frozen=True, kw_only=True):
    """Who is there, which server is asked by which kind of path, on which cores, and the floor where there is one."""

    crowd: Crowd
    service: Callable[[Kind], Server]
    cores: Sequence[int]
    floor: Server | None


@contextmanager
def own_stage(sizes: Sizes, *, workers: int, advance: Advance) -> Iterator[Stage]:
    """Set up a throw-away database with so many people, and servers on it, started when they are first asked.

    Where there is more than one core, the service has the first ones to itself; the database and the load have the
    others.
    """
    cores, keys = usable_cores(), Keyring([_SECRET])
    served, others = cores[:workers], cores[workers:] or cores
    with ExitStack() as opened:
        opened.enter_context(servers.on_cores(others))
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="invitree-bench-")))
        folder.chmod(0o711)  # PostgreSQL may run as another user
        url = opened.enter_context(embedded_postgres(folder / "data"))
        upgrade(url)
        asyncio.run(fill(url.replace("://invitree@", "://postgres@"), sizes, keys=keys, advance=advance))
        environment = {
            "INVITREE_DATABASE_URL": url,
            "INVITREE_DATA_DIR": str(folder),
            "INVITREE_SECRET_KEY": _SECRET,
            "INVITREE_LOG_FORMAT": "json",
        }

        @cache
        def service(kind: Kind) -> Server:
            special = {"cold": {**_UNLIMITED, "INVITREE_CACHE_SIZE": "0"}, "counted": _COUNTED}.get(kind, _UNLIMITED)
            started = servers.service(cores=served, workers=workers, environment={**environment, **special})
            return opened.enter_context(started)

        crowd = asyncio.run(crowd_in(url, sizes, keys=keys))
        floor = opened.enter_context(servers.floor(cores=served[:1], environment=environment))
        yield Stage(crowd=crowd, service=service, cores=served, floor=floor)


@contextmanager
def foreign_stage(url: str, *, people: int, advance: Advance) -> Iterator[Stage]:
    """Sign people up with a server that runs already, and ask nothing but that. Raises LoadError."""
    server = Server(url=url.rstrip("/"))
    crowd = crowd_at(server.url, people=people, advance=lambda: advance("users", 1, people))
    yield Stage(crowd=crowd, service=lambda _: server, cores=usable_cores(), floor=None)
