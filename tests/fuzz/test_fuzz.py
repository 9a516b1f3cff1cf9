"""Schemathesis asks a running service every operation of its own document, in every way it knows, with every check."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.cast import PASSWORD, in_days
from tests.process import Service, run, service

SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))
CONFIG = Path(__file__).with_name("schemathesis.toml")
# What takes more than Schemathesis has: the secret out of a mail, a token out of another answer, the password that it
# must not use up, the same address twice, a program that asks for confirmed addresses; or a code that the same under
# another address has not deleted before.
NEVER_DONE = {
    "DELETE /auth/users/me",
    "DELETE /auth/users/{user_id}",
    "POST /auth/jwt/refresh",
    "POST /auth/jwt/verify",
    "POST /auth/users/activation",
    "POST /auth/users/resend_activation",
    "POST /auth/users/reset_password_confirm",
    "POST /auth/users/reset_username_confirm",
    "POST /auth/users/set_email",
    "POST /auth/users/set_email_confirm",
    "POST /auth/users/set_password",
    "DELETE /api/referral_codes/delete",
}
_PATIENCE_S = 900


def everything(document: dict[str, Any]) -> set[str]:
    """Return the operations of a document, as Schemathesis names them."""
    return {f"{method.upper()} {path}" for path, item in document["paths"].items() for method in item}


def settle(url: str) -> None:
    """Sign up the one who asks, with a code of somebody else's: ids 2 and 1."""
    with httpx.Client(base_url=url) as client:
        _sign_up(client, "ann")
        answer = client.post("/auth/jwt/create/", json={"username": "ann", "password": PASSWORD})
        headers = {"Authorization": f"Bearer {answer.json()['access']}"}
        answer = client.post("/api/referral_codes/", json={"expiration_date": in_days(300)}, headers=headers)
        _sign_up(client, "fuzz", referral_code=answer.json()["code"])


def _sign_up(client: httpx.Client, name: str, **more: str) -> None:
    body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD, **more}
    answer = client.post("/auth/users/", json=body)
    assert answer.status_code == 201, answer.text


def ask_everything(running: Service, folder: Path) -> dict[str, Any]:
    """Run Schemathesis and return its report."""
    config, report = folder / "schemathesis.toml", folder / "report.json"
    config.write_text(CONFIG.read_text(encoding="utf-8").replace("2027-06-30", in_days(100)), encoding="utf-8")
    command = [SCHEMATHESIS, "--config-file", str(config), "--no-color", "run", f"{running.url}/schema/openapi.json"]
    done = subprocess.run(
        [*command, "--report", "json", "--report-json-path", str(report)],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
    )
    assert done.returncode == 0, f"{done.stdout[-20_000:]}\n{done.stderr}"
    told: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return told


def test_every_answer_is_as_documented(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with service("--data-dir", data, "--workers", "1", env={"INVITREE_THROTTLE": "off"}) as running:
        settle(running.url)
        told = ask_everything(running, tmp_path)
        document = httpx.get(f"{running.url}/schema/openapi.json").json()
    assert told["complete"]
    assert (told["failures"], told["errors"], told["operations"]["skipped"]) == ([], [], 0)
    done = {name for name, phases in told["valid_rates"].items() if any(phase["accepted"] for phase in phases.values())}
    assert everything(document) - done <= NEVER_DONE
    assert "Traceback" not in running.output
    assert run("verify", "--data-dir", data).returncode == 0
