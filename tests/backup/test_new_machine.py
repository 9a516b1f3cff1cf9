"""The walk of an operator: a backup of the running service, and the service anew on another machine."""

from pathlib import Path

import httpx
import pytest

from tests.cast import in_days
from tests.kit.postmasters import processes
from tests.process import Service, run, service

LOGIN = {"email": "alice@example.com", "password": "correct horse battery staple"}
ALICE = {**LOGIN, "username": "alice"}


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of the service that was."""
    return tmp_path_factory.mktemp("old") / "data"


@pytest.fixture(scope="module")
def token(old: Path) -> str:
    """A token of Alice, who has a code; meanwhile a backup was made, and restoring it into the same data refused."""
    file = old.parent / "backup"
    with service("--data-dir", str(old), "--workers", "1") as running:
        assert httpx.post(f"{running.url}/auth/users/", json=ALICE).status_code == 201
        token: str = httpx.post(f"{running.url}/auth/token/login/", json=LOGIN).json()["auth_token"]
        made = httpx.post(
            f"{running.url}/api/referral_codes/create/",
            json={"expiration_date": in_days(30)},
            headers={"Authorization": f"Token {token}"},
        )
        assert made.status_code == 201
        done = run("backup", str(file), "--data-dir", str(old))
        assert done.returncode == 0, done.stderr
        assert str(old / "secret_key") in done.stdout
        refused = run("restore", str(file), "--force", "--data-dir", str(old))
        assert "the service or another command is using the database" in refused.stderr
        assert me(running, token) == 200
    return token


def me(running: Service, token: str) -> int:
    """Return the status with which somebody is told who they are."""
    return httpx.get(f"{running.url}/auth/users/me/", headers={"Authorization": f"Token {token}"}).status_code


def test_with_the_secret_key_everybody_goes_on(token: str, old: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    done = run("restore", str(old.parent / "backup"), "--data-dir", str(data))
    assert done.returncode == 0, done.stderr
    assert str(data / "secret_key") in done.stdout
    assert processes(data) == [], "the database outlives the command"
    (data / "secret_key").write_bytes((old / "secret_key").read_bytes())
    with service("--data-dir", str(data), "--workers", "1") as running:
        assert me(running, token) == 200
        url = f"{running.url}/api/referral_codes/get/{ALICE['email']}/"
        assert httpx.get(url, headers={"Authorization": f"Token {token}"}).status_code == 200


def test_without_the_secret_key_everybody_logs_in_again(token: str, old: Path, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    assert run("restore", str(old.parent / "backup"), "--data-dir", data).returncode == 0
    with service("--data-dir", data, "--workers", "1") as running:
        assert me(running, token) == 401
        assert httpx.post(f"{running.url}/auth/token/login/", json=LOGIN).status_code == 200


def test_a_stopped_service_is_backed_up_too_and_stays_stopped(token: str, old: Path, tmp_path: Path) -> None:
    done = run("backup", str(tmp_path / "file"), "--data-dir", str(old))
    assert done.returncode == 0, done.stderr
    assert processes(old) == []
    assert "--force replaces everything" in run("restore", str(tmp_path / "file"), "--data-dir", str(old)).stderr
    assert run("restore", str(tmp_path / "file"), "--force", "--data-dir", str(old)).returncode == 0
    with service("--data-dir", str(old), "--workers", "1") as running:
        assert me(running, token) == 200
