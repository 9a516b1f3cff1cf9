"""The whole flow by mail, against the service as it is run: sign up, confirm, log in, forget, reset."""

import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest

from tests.postbox import Link, link_in
from tests.process import Service, run, service

PASSWORD, NEXT_PASSWORD = "canary horse battery staple", "canary staple battery horse"
_PATIENCE_S = 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose program asks for confirmed addresses."""
    folder = tmp_path_factory.mktemp("data")
    folder.chmod(0o711)
    done = run("program", "set", "--activation", "required", "--data-dir", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Service]:
    """The service, logging every request."""
    environment = {"INVITREE_ACCESS_LOG": "true", "INVITREE_WORKERS": "1"}
    with service("--data-dir", str(folder), env=environment) as started:
        yield started


def newest_link(folder: Path, *, after: int) -> Link:
    """Return the link in the mail that follows so many."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        letters = sorted((folder / "outbox").glob("*.eml"))
        if len(letters) > after:
            letter = message_from_bytes(letters[-1].read_bytes(), policy=policy.default)
            assert isinstance(letter, EmailMessage)
            return link_in(letter)
        time.sleep(0.05)
    raise AssertionError("no mail came")


def test_a_newcomer_follows_the_links_and_nothing_secret_is_logged(running: Service, folder: Path) -> None:
    secrets = [PASSWORD, NEXT_PASSWORD]
    with httpx.Client(base_url=running.url, timeout=30) as client:
        body = {"email": "flow@example.com", "username": "flow", "password": PASSWORD}
        assert client.post("/auth/users/", json=body).status_code == 201
        login = {"email": body["email"], "password": PASSWORD}
        assert client.post("/auth/token/login/", json=login).status_code == 400
        confirm = newest_link(folder, after=0)
        assert confirm.task == "activate"
        assert client.post("/auth/users/activation/", json=confirm.body).status_code == 204
        token = client.post("/auth/token/login/", json=login).json()["auth_token"]
        signed = {"Authorization": f"Token {token}"}
        pair = client.post("/auth/jwt/create/", json=login).json()
        assert client.get("/auth/users/me/", headers=signed).status_code == 200
        assert client.post("/auth/users/reset_password/", json={"email": "FLOW@example.com"}).status_code == 204
        reset = newest_link(folder, after=1)
        chosen = {**reset.body, "new_password": NEXT_PASSWORD}
        assert client.post("/auth/users/reset_password_confirm/", json=chosen).status_code == 204
        assert client.get("/auth/users/me/", headers=signed).status_code == 401
        bearer = {"Authorization": f"Bearer {pair['access']}"}
        assert client.get("/auth/users/me/", headers=bearer).status_code == 401
        assert client.post("/auth/token/login/", json=login).status_code == 400
        assert client.post("/auth/token/login/", json={**login, "password": NEXT_PASSWORD}).status_code == 200
        secrets += [token, *pair.values(), confirm.token, reset.token]
    assert running.stop() == 0
    assert "route=/auth/users/reset_password_confirm" in running.output.replace('"', "").replace(": ", "=")
    logged = running.output + (folder / "postgres.log").read_text(encoding="utf-8")
    assert [secret for secret in secrets if secret in logged] == []
    assert "flow@example.com" not in logged.lower()


def test_production_mode_refuses_to_start_and_says_why(tmp_path: Path) -> None:
    refused = run("serve", "--data-dir", str(tmp_path), env={"INVITREE_PRODUCTION": "true"})
    assert refused.returncode == 1
    assert refused.stderr == "invitree: INVITREE_PUBLIC_URL must begin with https:// in production mode\n"
    assert list(tmp_path.iterdir()) == []


def test_the_operator_keeps_a_user_out_and_lets_one_in_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    ctx = ("--data-dir", str(tmp_path))
    made = run("user", "create", "--email", "out@example.com", "--username", "out", *ctx, stdin=f"{PASSWORD}\n")
    assert made.returncode == 0, made.stderr
    said = [run("user", verb, "OUT@example.com", *ctx).stdout for verb in ("deactivate", "deactivate", "reactivate")]
    assert said == [
        "The user is kept out.\n",
        "Nothing to do: the user is kept out already.\n",
        "The user can log in again.\n",
    ]
    unknown = run("user", "deactivate", "nobody@example.com", *ctx)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)
    assert "nobody@example.com" in unknown.stderr
