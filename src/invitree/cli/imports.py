"""The command `invitree import …`."""

import os
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from invitree.cli.common import CommandError, DataDir, find_program, settings_of, with_database
from invitree.kit.data.db import Database
from invitree.run.serve import with_secret

importing = App(name="import", help="Carry data over from other services.")


@importing.command(name="seed")
def import_from_django(
    file: Annotated[Path, Parameter(help="The service's db.sqlite3; it is only read.")],
    /,
    *,
    program_slug: Annotated[str, Parameter(name="--program", help="The program to import into.")] = "default",
    source: Annotated[str, Parameter(help="A name for the data, where several files are imported.")] = "seed",
    dry_run: Annotated[bool, Parameter(negative="", help="Only say what would be done.", show_default=False)] = False,
    report: Annotated[Path | None, Parameter(help="Write all refusals into this file, as JSON lines.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Carry users, passwords, codes, tokens and referrals over from the Django service. Safe to repeat."""
    from invitree.cli.import_report import show, write
    from invitree.cli.progress import progress
    from invitree.imports.django.actions import import_django_data
    from invitree.imports.django.store import Unreadable, read_django_file
    from invitree.kit.secrets.keys import Keyring

    try:
        data = read_django_file(file)
        refusals = (report or Path(os.devnull)).open("wb")  # opened first, to fail before the import
    except Unreadable as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{report} cannot be written: {error.strerror}") from None
    settings = with_secret(settings_of(data_dir=data_dir))
    keys = Keyring(settings.secret_keys)

    async def run_import(db: Database) -> Any:
        program = await find_program(db, program_slug)
        with progress("Importing users") as advance:
            return await import_django_data(
                db, program=program, source=source, data=data, keys=keys, dry_run=dry_run, advance=advance
            )

    with refusals:
        done = with_database(settings, run_import)
        write(done.skipped_rows, refusals)
    show(done, dry_run=dry_run)
