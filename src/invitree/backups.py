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
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

import asyncpg
from msgspec import Struct

from invitree.kit.pgtools import client_programs, reaching, telling_line
from invitree.migrations import HEAD, LOCK
from invitree.migrations.upgrade import revision

_SEAL = b"\ninvitree backup, sha256 "
_SEAL_SIZE = len(_SEAL) + 64 + 1
_CHUNK = 1 << 20
_DUMP = (
    "--format=custom",
    "--schema=public",
    "--exclude-table-data=public.throttles",  # unlogged: a crash forgets it too
    "--lock-wait-timeout=10s",
    "--no-password",
    "--verbose",
)
# Whoever restores may be another role than whoever made the backup, on a machine without its roles and tablespaces.
_READ = ("--format=custom", "--schema=public", "--no-owner", "--no-privileges", "--no-tablespaces")
_WRITE = ("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--file=-")
_HEADER_LINES = 40  # comments and settings, with which the script that pg_restore makes begins
_UNKNOWN_BEFORE_17 = (b"SET transaction_timeout = 0;\n",)

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
    may_be_filled CONSTANT text[] := ARRAY['public.alembic_version', 'public.programs', 'public.throttles'];
    is_ours CONSTANT boolean := to_regclass('public.alembic_version') IS NOT NULL
        AND to_regclass('public.referrals') IS NOT NULL;
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
        WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = 'public'::regnamespace AND d.deptype = 'n'
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
    server = asyncio.run(_look(url))
    if server.revision is None:
        raise BackupError("the database holds no data of Invitree")
    try:
        if file.exists() and not file.is_file():
            raise BackupError(f"{file} is not a file")
        if file.exists() and not force:
            raise BackupError(f"{file} is there already; --force replaces it")
        with _draft_of(file) as draft:
            command = ("pg_dump", *_DUMP, f"--file={draft}", server.target)
            with server.run(*command, stdout=DEVNULL, stderr=PIPE) as dumping:
                said = _follow(dumping, advance=advance, tables=server.tables)
            _demand(dumping, said)
            return _complete(draft)
    except OSError as error:
        raise BackupError(f"{file} cannot be written: {error.strerror}") from None


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
    server = asyncio.run(_look(url))
    schema, tables = _contents(server, file)
    if schema > HEAD:
        raise BackupError(f"{file} was made by a newer Invitree: its schema is {schema}, and here it is {HEAD}")
    with (
        tempfile.TemporaryFile() as complaints,
        ThreadPoolExecutor(1) as aside,
        server.run("psql", *_WRITE, server.target, stdin=PIPE, stdout=DEVNULL, stderr=complaints) as writing,
        server.run("pg_restore", *_READ, "--verbose", "--file=-", str(file), stdout=PIPE, stderr=PIPE) as reading,
    ):
        said = aside.submit(_follow, reading, advance=advance, tables=tables)
        with suppress(BrokenPipeError):  # psql has given up, and says why
            preamble = _MAKE_ROOM.format(force=force, lock=LOCK)
            _pour(reading, writing, preamble=preamble, omitting=() if server.major >= 17 else _UNKNOWN_BEFORE_17)
            _demand(reading, said.result())
        writing.wait()
        complaints.seek(0)
        _demand(writing, complaints.read())
    return schema


def _pour(reading: Any, writing: Any, *, preamble: str, omitting: Collection[bytes]) -> None:
    """Have psql do what pg_restore reads, and commit only if that came to its end: a pipe ends for any reason."""
    with writing.stdin as script:
        script.write(preamble.encode())
        header = itertools.islice(reading.stdout, _HEADER_LINES)
        script.writelines(line for line in header if line not in omitting)
        shutil.copyfileobj(reading.stdout, script, _CHUNK)
        if reading.wait() == 0:
            script.write(b"COMMIT;\n")


def _demand(process: Any, said: bytes) -> None:
    """Raise BackupError where a program has failed."""
    if process.returncode == 0:
        return
    program = Path(process.args[0]).name
    if process.returncode < 0:
        raise BackupError(f"{program} was ended by the signal {signal.Signals(-process.returncode).name}")
    complaint = telling_line(said)
    if "lock timeout" in complaint:
        raise BackupError("somebody else is using the tables of the database, or is migrating it")
    raise BackupError(complaint if program == "psql" else f"{program}: {complaint}")


class _Server(Struct, frozen=True):
    """A database server, and the programs that can talk with it."""

    major: int
    programs: Path
    target: str
    environment: Mapping[str, str]
    revision: str | None
    tables: int

    @contextmanager
    def run(self, program: str, *flags: str, **how: Any) -> Iterator[Any]:
        """Run a program beside the block, which waits for its end, or kills it when it raises."""
        with Popen([self.programs / program, *flags], env=self.environment, **how) as process:  # noqa: S603
            try:
                yield process
            except BaseException:
                process.kill()
                raise


async def _look(url: str) -> _Server:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        major = connection.get_server_version().major
        target, environment = reaching(url)
        count = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL('{throttles,audit}')"
        tables = await connection.fetchval(count)
        return _Server(major, client_programs(major), target, environment, await revision(connection), tables)
    finally:
        await connection.close()


def _contents(server: _Server, file: Path) -> tuple[str, int]:
    """Return the revision of the schema in a backup, and how many tables have data there."""
    of_revision = ("--data-only", "--table=alembic_version", "--file=-")
    said = b""
    for flags in (("--list",), of_revision):
        with server.run("pg_restore", *_READ, *flags, str(file), stdout=PIPE, stderr=PIPE) as reading:
            output, complaints = reading.communicate()
        _demand(reading, complaints)
        said += output
    found = re.search(rb"^COPY public\.alembic_version .*\n(\w+)$", said, flags=re.MULTILINE)
    if found is None:
        raise BackupError(f"{file} holds no data of Invitree")
    return found[1].decode(), said.count(b" TABLE DATA ")


def _follow(process: Any, *, advance: Advance, tables: int) -> bytes:
    """Tell of each table that a program says it has come to; return all that it says."""
    said, done = [], 0
    for line in process.stderr:
        said.append(line)
        if found := re.search(rb'(?:contents of|data for) table "public\.(.+)"', line):
            advance(done, tables, found[1].decode(errors="replace"))
            done += 1
    return b"".join(said)


def _seal(digest: str) -> bytes:
    return _SEAL + f"{digest}\n".encode()
