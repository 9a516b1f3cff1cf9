"""Backups: the database in one file that shows whether it is whole, and its way back.

The file is an archive of pg_dump, which pg_restore reads as it is, with the SHA-256 of the archive behind it.
"""

import asyncio
import hashlib
import itertools
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import asyncpg
from msgspec import Struct

from invitree.invariants import INVARIANTS
from invitree.kit.data.connections import connect, is_encrypted
from invitree.kit.postgres.archives import count_rows, plain, renamed
from invitree.kit.postgres.programs import bundled_programs, client_programs, error_line, major_of, reaching
from invitree.migrations import HEAD, LOCK
from invitree.migrations.upgrade import revision

_SEAL = b"\ninvitree backup, sha256 "
_SEAL_SIZE = len(_SEAL) + 64 + 1
_CHUNK = 1 << 20
_DUMP = (
    "--format=custom",
    "--lock-wait-timeout=10s",
    "--no-password",
    "--verbose",
)
# Whoever restores may be another role than whoever made the backup, on a machine without its roles and tablespaces.
_READ = ("--format=custom", "--no-owner", "--no-privileges", "--no-tablespaces")
_WRITE = ("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--file=-")
_FORGOTTEN = "throttles"  # unlogged: a crash forgets it too
_IN_USE = "somebody else is using the tables of the database, or is migrating it"
_HEADER_LINES = 40  # comments and settings, with which the script that pg_restore makes begins
_UNKNOWN_BEFORE_17 = (b"SET transaction_timeout = 0;\n",)

# The schema that the service uses: where its tables are, or would be made.
_SCHEMA = """
SELECT nspname AS schema, quote_ident(nspname) AS home FROM (VALUES (1)) one
LEFT JOIN pg_namespace n ON CASE WHEN to_regclass('alembic_version') IS NULL THEN nspname = current_schema()
    ELSE n.oid = (SELECT relnamespace FROM pg_class c WHERE c.oid = to_regclass('alembic_version')) END
"""
# Tables with rows of their own that pg_dump takes: no views, partitioned tables, or what extensions have made.
_TABLES = """
SELECT relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = $1 AND relkind = 'r' AND relname <> $2 AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
)
ORDER BY relname
"""
_ASTRAY = """
SELECT relname FROM unnest($1::text[]) name JOIN pg_class c ON c.oid = to_regclass(name)
JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname <> $2 LIMIT 1
"""

# Begins the transaction and makes room. Tables are dropped and not emptied: another version has other tables, and
# the audit log refuses to be emptied. What extensions have put into the schema stays, as it is in no backup.
_MAKE_ROOM = """
BEGIN;
SET LOCAL lock_timeout = '5s';
SET LOCAL client_min_messages = warning;
SET LOCAL search_path = '';
SELECT pg_advisory_xact_lock({lock});
DO $$
DECLARE
    may_replace CONSTANT boolean := {force};
    home CONSTANT text := quote_ident({schema});
    may_be_filled CONSTANT text[] := ARRAY[home || '.alembic_version', home || '.programs', home || '.throttles'];
    is_ours CONSTANT boolean := to_regclass(home || '.alembic_version') IS NOT NULL
        AND to_regclass(home || '.referrals') IS NOT NULL;
    found record;
    is_filled boolean;
    drops text := '';
BEGIN
    IF EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'invitree%' AND pid <> pg_backend_pid()
    ) THEN
        RAISE EXCEPTION 'the service or another command is using the database; stop it first';
    END IF;
    FOR found IN
        SELECT it.type, it.identity
        FROM pg_depend d CROSS JOIN LATERAL pg_identify_object(d.classid, d.objid, 0) it
        WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = home::regnamespace AND d.deptype = 'n'
            AND d.classid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_type'::regclass)
            AND NOT EXISTS (
                SELECT FROM pg_depend e WHERE e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'
            )
        ORDER BY it.identity
    LOOP
        IF NOT is_ours THEN
            RAISE EXCEPTION 'the database is not Invitree''s: it has the % %', found.type, found.identity;
        ELSIF found.type = 'table' THEN
            EXECUTE format('GRANT ALL ON %s TO CURRENT_USER', found.identity);
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', found.identity);
            EXECUTE format('SELECT EXISTS (SELECT FROM %s)', found.identity) INTO is_filled;
            IF is_filled AND NOT may_replace AND found.identity <> ALL (may_be_filled) THEN
                RAISE EXCEPTION 'there are rows in %; --force replaces everything', found.identity;
            END IF;
        END IF;
        drops := drops || format('DROP %s IF EXISTS %s CASCADE;', found.type, found.identity);
    END LOOP;
    EXECUTE drops;
END $$;
"""

Advance = Callable[[int, int, str], None]
"""Is told how many tables are done, of how many, and which one is under way."""


class BackupError(Exception):
    """A backup cannot be made or used; the message is one line for the operator."""


def back_up(url: str, file: Path, *, force: bool, advance: Advance) -> int:
    """Write the database, as it is at one moment, into a file, and return the file's size in bytes.

    The file appears whole or not at all, and only its owner can read it. Raises BackupError, also where there is such
    a file already, unless `force`.
    """
    with asyncio.Runner() as runner, _connection(runner, url) as connection:
        server = runner.run(_look(connection, url))
        if server.revision is None:
            raise BackupError("the database holds no data of Invitree")
        try:
            if file.exists() and not file.is_file():
                raise BackupError(f"{file} is not a file")
            if file.exists() and not force:
                raise BackupError(f"{file} is there already; --force replaces it")
            with _draft_of(file) as draft:
                snapshot, tables = runner.run(_snapshot(connection, server))
                _dump(server, draft, snapshot=snapshot, tables=len(tables), advance=advance)
                expected = runner.run(_count(connection, server, tables=tables, advance=advance))
                _prove(server, draft, expected=expected, advance=advance)
                return _complete(draft)
        except OSError as error:
            raise BackupError(f"{file} cannot be written: {error.strerror}") from None
        except asyncpg.LockNotAvailableError:
            raise BackupError(_IN_USE) from None


def _dump(server: "_Server", draft: Path, *, snapshot: str, tables: int, advance: Advance) -> None:
    which = (f"--schema={server.home}", f"--exclude-table-data={server.home}.{_FORGOTTEN}", f"--snapshot={snapshot}")
    with server.run(
        "pg_dump", *_DUMP, *which, f"--file={draft}", server.target, stdout=DEVNULL, stderr=PIPE
    ) as dumping:
        said = _follow(dumping, advance=lambda done, of, what: advance(done, 3 * of, what), tables=tables)
    _demand(dumping, said)


async def _snapshot(connection: Any, server: "_Server") -> tuple[str, list[str]]:
    """Begin a transaction; return its snapshot, and the tables whose rows are to be backed up."""
    await connection.execute(
        "SET statement_timeout = 0; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = 0"
    )
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
    tables = [row["name"] for row in await connection.fetch(_TABLES, server.schema, _FORGOTTEN)]
    promised = {name for one in INVARIANTS for name in re.findall(r"\b(?:FROM|JOIN)\s+(?!pg_)(\w+)", one.query)}
    if astray := await connection.fetchval(_ASTRAY, sorted(promised), server.schema):
        raise BackupError(f"the table {astray} is not in the schema of the others, {server.schema}")
    return snapshot, tables


async def _count(connection: Any, server: "_Server", *, tables: Sequence[str], advance: Advance) -> dict[str, int]:
    """Return how many rows each table has in the snapshot."""
    rows = {}
    for number, name in enumerate(tables):
        advance(len(tables) + number, 3 * len(tables), name)
        quoted = '"' + name.replace('"', '""') + '"'
        rows[name] = await connection.fetchval(f"SELECT count(*) FROM {server.home}.{quoted}")  # noqa: S608
    return rows


def _prove(server: "_Server", draft: Path, *, expected: Mapping[str, int], advance: Advance) -> None:
    """Raise BackupError unless an archive can be read and has as many rows of each table as it should."""
    how = ("--data-only", "--file=-", str(draft))
    with (
        tempfile.TemporaryFile() as complaints,
        server.run("pg_restore", *_READ, *how, stdout=PIPE, stderr=complaints) as reading,
    ):
        rows = count_rows(
            reading.stdout,
            schema=server.home.encode(),
            advance=lambda done, name: advance(2 * len(expected) + done, 3 * len(expected), name),
        )
        reading.wait()
        complaints.seek(0)
        _demand(reading, complaints.read())
    for table, count in expected.items():
        if rows.get(table) != count:
            raise BackupError(f"the backup is not whole: it has {rows.get(table, 0)} of {count} rows of {table}")


@contextmanager
def _draft_of(file: Path) -> Iterator[Path]:
    """Yield a new file that takes the place of `file` if the block ends well, and goes if it does not."""
    number, name = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".partial", dir=file.parent)
    os.close(number)
    draft = Path(name)
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    os.fsync(folder)  # its new name
    os.close(folder)


def _complete(draft: Path) -> int:
    """Seal an archive, see it onto the disk, and return its size."""
    with draft.open("r+b") as archive:
        archive.write(_seal(hashlib.file_digest(archive, "sha256").hexdigest()))
        archive.flush()
        os.fsync(archive.fileno())
        return archive.tell()


def check_file(file: Path) -> None:
    """Read all of a backup. Raises BackupError where it is not what was written."""
    try:
        with file.open("rb") as opened:
            rest = opened.seek(0, os.SEEK_END) - _SEAL_SIZE
            opened.seek(0)
            digest = hashlib.sha256()
            while chunk := opened.read(min(_CHUNK, max(rest, 0))):
                digest.update(chunk)
                rest -= len(chunk)
            seal = opened.read()
    except OSError as error:
        raise BackupError(f"{file} cannot be read: {error.strerror}") from None
    if not seal.startswith(_SEAL):
        raise BackupError(f"{file} is cut off, or was not made by invitree backup")
    if seal != _seal(digest.hexdigest()):
        raise BackupError(f"{file} is damaged: it is not what was written")


def restore(url: str, file: Path, *, force: bool, advance: Advance) -> str:
    """Put a checked backup into an empty database, or with `force` into the place of what there is.

    Returns the revision of its schema. Raises BackupError, and then has changed nothing: all of it is one transaction.
    """
    with asyncio.Runner() as runner, _connection(runner, url) as connection:
        server = runner.run(_look(connection, url))
    schema, home, tables = _contents(server, file)
    if schema > HEAD:
        raise BackupError(f"{file} was made by a newer Invitree: its schema is {schema}, and here it is {HEAD}")
    read = ("pg_restore", *_READ, f"--schema={plain(home)}", "--verbose", "--file=-", str(file))
    with (
        tempfile.TemporaryFile() as complaints,
        ThreadPoolExecutor(1) as aside,
        server.run("psql", *_WRITE, server.target, stdin=PIPE, stdout=DEVNULL, stderr=complaints) as writing,
        server.run(*read, stdout=PIPE, stderr=PIPE) as reading,
    ):
        said = aside.submit(_follow, reading, advance=advance, tables=tables)
        with suppress(BrokenPipeError):  # psql has given up, and says why
            literal = "'" + server.schema.replace("'", "''") + "'"
            preamble = _MAKE_ROOM.format(force=force, lock=LOCK, schema=literal)
            _pour(reading, writing, preamble=preamble, renaming=(home, server.home.encode()), major=server.major)
            _demand(reading, said.result())
        writing.wait()
        complaints.seek(0)
        _demand(writing, complaints.read())
    return schema


def _pour(reading: Any, writing: Any, *, preamble: str, renaming: tuple[bytes, bytes], major: int) -> None:
    """Have psql do what pg_restore reads, and commit only if that came to its end: a pipe ends for any reason."""
    omitting = () if major >= 17 else _UNKNOWN_BEFORE_17
    with writing.stdin as script:
        script.write(preamble.encode())
        header = (line for line in itertools.islice(reading.stdout, _HEADER_LINES) if line not in omitting)
        if renaming[0] == renaming[1]:
            script.writelines(header)
            shutil.copyfileobj(reading.stdout, script, _CHUNK)
        else:
            script.writelines(renamed(itertools.chain(header, reading.stdout), *renaming))
        if reading.wait() == 0:
            script.write(b"COMMIT;\n")


def _demand(process: Any, said: bytes) -> None:
    """Raise BackupError where a program has failed."""
    if process.returncode == 0:
        return
    program = Path(process.args[0]).name
    if process.returncode < 0:
        raise BackupError(f"{program} was ended by the signal {signal.Signals(-process.returncode).name}")
    complaint = error_line(said)
    if "lock timeout" in complaint:
        raise BackupError(_IN_USE)
    raise BackupError(complaint if program == "psql" else f"{program}: {complaint}")


class _Server(Struct, frozen=True):
    """A database server, and the programs that can talk with it."""

    major: int
    programs: Path
    reader: Path
    target: str
    environment: Mapping[str, str]
    schema: str
    home: str
    """The schema as SQL has it, in quotes where it needs them."""
    revision: str | None

    @contextmanager
    def run(self, program: str, *flags: str, **how: Any) -> Iterator[Any]:
        """Run a program beside the block, which waits for its end, or kills it when it raises."""
        folder = self.reader if program == "pg_restore" else self.programs
        with Popen([folder / program, *flags], env=self.environment, **how) as process:  # noqa: S603
            try:
                yield process
            except BaseException:
                process.kill()
                raise


@contextmanager
def _connection(runner: asyncio.Runner, url: str) -> Iterator[Any]:
    connection = runner.run(connect(url, timeout=5))
    try:
        yield connection
    finally:
        connection.terminate()


async def _look(connection: Any, url: str) -> _Server:
    major = connection.get_server_version().major
    schema, home = await connection.fetchrow(_SCHEMA)
    if schema is None:
        raise BackupError("search_path names no schema that there is: create it, or name another")
    programs = client_programs(major, tls=is_encrypted(connection))
    reader = max(
        programs, bundled_programs(), key=major_of
    )  # it connects to nothing, and reads what any older one wrote
    target, environment = reaching(url)
    return _Server(major, programs, reader, target, environment, schema, home, await revision(connection))


def _contents(server: _Server, file: Path) -> tuple[str, bytes, int]:
    """Return the revision of a backup, the name of its schema as SQL has it, and how many tables have data there."""
    of_revision = ("--data-only", "--table=alembic_version", "--file=-")
    said = b""
    for flags in (("--list",), of_revision):
        with server.run("pg_restore", *_READ, *flags, str(file), stdout=PIPE, stderr=PIPE) as reading:
            output, complaints = reading.communicate()
        _demand(reading, complaints)
        said += output
    found = re.search(rb"^COPY (.+)\.alembic_version .*\n(\w+)$", said, flags=re.MULTILINE)
    if found is None:
        raise BackupError(f"{file} holds no data of Invitree")
    return found[2].decode(), found[1], said.count(b" TABLE DATA ")


def _follow(process: Any, *, advance: Advance, tables: int) -> bytes:
    """Tell of each table that a program says it has come to; return all that it says."""
    said, done = [], 0
    for line in process.stderr:
        said.append(line)
        if found := re.search(rb'(?:contents of|data for) table ".+\.([^.]+)"', line):
            advance(done, tables, found[1].decode(errors="replace"))
            done += 1
    return b"".join(said)


def _seal(digest: str) -> bytes:
    return _SEAL + f"{digest}\n".encode()
