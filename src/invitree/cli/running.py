"""The commands that run and inspect the service: serve, worker, migrate, openapi, db, verify."""

import asyncio
from contextlib import suppress
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from invitree.base.addresses import as_uri
from invitree.base.settings import Settings
from invitree.cli.common import DataDir, settings_of, with_database
from invitree.kit.data.checks import UnreachableDatabase, check_usable
from invitree.kit.data.db import Database
from invitree.kit.process.metrics import reserve_space
from invitree.kit.process.output import shield_output
from invitree.run import serve as server

_WORKER_FILES = 128  # ten emails being sent, database connections, and the process's own files

db = App(name="db", help="Look at the database.")


def serve(
    *,
    host: Annotated[str | None, Parameter(help="Address to listen on (INVITREE_HOST, 127.0.0.1).")] = None,
    port: Annotated[int | None, Parameter(help="Port to listen on (INVITREE_PORT, 8000).")] = None,
    workers: Annotated[int | None, Parameter(help="Web processes (INVITREE_WORKERS, one a core).")] = None,
    worker: Annotated[bool, Parameter(help="Do jobs and send mail too; else leave them to invitree worker.")] = True,
    data_dir: DataDir = None,
) -> None:
    """Start the database if it is the embedded one, migrate it, and serve until Ctrl-C."""
    shield_output()
    server.serve(settings_of(host=host, port=port, workers=workers, data_dir=data_dir), worker=worker)


def worker(*, parent: Annotated[int | None, Parameter(show=False)] = None, data_dir: DataDir = None) -> None:
    """Do jobs and send mail until Ctrl-C. `serve` does it too, unless told otherwise. There can be several workers."""
    shield_output()
    reserve_space()
    from invitree.run.worker import work

    server.files_allowed(_WORKER_FILES, wanted=4 * _WORKER_FILES, why="by a worker")
    settings = server.with_secret(settings_of(data_dir=data_dir))
    if settings.database_url:
        with suppress(UnreachableDatabase):  # the worker itself waits for the database and its schema
            asyncio.run(check_usable(settings.database_url))
        work(settings, parent=parent)
        return
    with server.database(settings) as ready:
        server.migrate(ready.database_url)
        work(ready, parent=parent)


def migrate(*, data_dir: DataDir = None) -> None:
    """Bring the database to this version's schema. Safe to repeat; `serve` does it too."""
    with server.database(settings_of(data_dir=data_dir)) as settings:
        changed = server.migrate(settings.database_url)
    print("The database has the current schema." if changed else "Nothing to do: the schema is current.")


def openapi() -> None:
    """Print the OpenAPI document."""
    from invitree.app import create_app

    document = create_app(Settings()).openapi_schema.to_schema()
    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


@db.command(name="url")
def database_url(*, data_dir: DataDir = None) -> None:
    """Print the URL of the database, for psql. The embedded one answers while `invitree serve` runs."""
    with server.database(settings_of(data_dir=data_dir)) as settings:
        print(as_uri(settings.database_url))


def verify(*, data_dir: DataDir = None) -> int:
    """Check what must always hold; exit with 1 if something does not."""
    return 0 if with_database(settings_of(data_dir=data_dir), check_all) else 1


async def check_all(opened: Database) -> bool:
    """Check every invariant and print the results; return whether all hold."""
    from invitree.invariants import INVARIANTS
    from invitree.kit.data.invariants import check

    all_hold = True
    for invariant in INVARIANTS:
        broken = await check(opened, invariant)
        print(f"{'BROKEN' if broken else 'ok':6}  {invariant.name:4} {invariant.promise}", flush=True)
        if broken:
            all_hold = False
            print(f"        {broken.count} rows, such as: {'; '.join(broken.examples)}")
    return all_hold
