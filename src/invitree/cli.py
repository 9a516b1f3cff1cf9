"""The command `invitree`."""

import asyncio
import getpass
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import asyncpg
import msgspec
from cyclopts import App, CycloptsError, Parameter

import invitree
from invitree.base.settings import Settings, SettingsError, read_settings
from invitree.kit.db import OUTAGES, Database
from invitree.kit.embedded import EmbeddedError
from invitree.migrations.upgrade import NewerSchema
from invitree.server import CannotServe, database, migrate, serve, with_secret

R = TypeVar("R")
Slug = Annotated[str, Parameter(help="The program.")]

app = App(
    name="invitree",
    help="The referral engine that companies run themselves. The README lists the settings, INVITREE_*.",
    version=invitree.__version__,
    result_action="return_value",
)
user = App(name="user", help="Make users.")
program = App(name="program", help="Show and set a program's policy.")
db = App(name="db", help="Look at the database.")
mail = App(name="mail", help="Look after letters that wait or were given up.")
importing = App(name="import", help="Carry data over from other services.")
for part in (user, program, db, mail, importing):
    app.command(part)

DataDir = Annotated[
    Path | None, Parameter(help="Where the embedded database and the generated secret live (INVITREE_DATA_DIR).")
]


class Refusal(Exception):
    """A command cannot be done; the message is one line."""


def main() -> NoReturn:
    """Run the command line; a mistake is one line and exit code 1 (2 for a wrong flag)."""
    try:
        code = app(exit_on_error=False, print_error=False)
    except CycloptsError as error:
        print(f"invitree: {' '.join(str(error).split()).rstrip('.')} (see invitree --help)", file=sys.stderr)
        sys.exit(2)
    except (Refusal, SettingsError, CannotServe, EmbeddedError, NewerSchema) as error:
        print(f"invitree: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter must not complain when it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (asyncpg.PostgresError, *OUTAGES) as error:
        print(
            f"invitree: the database refused: {str(error).partition(chr(10))[0] or type(error).__name__}",
            file=sys.stderr,
        )
        sys.exit(1)
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


@app.command(name="serve")
def serve_command(
    *,
    host: Annotated[str | None, Parameter(help="Address to listen on (INVITREE_HOST, 127.0.0.1).")] = None,
    port: Annotated[int | None, Parameter(help="Port to listen on (INVITREE_PORT, 8000).")] = None,
    workers: Annotated[int | None, Parameter(help="Web processes (INVITREE_WORKERS, one a core).")] = None,
    worker: Annotated[bool, Parameter(help="Do jobs and send mail too; else leave them to invitree worker.")] = True,
    data_dir: DataDir = None,
) -> None:
    """Start the database if it is the embedded one, migrate it, and serve until Ctrl-C."""
    serve(_settings(host=host, port=port, workers=workers, data_dir=data_dir), worker=worker)


@app.command(name="worker")
def worker_command(*, parent: Annotated[int | None, Parameter(show=False)] = None, data_dir: DataDir = None) -> None:
    """Do jobs and send mail until Ctrl-C. `serve` does it too, unless told otherwise. There can be several workers."""
    from invitree.worker import work

    settings = with_secret(_settings(data_dir=data_dir))
    if settings.database_url:
        work(settings, parent=parent)  # it waits for a database that is away, and for its schema
        return
    with database(settings) as ready:
        migrate(ready.database_url)
        work(ready, parent=parent)


@app.command(name="migrate")
def migrate_command(*, data_dir: DataDir = None) -> None:
    """Bring the database to this version's schema. Safe to repeat; `serve` does it too."""
    with database(_settings(data_dir=data_dir)) as settings:
        changed = migrate(settings.database_url)
    print("The database has the current schema." if changed else "Nothing to do: the schema is current.")


@user.command(name="create")
def create_user(
    *,
    email: Annotated[str, Parameter(help="E-mail address.")],
    username: Annotated[str, Parameter(help="Username.")],
    staff: Annotated[bool, Parameter(help="May see everybody's referrals.", negative="", show_default=False)] = False,
    program_slug: Annotated[str, Parameter(name="--program", help="The program to belong to.")] = "default",
    data_dir: DataDir = None,
) -> None:
    """Make a user. The password is asked for, or read from standard input when that is not a terminal."""
    from invitree.base.problems import InvalidInput
    from invitree.events.store import OPERATOR
    from invitree.kit.passwords import Hasher
    from invitree.users.actions import add_user, admit

    settings = _settings(data_dir=data_dir)
    password = _ask_password()

    async def create(opened: Database) -> int:
        found = await _find_program(opened, program_slug)
        hasher = Hasher(threads=1)
        try:
            applicant = await admit(hasher, email=email, username=username, password=password)
            async with opened.transaction() as tx:
                # Whoever runs the service vouches for the address.
                made = await add_user(
                    tx, program_id=found.id, applicant=applicant, by=OPERATOR, is_staff=staff, is_confirmed=True
                )
                return made.id
        except InvalidInput as problem:
            raise Refusal(
                "; ".join(f"{name}: {text.en.rstrip('.')}" for name, texts in problem.fields.items() for text in texts)
            ) from None
        finally:
            hasher.close()

    number = _with_database(settings, create)
    print(f"User {number} was made.")


@program.command(name="show")
def show_program(slug: Slug = "default", /, *, data_dir: DataDir = None) -> None:
    """Print a program's policy as JSON."""
    found = _with_database(_settings(data_dir=data_dir), lambda opened: _find_program(opened, slug))
    print(msgspec.json.format(msgspec.json.encode(found)).decode())


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
    data_dir: DataDir = None,
) -> None:
    """Change a program's policy; running services follow at once."""
    from invitree.programs.actions import BadPolicy, set_policy

    changes = _given(
        time_zone=time_zone,
        code_length=code_length,
        longest_code_life_days=longest_code_life_days,
        referral_list=referral_list,
    )
    if not changes:
        raise Refusal("nothing to set; see invitree program set --help")

    async def change(opened: Database) -> Any:
        try:
            return await set_policy(opened, program_id=(await _find_program(opened, slug)).id, **changes)
        except BadPolicy as error:
            raise Refusal(str(error)) from None

    changed = _with_database(_settings(data_dir=data_dir), change)
    print(msgspec.json.format(msgspec.json.encode(changed)).decode())


@mail.command(name="list")
def list_mail(
    *,
    failed: Annotated[bool, Parameter(negative="--all", help="Only those given up, or all.")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="", help="For programs.")] = False,
    data_dir: DataDir = None,
) -> None:
    """List the letters that wait or were given up."""
    from invitree.kit.jobs import list_jobs
    from invitree.mails.actions import JOB

    jobs = _with_database(_settings(data_dir=data_dir), lambda opened: list_jobs(opened, job=JOB, failed=failed))
    letters = [_described(job) for job in jobs]
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(letters)).decode())
        return
    rows = [list(letter) for letter in letters[:1]] + [[str(it or "") for it in row.values()] for row in letters]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if not rows:
        print("No letter was given up." if failed else "No letter waits.")
    for row in rows:
        print("  ".join(map(str.ljust, row, widths)).rstrip())


def _described(job: Any) -> dict[str, object]:
    from invitree.base.emails import masked, parse_email

    said = msgspec.json.decode(job.payload)
    address = parse_email(said.get("to") or said.get("email_key") or "")
    times = {"since": job.created_at, "next": job.next_at}
    return {
        "id": job.id,
        "kind": said.get("kind", ""),
        "to": masked(address.key) if address else f"user {said.get('user_id')}",
        "status": job.status,
        "attempts": job.attempts,
        **{name: time and f"{time:%Y-%m-%dT%H:%M:%SZ}" for name, time in times.items()},
        "reason": job.reason,
    }


@mail.command(name="retry")
def retry_mail(
    ids: Annotated[list[int] | None, Parameter(help="As invitree mail list gives them.")] = None,
    /,
    *,
    every: Annotated[bool, Parameter(name="--all", negative="", help="All that were given up.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Have letters that were given up tried again, as often as a new one."""
    from invitree.kit.jobs import list_jobs, retry_jobs
    from invitree.mails.actions import JOB

    if every == bool(ids):
        raise Refusal("name letters that were given up, or all of them by --all; see invitree mail list --failed")

    async def retry(opened: Database) -> list[int]:
        known = {job.id: job.status for job in await list_jobs(opened, job=JOB)}
        for number in ids or ():
            if number not in known:
                raise Refusal(f"there is no letter {number}; it may have been sent")
            if known[number] != "failed":
                raise Refusal(f"letter {number} was not given up: it is {known[number]}")
        return await retry_jobs(opened, ids=ids or [number for number, status in known.items() if status == "failed"])

    again = _with_database(_settings(data_dir=data_dir), retry)
    print(f"Queued again: {', '.join(map(str, again))}." if again else "Nothing to do: no letter was given up.")


@importing.command(name="seed")
def import_seed_command(
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
    from invitree.kit.keys import Keyring
    from invitree.seed.actions import import_seed
    from invitree.seed.store import Unreadable, read_seed
    from invitree.seeding import progress, show, write

    try:
        seed = read_seed(file)
        refusals = (report or Path(os.devnull)).open("wb")  # now: it would be late to find out afterwards
    except Unreadable as error:
        raise Refusal(str(error)) from None
    except OSError as error:
        raise Refusal(f"{report} cannot be written: {error.strerror}") from None
    settings = with_secret(_settings(data_dir=data_dir))
    keys = Keyring(settings.secret_keys)

    async def carry(opened: Database) -> Any:
        found = await _find_program(opened, program_slug)
        with progress() as advance:
            return await import_seed(
                opened, program=found, source=source, seed=seed, keys=keys, dry_run=dry_run, advance=advance
            )

    with refusals:
        done = _with_database(settings, carry)
        write(done.refusals, refusals)
    show(done, dry_run=dry_run)


@app.command
def openapi() -> None:
    """Print the OpenAPI document."""
    from invitree.app import create_app

    document = create_app(Settings()).openapi_schema.to_schema()
    print(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


@db.command(name="url")
def database_url(*, data_dir: DataDir = None) -> None:
    """Print the URL of the database, for psql. The embedded one answers while `invitree serve` runs."""
    with database(_settings(data_dir=data_dir)) as settings:
        print(settings.database_url)


@app.command
def verify(*, data_dir: DataDir = None) -> int:
    """Check what must always hold; exit with 1 if something does not."""
    from invitree.invariants import INVARIANTS, check

    async def check_all(opened: Database) -> bool:
        fine = True
        for invariant in INVARIANTS:
            broken = await check(opened, invariant)
            print(f"{'BROKEN' if broken else 'ok':6}  {invariant.name:4} {invariant.promise}", flush=True)
            if broken:
                fine = False
                print(f"        {broken.count} rows, such as: {'; '.join(broken.examples)}")
        return fine

    return 0 if _with_database(_settings(data_dir=data_dir), check_all) else 1


def _settings(**flags: object) -> Settings:
    """Return the settings of the environment, with the flags that were given in their place."""
    given = {f"INVITREE_{name.upper()}": str(value) for name, value in _given(**flags).items()}
    kept = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in given}
    return read_settings({**kept, **given})


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


def _with_database(settings: Settings, work: Callable[[Database], Awaitable[R]]) -> R:
    async def run(url: str) -> R:
        opened = await Database.open(url, size=1, statement_timeout_s=600)
        try:
            return await work(opened)
        finally:
            await opened.close()

    with database(settings) as ready:
        migrate(ready.database_url)
        return asyncio.run(run(ready.database_url))


async def _find_program(opened: Database, slug: str) -> Any:
    from invitree.programs.store import find_program_by_slug

    found = await find_program_by_slug(opened, slug=slug)
    if found is None:
        raise Refusal(f"there is no program {slug!r}")
    return found


def _ask_password() -> str:
    if not sys.stdin.isatty():
        try:
            return sys.stdin.buffer.readline().decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise Refusal("the password is not UTF-8 text") from None
    password = getpass.getpass("Password: ")
    if getpass.getpass("Again: ") != password:
        raise Refusal("the two passwords differ")
    return password


if __name__ == "__main__":
    main()
