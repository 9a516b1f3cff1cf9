"""A database that goes away and comes back: the service waits for it, and nobody has to restart anything."""

import os
import signal
from pathlib import Path

import httpx
import psutil

from invitree.kit.postgres.embedded import embedded_postgres
from tests.process import service
from tests.waiting import await_true


def status(url: str) -> int:
    """Return the status of an address, 0 where nobody answers."""
    try:
        return httpx.get(url, timeout=10).status_code
    except httpx.TransportError:
        return 0


def test_a_web_process_replaced_during_an_outage_serves_when_the_database_is_back(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    environment = {"INVITREE_SECRET_KEY": "x" * 40, "INVITREE_DATA_DIR": str(tmp_path / "unused")}
    with (
        embedded_postgres(tmp_path / "data") as url,
        service("--workers", "1", "--no-worker", env={**environment, "INVITREE_DATABASE_URL": url}) as running,
    ):
        assert status(f"{running.url}/readyz") == 200
        [server] = [p for p in psutil.process_iter(["cmdline"]) if _is_postmaster(p, tmp_path / "data")]
        server.suspend()
        for child in server.children():
            child.suspend()
        [worker] = [p for p in psutil.Process(running.process.pid).children() if p.is_running()]
        os.kill(worker.pid, signal.SIGKILL)
        await_true(lambda: status(f"{running.url}/healthz") == 200)
        assert status(f"{running.url}/readyz") == 503
        assert running.process.poll() is None
        for child in server.children():
            child.resume()
        server.resume()
        await_true(lambda: status(f"{running.url}/readyz") == 200)


def _is_postmaster(process: psutil.Process, data: Path) -> bool:
    command = process.info["cmdline"] or []
    return bool(command) and command[0].endswith("bin/postgres") and str(data / "postgres") in command
