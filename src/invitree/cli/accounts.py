"""The commands `invitree user …`."""

import getpass
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

from cyclopts import App, Parameter

from invitree.base.settings import Settings
from invitree.cli.common import CommandError, DataDir, ProgramSlug, find_program, settings_of, with_database
from invitree.kit.data.db import Database

user = App(name="user", help="Make users, keep them out and let them in again.")
Email = Annotated[str, Parameter(help="E-mail address.")]


@user.command(name="create")
def create_user(
    *,
    email: Annotated[str, Parameter(help="E-mail address.")],
    username: Annotated[str, Parameter(help="Username.")],
    staff: Annotated[bool, Parameter(help="May see everybody's referrals.", negative="", show_default=False)] = False,
    program_slug: ProgramSlug = "default",
    data_dir: DataDir = None,
) -> None:
    """Make a user. The password is asked for, or read from standard input when that is not a terminal."""
    from invitree.base.problems import InvalidInput
    from invitree.identity.audit.store import OPERATOR
    from invitree.identity.users.actions import add_user, validate_new_user
    from invitree.kit.secrets.passwords import Hasher

    settings = settings_of(data_dir=data_dir)
    password = _ask_password()

    async def create(db: Database) -> int:
        program = await find_program(db, program_slug)
        hasher = Hasher(threads=1)
        try:
            new_user = await validate_new_user(
                hasher,
                email=email,
                username=username,
                password=password,
                program=program,
                takes_local_email=True,  # the operator knows the network
            )
            async with db.transaction() as tx:
                # The operator vouches for the address.
                made = await add_user(
                    tx, program_id=program.id, new_user=new_user, actor=OPERATOR, is_staff=staff, is_confirmed=True
                )
                return made.id
        except InvalidInput as problem:
            raise CommandError(
                "; ".join(f"{name}: {text.en.rstrip('.')}" for name, texts in problem.fields.items() for text in texts)
            ) from None
        finally:
            hasher.close()

    number = with_database(settings, create)
    print(f"User {number} was made.")


@user.command
def deactivate(email: Email, /, *, program_slug: ProgramSlug = "default", data_dir: DataDir = None) -> None:
    """Keep a user out. Sessions, links and the code die at once; the referrals stay."""
    from invitree.intake.closure.actions import deactivate_account

    done = _close(settings_of(data_dir=data_dir), program_slug, email, deactivate_account)
    print("The user is kept out." if done else "Nothing to do: the user is kept out already.")


@user.command
def reactivate(email: Email, /, *, program_slug: ProgramSlug = "default", data_dir: DataDir = None) -> None:
    """Let a user in again, who logs in and mints a code anew."""
    from invitree.intake.closure.actions import reactivate_account

    done = _close(settings_of(data_dir=data_dir), program_slug, email, reactivate_account)
    print("The user can log in again." if done else "Nothing to do: the user is not kept out.")


def _close(settings: Settings, slug: str, email: str, action: Callable[..., Awaitable[bool]]) -> bool:
    from invitree.base.emails import parse_email
    from invitree.identity.audit.store import OPERATOR
    from invitree.identity.users.store import find_login_candidate_by_email

    async def work(db: Database) -> bool:
        program, address = await find_program(db, slug), parse_email(email)
        candidate = address and await find_login_candidate_by_email(db, program_id=program.id, email_key=address.key)
        if not candidate or not candidate.known:
            raise CommandError(f"the program {slug!r} has no user with the address {email!r}")
        return await action(db, program_id=program.id, user_id=candidate.known.user_id, actor=OPERATOR)

    return with_database(settings, work)


def _ask_password() -> str:
    if not sys.stdin.isatty():
        try:
            return sys.stdin.buffer.readline().decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise CommandError("the password is not UTF-8 text") from None
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise CommandError("the two passwords differ")
    return password
