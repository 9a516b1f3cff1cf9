"""The embedded PostgreSQL, shared by processes and after a kill."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from invitree.kit.postgres.embedded import embedded_postgres
from tests.kit.postmasters import FAST, REACHABLE, ask, first_line, hold, let_go, postmaster, processes
from tests.waiting import await_true

pytestmark = pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
DAC_READ_SEARCH = 1 << 2  # linux/capability.h


def test_the_last_of_two_processes_stops_it(data: Path) -> None:
    first = hold(data)
    url = first_line(first)
    with embedded_postgres(data) as same:
        assert same == url
        let_go(first)
        assert ask(url, "SELECT 1") == ("1", "")
    assert not processes(data)


def test_a_process_may_open_the_embedded_server_twice(data: Path) -> None:
    with embedded_postgres(data, settings=FAST) as url:
        with embedded_postgres(data) as same:
            assert same == url
        assert ask(url, "SELECT 1") == ("1", "")
    assert not processes(data)


def test_many_at_once_start_one_server(place: Path) -> None:
    data = place / "data"
    holders = [hold(data) for _ in range(4)]
    urls = [first_line(holder) for holder in holders]
    assert len(set(urls)) == 1
    assert ask(urls[0], "SELECT 1") == ("1", "")
    for holder in holders:
        let_go(holder)
    assert not processes(data)


def test_a_child_that_stays_behind_does_not_keep_it_running(data: Path) -> None:
    with embedded_postgres(data, settings=FAST):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        assert not processes(data)
    finally:
        child.kill()
        child.wait()


def test_the_embedded_server_has_no_capabilities_and_a_session_of_its_own(data: Path) -> None:
    with embedded_postgres(data, settings=FAST):
        pid = postmaster(data)
        assert os.getsid(pid) == pid
        permitted = re.search(r"CapPrm:\t(\w+)", Path(f"/proc/{pid}/status").read_text())
        assert permitted is not None
        assert int(permitted[1], 16) == (0 if REACHABLE or os.geteuid() != 0 else DAC_READ_SEARCH)


def test_the_server_of_a_killed_process_is_taken_over_and_stopped(data: Path) -> None:
    killed = hold(data)
    ask(first_line(killed), "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 7 AS n")
    killed.kill()
    killed.communicate()
    orphan = postmaster(data)
    with embedded_postgres(data, settings=FAST) as url:
        assert postmaster(data) == orphan
        assert ask(url, "SELECT n FROM kept") == ("7", "")
    assert not processes(data)


def test_a_killed_server_recovers_at_the_next_start(data: Path) -> None:
    with embedded_postgres(data, settings=FAST) as url:
        ask(url, "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 7 AS n")
        killed = postmaster(data)
        os.kill(killed, signal.SIGKILL)
        with embedded_postgres(data, settings=FAST) as again:
            assert postmaster(data) != killed
            assert ask(again, "SELECT n FROM kept") == ("7", "")
    assert not processes(data)


def test_a_pid_file_whose_id_is_now_another_process_does_not_matter(data: Path) -> None:
    with embedded_postgres(data, settings=FAST):
        pid_file = (data / "postgres/postmaster.pid").read_text()
        lock_file = (data / "run/.s.PGSQL.5432.lock").read_text()
        owner = (data / "postgres").stat().st_uid
    other = subprocess.Popen(["sleep", "60"], user=owner)
    (data / "run").mkdir(mode=0o700)
    for path, text in (("postgres/postmaster.pid", pid_file), ("run/.s.PGSQL.5432.lock", lock_file)):
        (data / path).write_text("\n".join([str(other.pid), *text.splitlines()[1:]]) + "\n")
        os.chown(data / path, owner, -1)
    try:
        with embedded_postgres(data, settings=FAST) as url:
            assert ask(url, "SELECT 1") == ("1", "")
        assert not processes(data)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("everything", [True, False], ids=["with initdb", "leaving initdb behind"])
def test_a_kill_during_the_first_start_leaves_a_folder_that_starts(place: Path, everything: bool) -> None:
    data = place / "data"
    killed = hold(data)
    await_true((data / "postgres.new/base").exists)
    os.killpg(killed.pid, signal.SIGKILL) if everything else killed.kill()
    killed.communicate()
    assert not (data / "postgres").exists()
    with embedded_postgres(data, settings=FAST) as url:
        assert ask(url, "SELECT 1") == ("1", "")
        assert not (data / "postgres.new").exists()
