"""PgBouncer between the service and its database: found out at the start, whatever the pooler lets through."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bench.servers import free_port
from invitree.kit.data.checks import UnusableDatabase, check_usable
from tests.conftest import New
from tests.databases import execute
from tests.kit.postmasters import socket_dir
from tests.process import run
from tests.waiting import await_true

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
IGNORED = "lock_timeout, idle_in_transaction_session_timeout, idle_session_timeout, statement_timeout"
IGNORED += ", default_transaction_isolation, default_transaction_deferrable"
SIZE = f"ignore_startup_parameters = {IGNORED}\ndefault_pool_size = %d"

pytestmark = pytest.mark.skipif(PGBOUNCER is None, reason="no PgBouncer: install pgbouncer")


@contextmanager
def pgbouncer(folder: Path, url: str, *lines: str) -> Iterator[str]:
    """Run PgBouncer in front of a database; yield the URL that leads through it."""
    port, name = free_port(), urlsplit(url).path[1:]
    config = folder / "pgbouncer.ini"
    settings = (
        "[databases]",
        f"{name} = host={socket_dir(url)} port=5432 user=invitree",
        "[pgbouncer]",
        "listen_addr = 127.0.0.1",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = any",
        *lines,
    )
    config.write_text("\n".join(settings), encoding="utf-8")
    # It refuses to be root, as PostgreSQL does, whose account the socket lets in.
    as_account = ["-u", "invitree"] if os.geteuid() == 0 else []
    folder.chmod(0o755)
    with subprocess.Popen([str(PGBOUNCER), "-q", *as_account, str(config)], stderr=subprocess.PIPE) as process:
        try:
            await_true(lambda: _answers(port))
            yield f"postgresql://invitree@127.0.0.1:{port}/{name}"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize(
    ("mode", "ignored", "what"),
    [
        ("transaction", "extra_float_digits", "the settings of a session do not get"),
        ("session", "extra_float_digits", "the settings of a session do not get"),
        ("session", IGNORED, "the settings of a session do not get"),
    ],
)
async def test_a_pooler_that_drops_what_a_session_asks_for_is_refused(
    tmp_path: Path, database_url: str, mode: str, ignored: str, what: str
) -> None:
    in_front = (f"pool_mode = {mode}", f"ignore_startup_parameters = {ignored}")
    with pgbouncer(tmp_path, database_url, *in_front) as url, pytest.raises(UnusableDatabase, match=what):
        await check_usable(url)


@pytest.mark.parametrize("sessions", [1, 20])
async def test_a_pooler_that_lends_a_session_for_one_transaction_is_refused(
    tmp_path: Path, new_database: New, sessions: int
) -> None:
    with (
        pgbouncer(
            tmp_path, await with_what_is_dropped(new_database), "pool_mode = transaction", SIZE % sessions
        ) as url,
        pytest.raises(UnusableDatabase, match="last"),
    ):
        await check_usable(url)


async def test_a_pooler_that_lends_a_session_for_as_long_as_it_is_used_will_do(
    tmp_path: Path, new_database: New
) -> None:
    url = await with_what_is_dropped(new_database)
    with pgbouncer(tmp_path, url, "pool_mode = session", SIZE % 20) as pooled:
        await check_usable(pooled)


async def with_what_is_dropped(new_database: New) -> str:
    """Return the URL of a database that itself sets what the service asks for."""
    url = await new_database()
    await execute(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET lock_timeout = '2s'")
    return url


@pytest.mark.parametrize("command", ["serve", "migrate", "worker", "verify"])
def test_every_command_ends_with_one_line_that_says_what_to_do(tmp_path: Path, database_url: str, command: str) -> None:
    with pgbouncer(tmp_path, database_url, "pool_mode = transaction") as url:
        env = {"INVITREE_DATABASE_URL": url, "INVITREE_DATA_DIR": str(tmp_path / "data")}
        done = run(command, env=env)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "connection pooler, such as PgBouncer" in line
    assert "give the address of PostgreSQL itself" in line
    assert "ready" not in done.stdout
