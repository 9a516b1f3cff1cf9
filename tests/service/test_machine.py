"""What the machine does to the service: where it is started, how it is ended, and what it may use."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import psutil
import pytest

from tests.kit.postmasters import processes
from tests.process import INVITREE, Service, run, service
from tests.tmpfs import only_with_tmpfs, tmpfs
from tests.waiting import await_true

PERSON = {"email": "anna@example.com", "username": "anna", "password": "correct horse battery staple"}
TAKEN = sorted(
    {*sys.stdlib_module_names, "invitree", "jinja2", "aiosmtplib", "msgspec", "asyncpg", "alembic", "granian"}
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder that PostgreSQL may enter."""
    tmp_path.chmod(0o755)
    return tmp_path / "data"


def children(running: Service) -> list[psutil.Process]:
    """Return all processes that a service has started."""
    return psutil.Process(running.process.pid).children(recursive=True)


def are_gone(left: list[psutil.Process]) -> bool:
    """Return whether all of these have ended, waiting for it."""
    return psutil.wait_procs(left, timeout=30)[1] == []


def test_nothing_is_imported_from_the_folder_that_it_is_started_in(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ran = tmp_path / "started here", tmp_path / "ran"
    folder.mkdir()
    for name in TAKEN:
        (folder / f"{name}.py").write_text(f"open({str(ran)!r}, 'a').write(__name__ + ' ')\nraise SystemExit(1)\n")
    monkeypatch.chdir(folder)
    with service("--data-dir", str(data), "--workers", "2") as running:
        assert httpx.post(f"{running.url}/auth/users/", json=PERSON).status_code == 201
        httpx.post(f"{running.url}/auth/users/reset_password/", json={"email": PERSON["email"]})
        await_true(lambda: ran.exists() or len(list(data.glob("outbox/*.eml"))) == 1)
        backup = run("backup", str(tmp_path / "backup"), "--data-dir", str(data))
    assert backup.returncode == 0, backup.stderr
    assert not ran.exists(), ran.read_text()


def test_a_terminal_that_is_closed_ends_everything_in_order(data: Path) -> None:
    with service("--data-dir", str(data), "--workers", "2") as running:
        await_true(lambda: "worker.started" in running.output)
        started = children(running)
        for _ in range(2):  # the shell and the system each send one
            os.killpg(running.process.pid, signal.SIGHUP)
        assert running.process.wait(60) == 0
        assert are_gone(started)
    assert "Stopped." in running.output
    assert "worker.stopped" in running.output
    assert processes(data) == []


def test_a_terminal_that_is_closed_before_the_service_is_ready_leaves_nothing(data: Path) -> None:
    running = Service("--data-dir", str(data), "--workers", "1")
    await_true((data / "postgres").exists)
    started = children(running)
    for _ in range(2):
        os.killpg(running.process.pid, signal.SIGHUP)
    assert running.process.wait(60) == 130
    assert are_gone(started)
    assert processes(data) == []
    assert "Traceback" not in running.output


def test_a_service_under_nohup_and_its_worker_outlive_the_terminal(data: Path) -> None:
    with service("--data-dir", str(data), "--workers", "1", prefix=["nohup"]) as running:
        await_true(lambda: "worker.started" in running.output)
        started = children(running)
        for process in (psutil.Process(running.process.pid), *started):
            if "postgres" not in process.cmdline()[0]:
                process.send_signal(signal.SIGHUP)
        await_true(lambda: httpx.get(f"{running.url}/readyz").json()["worker"] == "running")
        assert all(one.is_running() for one in started)
        assert running.stop() == 0
    assert running.output.count("worker.started") == 1


def test_a_worker_on_its_own_ends_with_the_terminal_and_stops_its_database(data: Path) -> None:
    alone = subprocess.Popen([INVITREE, "worker", "--data-dir", str(data)], stderr=subprocess.PIPE, text=True)
    assert alone.stderr is not None
    said = alone.stderr.readline()
    alone.send_signal(signal.SIGHUP)
    said += alone.communicate(timeout=60)[1]
    assert alone.returncode == 0
    assert "worker.stopped" in said
    assert processes(data) == []


@pytest.mark.parametrize("moved", [True, False], ids=["replaced", "removed"])
def test_a_data_folder_that_is_not_what_it_was_ends_the_service_in_one_line(data: Path, moved: bool) -> None:
    with service("--data-dir", str(data), "--workers", "1") as running:
        started = children(running)
        if moved:
            shutil.copytree(data, data.with_name("copy"), ignore=shutil.ignore_patterns("*.s.PGSQL*"), symlinks=True)
            data.rename(data.with_name("before"))
            data.with_name("copy").rename(data)
        else:
            shutil.rmtree(data, ignore_errors=True)
        assert running.process.wait(90) == 1
        assert are_gone(started)
    assert f"invitree: the database in {data} was moved, removed or replaced while it was in use\n" in running.output
    assert "Traceback" not in running.output
    assert processes(data) == []


def test_too_few_open_files_are_refused_and_few_are_enough(data: Path) -> None:
    def limited(files: int) -> list[str]:
        return ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]

    command = [INVITREE, "serve", "--data-dir", str(data), "--workers", "1"]
    done = subprocess.run([*limited(128), *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(
        r"invitree: 204 open files are needed with INVITREE_POOL_SIZE=20, and the system allows 128: .*\n", done.stderr
    )
    assert not data.exists()
    alone = [*limited(100), INVITREE, "worker", "--data-dir", str(data)]
    done = subprocess.run(alone, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("invitree: 128 open files are needed by a worker, and the system allows 100: ")
    with service("--data-dir", str(data), "--workers", "1", prefix=limited(256)) as running:
        clients = [httpx.Client(base_url=running.url, timeout=30) for _ in range(100)]
        assert {client.get("/readyz").status_code for client in clients} == {200}
        for client in clients:
            client.close()


@only_with_tmpfs
def test_without_a_place_for_temporary_files_it_says_so(tmp_path: Path) -> None:
    read_only = "for place in /tmp /var/tmp; do mount --bind $place $place && mount -o remount,ro,bind $place; done"
    program = f"{read_only}; cd /proc; exec env -u TMPDIR '{INVITREE}' serve --data-dir '{tmp_path}'"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert re.fullmatch(r"invitree: there is no place for temporary files, TMPDIR must name one: [^\n]*\n", done.stderr)


@only_with_tmpfs
@pytest.mark.parametrize("size", ["64k", "4m"], ids=["small from the start", "filled later"])
def test_a_full_folder_for_temporary_files_ends_no_web_process(data: Path, tmp_path: Path, size: str) -> None:
    (folder := tmp_path / "temporary").mkdir()
    environment = {"TMPDIR": str(folder), "INVITREE_METRICS_TOKEN": "let me see"}
    with tmpfs(folder, size=size), service("--data-dir", str(data), "--workers", "1", env=environment) as running:
        before = children(running)
        with pytest.raises(OSError, match="No space left"):
            (folder / "filler").write_bytes(bytes(8_000_000))
        for path in ("/healthz", "/", "/docs/", "/auth/users/me/", "/api/referral_codes/", "/schema/openapi.json"):
            for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):  # each has metrics of its own
                assert httpx.request(method, running.url + path).status_code < 500
        metrics = httpx.get(f"{running.url}/metrics", headers={"Authorization": "Bearer let me see"})
        assert metrics.status_code == 200
        assert all(one.is_running() for one in before)
        assert running.stop() == 0
