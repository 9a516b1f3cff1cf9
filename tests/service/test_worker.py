"""The worker as a process: beside `invitree serve`, and alone."""

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil
import pytest

from tests.process import INVITREE, run, service
from tests.waiting import await_true


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A data folder that PostgreSQL may enter."""
    tmp_path.chmod(0o755)
    return str(tmp_path / "data")


def workers_below(process: int) -> list[psutil.Process]:
    """Return the workers that a process has started."""
    return [child for child in psutil.Process(process).children() if "worker" in child.cmdline()]


def test_serve_keeps_one_worker_and_stops_it(data: str) -> None:
    with service("--data-dir", data, "--workers", "2") as running:
        assert f"Mail        {data}/outbox\n" in running.output
        await_true(lambda: "worker.started" in running.output)
        [worker] = workers_below(running.process.pid)
        worker.kill()
        await_true(lambda: running.output.count("worker.started") == 2)
        [another] = workers_below(running.process.pid)
        assert another.pid != worker.pid
        assert os.getpgid(another.pid) != os.getpgid(running.process.pid), "Ctrl-C reaches it"
        os.killpg(running.process.pid, signal.SIGINT)  # a terminal signals the whole group
        assert running.process.wait(60) == 0
        assert not another.is_running()
    assert running.output.index("worker.stopped") < running.output.index("Stopped.")
    assert "Traceback" not in running.output


def test_a_letter_that_is_asked_for_is_in_the_outbox(data: str) -> None:
    with service("--data-dir", data, "--workers", "1") as running:
        person = {"email": "anna@example.com", "username": "anna", "password": "correct horse battery staple"}
        assert httpx.post(f"{running.url}/auth/users/", json=person).status_code == 201
        asked = httpx.post(f"{running.url}/auth/users/reset_password/", json={"email": person["email"]})
        assert asked.status_code == 204
        await_true(lambda: len(list(Path(data).glob("outbox/*.eml"))) == 1)
        await_true(lambda: "job.done" in running.output)
    [letter] = Path(data).glob("outbox/*.eml")
    assert f"{running.url}/" in letter.read_text(encoding="utf-8")
    assert "anna" not in running.output


def test_a_worker_ends_with_a_service_that_is_killed(data: str) -> None:
    with service("--data-dir", data, "--workers", "1") as running:
        await_true(lambda: "worker.started" in running.output)
        [worker] = workers_below(running.process.pid)
        running.process.kill()
        running.process.wait(60)
        psutil.wait_procs([worker], timeout=30)
        assert not worker.is_running()
    assert run("verify", "--data-dir", data).returncode == 0  # and with it goes the database that was left behind


async def test_a_worker_may_be_on_its_own(data: str) -> None:
    environment = {"INVITREE_METRICS_TOKEN": "let me see"}
    with service("--data-dir", data, "--workers", "1", "--no-worker", env=environment) as running:
        url = run("db", "url", "--data-dir", data).stdout.strip()
        connection = await asyncpg.connect(url)
        assert httpx.get(f"{running.url}/readyz").json()["worker"] == "missing"
        assert "invitree_worker_running 0.0" in _metrics(running.url)
        with subprocess.Popen([INVITREE, "worker", "--data-dir", data], stderr=subprocess.PIPE, text=True) as alone:
            deadline = time.monotonic() + 60
            while not await _is_at_work(connection):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            alone.send_signal(signal.SIGINT)
            _, said = await asyncio.to_thread(alone.communicate, timeout=30)
        await connection.close()
        assert workers_below(running.process.pid) == []
    assert alone.returncode == 0
    assert "worker.stopped" in said
    assert "queue.lost" not in said


async def _is_at_work(connection: Any) -> bool:
    query = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'invitree worker'"
    return bool(await connection.fetchval(query))


def _metrics(url: str) -> str:
    return httpx.get(f"{url}/metrics", headers={"Authorization": "Bearer let me see"}).text
