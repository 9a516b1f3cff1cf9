"""The command `invitree`."""

import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

import asyncpg
from cyclopts import App, CycloptsError

import invitree
from invitree.base.settings import SettingsError
from invitree.cli import accounts, backups, emails, imports, programs, running
from invitree.cli.common import CommandError
from invitree.kit.data.checks import UnusableDatabase
from invitree.kit.data.db import OUTAGES
from invitree.kit.postgres.embedded import EmbeddedError
from invitree.kit.postgres.programs import NoPrograms
from invitree.kit.process.children import interrupt_on_termination
from invitree.kit.process.output import open_standard_streams
from invitree.migrations.upgrade import NewerSchema, SchemaBusy
from invitree.run.serve import CannotServe

app = App(
    name="invitree",
    help="The referral engine that companies run themselves. docs/settings.md lists the settings, INVITREE_*.",
    version=invitree.__version__,
    result_action="return_value",
)
_COMMANDS: tuple[Callable[..., object], ...] = (
    running.serve,
    running.worker,
    running.migrate,
    running.openapi,
    running.verify,
    backups.backup,
    backups.restore,
)
_MISTAKES = (
    CommandError,
    SettingsError,
    CannotServe,
    UnusableDatabase,
    EmbeddedError,
    NoPrograms,
    NewerSchema,
    SchemaBusy,
)
_OF_THIS_MACHINE = (errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EROFS)

for command in _COMMANDS:
    app.command(command)
for part in (accounts.user, programs.program, emails.mail, imports.importing, running.db):
    app.command(part)


def main() -> NoReturn:
    """Run the command line; a mistake is one line and exit code 1 (2 for a wrong flag)."""
    open_standard_streams()
    interrupt_on_termination()
    try:
        code = app(exit_on_error=False, print_error=False)
    except CycloptsError as error:
        print(f"invitree: {' '.join(str(error).split()).rstrip('.')} (see invitree --help)", file=sys.stderr)
        sys.exit(2)
    except _MISTAKES as error:
        print(f"invitree: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain when it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (asyncpg.PostgresError, *OUTAGES) as error:
        print(f"invitree: {cause_of(error)}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def cause_of(error: Exception) -> str:
    """Return the line that tells of an error of the database, or of one that this machine has made of its own."""
    reason = str(error).partition("\n")[0] or type(error).__name__
    if isinstance(error, OSError) and (error.filename or error.errno in _OF_THIS_MACHINE or "temporary" in reason):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return f"the database refused: {reason}"
