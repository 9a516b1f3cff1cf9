"""The commands `invitree program …`."""

from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from invitree.cli.common import CommandError, DataDir, Slug, find_program, given, settings_of, with_database
from invitree.kit.data.db import Database

program = App(name="program", help="Make programs, show and set their policy.")


@program.command(name="create")
def create_program(slug: Slug, /, *, data_dir: DataDir = None) -> None:
    """Make a program: a tenant with users, codes and a policy of its own."""
    from invitree.identity.programs.actions import BadPolicy, create_program

    async def create(db: Database) -> Any:
        try:
            return await create_program(db, slug=slug)
        except BadPolicy as error:
            raise CommandError(str(error)) from None

    _show(with_database(settings_of(data_dir=data_dir), create))


@program.command(name="show")
def show_program(slug: Slug = "default", /, *, data_dir: DataDir = None) -> None:
    """Print a program's policy as JSON."""
    found = with_database(settings_of(data_dir=data_dir), lambda db: find_program(db, slug))
    _show(found)


@program.command(name="set")
def set_program(
    slug: Slug = "default",
    /,
    *,
    time_zone: Annotated[str | None, Parameter(help="IANA name, such as Europe/Riga: where a code's day ends.")] = None,
    code_length: Annotated[int | None, Parameter(help="Characters of new codes, 8 to 20.")] = None,
    longest_code_life_days: Annotated[int | None, Parameter(help="How long a code may live, 1 to 3660 days.")] = None,
    referral_list: Annotated[
        str | None, Parameter(help="What others see of a user's list: masked, owner_only.")
    ] = None,
    activation: Annotated[
        str | None, Parameter(help="Whether new users must confirm their address: off, required.")
    ] = None,
    host: Annotated[
        str | None, Parameter(help="The host name by which requests mean this program; '' gives it up.")
    ] = None,
    origins: Annotated[
        str | None, Parameter(help="Whose pages may call it from a browser, separated by commas; '' allows none.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Change a program's policy; running services follow at once."""
    from invitree.identity.programs.actions import BadPolicy, set_policy

    changes = given(
        time_zone=time_zone,
        code_length=code_length,
        longest_code_life_days=longest_code_life_days,
        referral_list=referral_list,
        activation=activation,
        host=host,
        origins=None if origins is None else origins.split(","),
    )
    if not changes:
        raise CommandError("nothing to set; see invitree program set --help")

    async def change(db: Database) -> Any:
        try:
            return await set_policy(db, program_id=(await find_program(db, slug)).id, **changes)
        except BadPolicy as error:
            raise CommandError(str(error)) from None

    changed = with_database(settings_of(data_dir=data_dir), change)
    _show(changed)


def _show(found: Any) -> None:
    print(msgspec.json.format(msgspec.json.encode(found)).decode())
