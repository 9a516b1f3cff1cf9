"""Backup and restore of the database, in one file with a checksum.

The file is a pg_dump archive, which pg_restore reads as it is, followed by the archive's SHA-256.
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
from invitree.kit.postgres.archives import count_rows, rename_schema, unquoted
from invitree.kit.postgres.programs import bundled_programs, client_programs, error_line, libpq_target, major_of
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
# A backup may be restored by another role, on a server without the original roles and tablespaces.
_READ = ("--format=custom", "--no-owner", "--no-privileges", "--no-tablespaces")
_WRITE = ("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--file=-")
_NOT_DUMPED = "throttles"  # unlogged: a crash empties it too
_IN_USE = "somebody else is using the tables of the database, or is migrating it"
_HEADER_LINES = 40  # the comments and settings at the beginning of pg_restore's script
_UNKNOWN_BEFORE_17 = (b"SET transaction_timeout = 0;\n",)

# The schema that the service uses: where its tables are, or would be created.
_SCHEMA = """
SELECT nspname AS schema, quote_ident(nspname) AS home FROM (VALUES (1)) one
LEFT JOIN pg_namespace n ON CASE WHEN to_regclass('alembic_version') IS NULL THEN nspname = current_schema()
    ELSE n.oid = (SELECT relnamespace FROM pg_class c WHERE c.oid = to_regclass('alembic_version')) END
"""
# Tables whose rows pg_dump saves: no views, no partitioned tables, no tables of extensions.
_TABLES = """
SELECT relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = $1 AND relkind = 'r' AND relname <> $2 AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
)
ORDER BY relname
"""
_STRAY_TABLE = """
SELECT relname FROM unnest($1::text[]) name JOIN pg_class c ON c.oid = to_regclass(name)
JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname <> $2 LIMIT 1
"""

# Begins the transaction and removes what there is. Tables are dropped instead of emptied: another version has other
# tables, and the audit log cannot be emptied. Objects of extensions stay, because backups do not contain them.
_DROP_ALL = """
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
"""A callback for progress: tables done, tables in total, current table."""


class BackupError(Exception):
    """A backup cannot be made or used. The message is one line for the operator."""


def back_up(url: str, file: Path, *, force: bool, advance: Advance) -> int:
    """Write a consistent snapshot of the database into a file; return the file's size in bytes.

    The file appears complete or not at all, readable only by its owner. Raises BackupError, also if the file exists
    and `force` is not set.
    """
    with asyncio.Runner() as runner, _connection(runner, url) as connection:
        server = runner.run(_inspect(connection, url))
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
                _verify(server, draft, expected=expected, advance=advance)
                return _complete(draft)
        except OSError as error:
            raise BackupError(f"{file} cannot be written: {error.strerror}") from None
        except asyncpg.LockNotAvailableError:
            raise BackupError(_IN_USE) from None


def _dump(server: "_Server", draft: Path, *, snapshot: str, tables: int, advance: Advance) -> None:
    which = (f"--schema={server.home}", f"--exclude-table-data={server.home}.{_NOT_DUMPED}", f"--snapshot={snapshot}")
    with server.run(
        "pg_dump", *_DUMP, *which, f"--file={draft}", server.target, stdout=DEVNULL, stderr=PIPE
    ) as dumping:
        output = _report_tables(dumping, advance=lambda done, of, what: advance(done, 3 * of, what), tables=tables)
    _check_exit(dumping, output)


async def _snapshot(connection: Any, server: "_Server") -> tuple[str, list[str]]:
    """Begin a transaction; return its snapshot and the tables to back up."""
    await connection.execute(
        "SET statement_timeout = 0; SET lock_timeout = '10s'; SET idle_in_transaction_session_timeout = 0"
    )
    await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    snapshot = await connection.fetchval("SELECT pg_export_snapshot()")
    tables = [row["name"] for row in await connection.fetch(_TABLES, server.schema, _NOT_DUMPED)]
    expected = {name for one in INVARIANTS for name in re.findall(r"\b(?:FROM|JOIN)\s+(?!pg_)(\w+)", one.query)}
    if stray := await connection.fetchval(_STRAY_TABLE, sorted(expected), server.schema):
        raise BackupError(f"the table {stray} is not in the schema of the others, {server.schema}")
    return snapshot, tables


async def _count(connection: Any, server: "_Server", *, tables: Sequence[str], advance: Advance) -> dict[str, int]:
    """Count the rows of each table in the snapshot."""
    rows = {}
    for number, name in enumerate(tables):
        advance(len(tables) + number, 3 * len(tables), name)
        quoted = '"' + name.replace('"', '""') + '"'
        rows[name] = await connection.fetchval(f"SELECT count(*) FROM {server.home}.{quoted}")  # noqa: S608
    return rows


def _verify(server: "_Server", draft: Path, *, expected: Mapping[str, int], advance: Advance) -> None:
    """Read an archive and compare its row counts with the expected ones. Raises BackupError."""
    flags = ("--data-only", "--file=-", str(draft))
    with (
        tempfile.TemporaryFile() as errors,
        server.run("pg_restore", *_READ, *flags, stdout=PIPE, stderr=errors) as reading,
    ):
        rows = count_rows(
            reading.stdout,
            schema=server.home.encode(),
            advance=lambda done, name: advance(2 * len(expected) + done, 3 * len(expected), name),
        )
        reading.wait()
        errors.seek(0)
        _check_exit(reading, errors.read())
    for table, count in expected.items():
        if rows.get(table) != count:
            raise BackupError(f"the backup is not whole: it has {rows.get(table, 0)} of {count} rows of {table}")


@contextmanager
def _draft_of(file: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces `file` if the block succeeds and is deleted otherwise."""
    number, name = tempfile.mkstemp(prefix=f"{file.name}.", suffix=".partial", dir=file.parent)
    os.close(number)
    draft = Path(name)
    try:
        yield draft
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    os.fsync(folder)  # make the rename durable
    os.close(folder)


def _complete(draft: Path) -> int:
    """Append the checksum to an archive, flush it to disk, and return its size."""
    with draft.open("r+b") as archive:
        archive.write(_seal(hashlib.file_digest(archive, "sha256").hexdigest()))
        archive.flush()
        os.fsync(archive.fileno())
        return archive.tell()


def check_file(file: Path) -> None:
    """Read a backup and verify its checksum. Raises BackupError."""
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
    """Restore a checked backup into an empty database or, with `force`, replace the contents.

    Returns the revision of its schema. Runs in one transaction: if it raises BackupError, nothing was changed.
    """
    with asyncio.Runner() as runner, _connection(runner, url) as connection:
        server = runner.run(_inspect(connection, url))
    schema, home, tables = _contents(server, file)
    if schema > HEAD:
        raise BackupError(f"{file} was made by a newer Invitree: its schema is {schema}, and here it is {HEAD}")
    read = ("pg_restore", *_READ, f"--schema={unquoted(home)}", "--verbose", "--file=-", str(file))
    with (
        tempfile.TemporaryFile() as errors,
        ThreadPoolExecutor(1) as aside,
        server.run("psql", *_WRITE, server.target, stdin=PIPE, stdout=DEVNULL, stderr=errors) as writing,
        server.run(*read, stdout=PIPE, stderr=PIPE) as reading,
    ):
        output = aside.submit(_report_tables, reading, advance=advance, tables=tables)
        with suppress(BrokenPipeError):  # psql has exited, and its error is reported below
            literal = "'" + server.schema.replace("'", "''") + "'"
            preamble = _DROP_ALL.format(force=force, lock=LOCK, schema=literal)
            _pipe(reading, writing, preamble=preamble, schemas=(home, server.home.encode()), major=server.major)
            _check_exit(reading, output.result())
        writing.wait()
        errors.seek(0)
        _check_exit(writing, errors.read())
    return schema


def _pipe(reading: Any, writing: Any, *, preamble: str, schemas: tuple[bytes, bytes], major: int) -> None:
    """Pipe pg_restore's script into psql, with a COMMIT only if pg_restore succeeded: a pipe may end for any reason."""
    omitted = () if major >= 17 else _UNKNOWN_BEFORE_17
    with writing.stdin as script:
        script.write(preamble.encode())
        header = (line for line in itertools.islice(reading.stdout, _HEADER_LINES) if line not in omitted)
        if schemas[0] == schemas[1]:
            script.writelines(header)
            shutil.copyfileobj(reading.stdout, script, _CHUNK)
        else:
            script.writelines(rename_schema(itertools.chain(header, reading.stdout), *schemas))
        if reading.wait() == 0:
            script.write(b"COMMIT;\n")


def _check_exit(process: Any, output: bytes) -> None:
    """Raise BackupError if a program has failed."""
    if process.returncode == 0:
        return
    program = Path(process.args[0]).name
    if process.returncode < 0:
        raise BackupError(f"{program} was ended by the signal {signal.Signals(-process.returncode).name}")
    error = error_line(output)
    if "lock timeout" in error:
        raise BackupError(_IN_USE)
    raise BackupError(error if program == "psql" else f"{program}: {error}")


class _Server(Struct, frozen=True):
    """A database server, and client programs that work with it."""

    major: int
    programs: Path
    reader: Path
    target: str
    environment: Mapping[str, str]
    schema: str
    home: str
    """The schema as an SQL identifier, quoted if needed."""
    revision: str | None

    @contextmanager
    def run(self, program: str, *flags: str, **kwargs: Any) -> Iterator[Any]:
        """Run a program during the block; wait for it at the end, or kill it if the block raises."""
        folder = self.reader if program == "pg_restore" else self.programs
        with Popen([folder / program, *flags], env=self.environment, **kwargs) as process:  # noqa: S603
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


async def _inspect(connection: Any, url: str) -> _Server:
    major = connection.get_server_version().major
    schema, home = await connection.fetchrow(_SCHEMA)
    if schema is None:
        raise BackupError("search_path names no schema that there is: create it, or name another")
    programs = client_programs(major, tls=is_encrypted(connection))
    reader = max(
        programs, bundled_programs(), key=major_of
    )  # it connects to nothing, and reads what any older one wrote
    target, environment = libpq_target(url)
    return _Server(major, programs, reader, target, environment, schema, home, await revision(connection))


def _contents(server: _Server, file: Path) -> tuple[str, bytes, int]:
    """Return a backup's revision, its schema as an SQL identifier, and its number of tables with data."""
    of_revision = ("--data-only", "--table=alembic_version", "--file=-")
    listing = b""
    for flags in (("--list",), of_revision):
        with server.run("pg_restore", *_READ, *flags, str(file), stdout=PIPE, stderr=PIPE) as reading:
            output, errors = reading.communicate()
        _check_exit(reading, errors)
        listing += output
    found = re.search(rb"^COPY (.+)\.alembic_version .*\n(\w+)$", listing, flags=re.MULTILINE)
    if found is None:
        raise BackupError(f"{file} holds no data of Invitree")
    return found[2].decode(), found[1], listing.count(b" TABLE DATA ")


def _report_tables(process: Any, *, advance: Advance, tables: int) -> bytes:
    """Report each table that a program's output mentions; return the whole output."""
    output, done = [], 0
    for line in process.stderr:
        output.append(line)
        if found := re.search(rb'(?:contents of|data for) table ".+\.([^.]+)"', line):
            advance(done, tables, found[1].decode(errors="replace"))
            done += 1
    return b"".join(output)


def _seal(digest: str) -> bytes:
    return _SEAL + f"{digest}\n".encode()
