"""The commands `invitree backup` and `invitree restore`."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from invitree.base.settings import Settings
from invitree.cli.common import CommandError, DataDir, settings_of, with_database
from invitree.cli.running import check_all
from invitree.kit.data.db import Database
from invitree.kit.data.partitions import keep_months
from invitree.run import serve as server


def backup(
    file: Annotated[Path, Parameter(help="Where to write it; only its owner can read it.")],
    /,
    *,
    force: Annotated[bool, Parameter(negative="", help="Replace the file.", show_default=False)] = False,
    data_dir: DataDir = None,
) -> None:
    """Write the whole database, as it is at one moment, into a file. The service may go on running."""
    from invitree.cli.progress import progress
    from invitree.run.backups import BackupError, back_up

    settings = settings_of(data_dir=data_dir)
    if not settings.database_url and not Path(settings.data_dir, "postgres").exists():
        raise CommandError(f"there is no database in {Path(settings.data_dir).resolve()}")  # and none should be created
    try:
        with server.database(settings) as ready, progress("Backing up") as advance:
            size = back_up(ready.database_url, file.resolve(), force=force, advance=advance)
    except BackupError as error:
        raise CommandError(str(error)) from None
    print(f"The database is in {file}, {size:,} bytes.")
    print(f"The secret key is not: keep {_secret_of(settings)} too. Without it everybody has to log in again.")


def restore(
    file: Annotated[Path, Parameter(help="What invitree backup wrote.")],
    /,
    *,
    force: Annotated[bool, Parameter(negative="", help="Replace what the database holds.", show_default=False)] = False,
    data_dir: DataDir = None,
) -> int:
    """Put a backup into an empty database, with the service stopped, and check what must always hold."""
    from invitree.cli.progress import progress
    from invitree.run import backups

    settings, file = settings_of(data_dir=data_dir), file.resolve()
    try:
        backups.check_file(file)
        with server.database(settings) as ready:
            with progress("Restoring") as advance:
                schema = backups.restore(ready.database_url, file, force=force, advance=advance)
            print(f"The database is what {file} holds, with the schema {schema}.", flush=True)
            all_hold = with_database(ready, _settle)
    except backups.BackupError as error:
        raise CommandError(f"{error}; nothing was changed") from None
    print(
        f"Sessions go on if {_secret_of(settings)} is the secret key of that time; else everybody has to log in again."
    )
    return 0 if all_hold else 1


async def _settle(db: Database) -> bool:
    async with db.transaction() as tx:
        await keep_months(tx, table="audit", older_than=timedelta.max)  # backups contain no privileges
    await db.execute("ANALYZE")  # otherwise the first queries are planned without statistics
    return await check_all(db)


def _secret_of(settings: Settings) -> str:
    return "INVITREE_SECRET_KEY" if settings.secret_key else str(Path(settings.data_dir, "secret_key").resolve())
