"""A PostgreSQL that lets nobody in without TLS."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from bench.servers import free_port
from invitree.kit.data.connections import connect, is_encrypted
from invitree.kit.postgres import programs as pgtools
from invitree.kit.postgres.programs import NoPrograms
from invitree.run.backups import back_up
from tests.backup.conftest import at
from tests.conftest import New
from tests.databases import contents, schema
from tests.installed import installed_postgres, needs_installed
from tests.process import run

pytestmark = needs_installed


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, Path]]:
    """The URL of the server's superuser, without a path, and a folder with certificates."""
    with installed_postgres(tls=True) as found:
        yield found


@pytest.fixture(scope="module")
def strict(cluster: tuple[str, Path]) -> str:
    """The URL of its own database, with all that proves the server."""
    url, folder = cluster
    return f"{url}/postgres?sslmode=verify-full&sslrootcert={folder / 'ca.crt'}&channel_binding=require"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "sslmode=prefer",
        "sslmode=allow",
        "sslmode=require",
        "sslmode=require&sslrootcert={}/ca.crt",
        "sslmode=verify-ca&sslrootcert={}/ca.crt",
        "sslmode=verify-full&sslrootcert={}/ca.crt&ssl_max_protocol_version=TLSv1.2&sslsni=1",
    ],
)
async def test_a_connection_is_encrypted_wherever_it_may_be(cluster: tuple[str, Path], query: str) -> None:
    url, folder = cluster
    connection = await connect(f"{url}/postgres?{query.format(folder)}", timeout=5)
    assert is_encrypted(connection)
    told = await connection.fetchval("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    assert told == ("TLSv1.2" if "TLSv1.2" in query else "TLSv1.3")
    await connection.close()


@pytest.mark.parametrize(
    ("host", "query", "reason"),
    [
        ("localhost", "sslmode=require&sslrootcert={}/other.crt", "the server's certificate is refused"),
        ("localhost", "sslmode=verify-ca&sslrootcert={}/other.crt", "the server's certificate is refused"),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert={}/ca.crt", "refused: IP address mismatch"),
        ("localhost", "sslmode=verify-full&sslrootcert=system", "the server's certificate is refused"),
        ("localhost", "sslmode=verify-full&sslrootcert={}/ca.crt&sslcrl={}/ca.crl", "refused: certificate revoked"),
        ("localhost", "sslmode=verify-full&sslrootcert={}/nothing", "sslrootcert cannot be used: No such file"),
        ("localhost", "sslmode=verify-full&sslrootcert={}/hba", "sslrootcert cannot be used: it is not a cert"),
        ("localhost", "sslmode=require&sslcert={}/nothing", "sslcert cannot be used: No such file"),
        ("localhost", "sslmode=verify-ca", "sslmode=verify-ca needs the certificate of the server's authority"),
    ],
)
async def test_a_server_that_is_not_proved_is_not_connected_to(
    cluster: tuple[str, Path], host: str, query: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    url, folder = cluster
    url = url.replace("@localhost", f"@{host}")
    with pytest.raises(ConnectionError) as refusal:
        await connect(f"{url}/postgres?{query.replace('{}', str(folder))}", timeout=5)
    assert reason in str(refusal.value)
    assert host not in str(refusal.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_server_that_is_not_there_is_told_of_without_its_name(host: str) -> None:
    with pytest.raises(ConnectionRefusedError) as refusal:
        await connect(f"postgresql://u@{host}:{free_port()}/d", timeout=5)
    assert host not in str(refusal.value)
    assert "127.0.0.1" not in str(refusal.value)


async def test_without_tls_nobody_is_let_in(cluster: tuple[str, Path]) -> None:
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await connect(f"{cluster[0]}/postgres?sslmode=disable", timeout=5)


async def test_the_home_folder_and_a_file_for_passwords_are_read_as_libpq_reads_them(
    cluster: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder = cluster
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql/root.crt").write_bytes((folder / "ca.crt").read_bytes())
    password = (folder / "password").read_text(encoding="utf-8").replace(":", "\\:")
    (tmp_path / ".pgpass").write_text(f"# a comment\nother:*:*:*:wrong\nlocalhost:*:postgres:boss:{password}\n")
    (tmp_path / ".pgpass").chmod(0o600)
    bare = f"postgresql://boss@{url.rpartition('@')[2]}/postgres"
    connection = await connect(f"{bare}?sslmode=verify-full", timeout=5)
    await connection.close()
    (tmp_path / ".pgpass").chmod(0o644)
    with pytest.raises(asyncpg.InvalidPasswordError):
        await connect(bare, timeout=5)
    with pytest.raises(ConnectionError, match="passfile cannot be used: others may read it"):
        await connect(f"{bare}?passfile={tmp_path / '.pgpass'}", timeout=5)


async def test_of_several_hosts_the_first_that_does_is_taken(strict: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{free_port()},127.0.0.1:{silent.getsockname()[1]},localhost"
        several = strict.replace("@localhost", f"@{host}")
        for wanted in ("any", "primary", "read-write", "prefer-standby"):
            connection = await connect(f"{several}&target_session_attrs={wanted}", timeout=0.5)
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
    with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
        await connect(f"{strict}&target_session_attrs=standby", timeout=5)


async def test_a_peer_that_is_gone_is_noticed_as_the_address_says(strict: str) -> None:
    connection = await connect(f"{strict}&keepalives_idle=7&keepalives_count=3&tcp_user_timeout=9000", timeout=5)
    own = connection._transport.get_extra_info("socket")
    assert own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
    assert [own.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [7, 3, 9000]
    await connection.close()


async def test_settings_of_the_server_reach_it_and_ours_count_more(strict: str) -> None:
    url = f"{strict}&search_path=a,%20b&options=-c%20work_mem%3D5MB%20-c%20lock_timeout%3D9s"
    connection = await connect(url, timeout=5, server_settings={"lock_timeout": "2s"})
    told = [await connection.fetchval(f"SHOW {name}") for name in ("search_path", "work_mem", "lock_timeout")]
    assert told == ["a, b", "5MB", "2s"]
    await connection.close()


async def test_backup_and_restore_work_over_tls(
    strict: str, filled: str, backup: Path, new_database: New, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await contents(filled)
    done = run("restore", str(backup), env=at(strict))
    [note] = done.stderr.splitlines()
    assert "channel_binding is ignored" in note
    assert done.returncode == 0
    done = run("backup", str(tmp_path / "file"), env=at(strict))
    assert done.returncode == 0, done.stderr
    back = await new_database()
    done = run("restore", str(tmp_path / "file"), env=at(back))
    assert (done.returncode, done.stderr) == (0, "")
    assert await contents(back) == {**before, "throttles": (0, None)}
    assert schema(back) == schema(filled)
    monkeypatch.setattr(pgtools, "_DEBIAN", tmp_path)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NoPrograms, match="install PostgreSQL's client package"):
        await asyncio.to_thread(back_up, strict, tmp_path / "more", force=False, advance=lambda *_: None)
