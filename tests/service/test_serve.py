"""`invitree serve`, from the first start to the last signal."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from granian.constants import Interfaces
from granian.server import Server

from bench.servers import free_port
from invitree.run.serve import StickyInterrupt
from tests.kit.postmasters import kill_all, processes
from tests.process import Service, run, service
from tests.waiting import await_true

PASSWORD = "correct horse battery staple"
ALICE = {"email": "alice@example.com", "username": "alice", "password": PASSWORD}


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A data folder whose path has what paths can have."""
    return str(tmp_path / "a folder, with 'spaces' & ünïcode")


def test_a_first_start_serves_and_says_where(data: str) -> None:
    with service("--data-dir", data, "--workers", "2") as running:
        ready = {"status": "ok", "worker": "running"}
        await_true(lambda: httpx.get(f"{running.url}/readyz").json() == ready)
        assert f"{running.url}/docs/" in running.output
        assert data in running.output
        assert httpx.get(f"{running.url}/docs/").status_code == 200
        assert httpx.post(f"{running.url}/auth/users/", json=ALICE).status_code == 201
        secret = Path(data, "secret_key")
        assert secret.stat().st_mode & 0o777 == 0o600
        assert len(secret.read_text()) >= 32
        children = psutil.Process(running.process.pid).children(recursive=True)
    assert running.process.returncode == 0
    assert "Traceback" not in running.output
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_data_and_sessions_are_there_at_the_next_start(data: str, how: signal.Signals) -> None:
    with service("--data-dir", data, "--workers", "1") as running:
        assert httpx.post(f"{running.url}/auth/users/", json=ALICE).status_code == 201
        token = _log_in(running)
        assert running.stop(how) == 0
        assert "Stopped." in running.output
    with service("--data-dir", data, "--workers", "1") as running:
        assert _me(running, token).json()["email"] == ALICE["email"]
    assert run("verify", "--data-dir", data).returncode == 0


def test_a_killed_service_is_taken_over_by_the_next_start(data: str) -> None:
    with service("--data-dir", data, "--workers", "2") as killed:
        assert httpx.post(f"{killed.url}/auth/users/", json=ALICE).status_code == 201
        token = _log_in(killed)
        workers = _workers(killed)
        assert len(workers) == 2
        killed.stop(signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == [], "workers outlive the service, and so the port stays taken"
    with service("--data-dir", data, "--workers", "1") as running:
        assert _me(running, token).status_code == 200
    assert run("verify", "--data-dir", data).returncode == 0


def test_a_killed_worker_is_replaced(data: str) -> None:
    with service("--data-dir", data, "--workers", "1") as running:
        before = _workers(running)
        os.kill(before[-1].pid, signal.SIGKILL)
        psutil.wait_procs(before, timeout=10)
        await_true(lambda: httpx.get(f"{running.url}/readyz").status_code == 200)
        assert _workers(running) != before


def test_an_embedded_database_that_ends_by_itself_is_started_again(data: str) -> None:
    with service("--data-dir", data, "--workers", "1") as running:
        assert httpx.post(f"{running.url}/auth/users/", json=ALICE).status_code == 201
        for _ in range(2):
            kill_all(Path(data, "postgres"))
            assert httpx.get(f"{running.url}/healthz").status_code == 200
            await_true(lambda: httpx.get(f"{running.url}/readyz").status_code == 200)
            assert _log_in(running)
        assert running.output.count("has ended; starting it again") == 2
        assert running.stop() == 0
    assert processes(Path(data, "postgres")) == []
    assert run("verify", "--data-dir", data).returncode == 0


def test_two_commands_may_use_the_embedded_database_at_once(data: str) -> None:
    with service("--data-dir", data, "--workers", "1") as running:
        made = run(
            "user", "create", "--email", "root@example.com", "--username", "root", "--staff", "--data-dir", data,
            stdin=f"{PASSWORD}\n",
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        body = {"username": "root", "password": PASSWORD}
        assert httpx.post(f"{running.url}/auth/token/login/", json=body).status_code == 200


def test_metrics_of_all_processes_are_behind_the_token(data: str) -> None:
    with service("--data-dir", data, "--workers", "2", env={"INVITREE_METRICS_TOKEN": "let me see"}) as running:
        for _ in range(20):
            assert httpx.get(f"{running.url}/healthz").status_code == 200
        assert httpx.get(f"{running.url}/metrics").status_code == 404
        seen = httpx.get(f"{running.url}/metrics", headers={"Authorization": "Bearer let me see"}).text
    lines = [line for line in seen.splitlines() if line.startswith("invitree_request_seconds_count")]
    counted = sum(float(line.rpartition(" ")[2]) for line in lines if 'route="/healthz"' in line)
    assert counted >= 20


def test_the_access_log_names_the_request_and_not_the_person(data: str) -> None:
    environment = {"INVITREE_ACCESS_LOG": "1", "INVITREE_LOG_FORMAT": "json"}
    with service("--data-dir", data, "--workers", "1", env=environment) as running:
        url = f"{running.url}/api/referral_codes/get/alice@example.com/"
        answer = httpx.get(url, headers={"X-Request-Id": "my-own-name"})
        assert answer.headers["x-request-id"] == "my-own-name"
        assert answer.json()["trace_id"] == "my-own-name"
    assert '"trace_id": "my-own-name"' in running.output
    assert "alice@example.com" not in running.output


def test_two_services_never_share_a_port(tmp_path: Path) -> None:
    port = free_port()
    both = [Service("--data-dir", str(tmp_path / name), "--workers", "1", port=port) for name in ("one", "two")]
    refused = [one for one in both if not _is_serving(one)]
    for one in both:
        if one.process.poll() is None:
            one.stop()
    assert [f"port {port} on 127.0.0.1 is taken" in one.output for one in refused] == [True]


def test_a_host_name_is_as_good_as_an_address(data: str) -> None:
    with service("--data-dir", data, "--workers", "1", "--host", "localhost") as running:
        assert "is ready" in running.output


def test_ctrl_c_in_a_terminal_ends_everything_in_order(data: str) -> None:
    with service("--data-dir", data, "--workers", "2") as running:
        os.killpg(running.process.pid, signal.SIGINT)  # a terminal signals the whole group
        assert running.process.wait(60) == 0
    assert "Stopped." in running.output
    assert "refused to gracefully stop" not in running.output


def test_a_signal_that_comes_while_a_web_process_is_replaced_is_not_lost() -> None:
    server: Any = Server("nowhere:nothing", interface=Interfaces.ASGI, respawn_failed_workers=True)
    server.main_loop_interrupt = StickyInterrupt(server)

    class Told(dict[int, float]):
        def clear(self) -> None:  # the loop's last step before it clears the event
            server.signal_handler_interrupt()

    server.respawned_wrks = Told()
    server._respawn_workers = lambda *_: None
    server.interrupt_children.append(0)
    server.main_loop_interrupt.set()
    loop = threading.Thread(target=server._serve_loop, args=(None, None), daemon=True)
    loop.start()
    loop.join(10)
    assert not loop.is_alive()


def test_a_head_request_gets_the_head(data: str) -> None:
    with service("--data-dir", data, "--workers", "1") as running:
        answer = httpx.head(f"{running.url}/healthz")
        assert (answer.status_code, answer.content) == (200, b"")
        assert answer.headers["content-length"] == str(len(httpx.get(f"{running.url}/healthz").content))


def _log_in(running: Service) -> str:
    body = {"email": ALICE["email"], "password": PASSWORD}
    token: str = httpx.post(f"{running.url}/auth/token/login/", json=body).json()["auth_token"]
    return token


def _me(running: Service, token: str) -> httpx.Response:
    return httpx.get(f"{running.url}/auth/users/me/", headers={"Authorization": f"Token {token}"})


def _is_serving(running: Service) -> bool:
    try:
        running.wait_until_ready()
    except AssertionError:
        return False
    return True


def _workers(running: Service) -> list[psutil.Process]:
    children = psutil.Process(running.process.pid).children()
    return [child for child in children if "postgres" not in child.cmdline()[0] and "worker" not in child.cmdline()]
