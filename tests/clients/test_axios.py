"""axios with a refresh interceptor, as front ends have it; forms too. Needs node, and axios where NODE_PATH says."""

import json
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from invitree.kit.secrets.keys import Keyring
from tests.conftest import SECRET
from tests.djoser.requests import claims_in
from tests.process import service

SCRIPT = Path(__file__).with_name("axios.cjs")
LOGIN = {"username": "alice", "password": "correct horse battery staple"}
ALICE = {**LOGIN, "email": "alice@example.com"}


def _has_axios() -> bool:
    node = shutil.which("node")
    return node is not None and subprocess.run([node, "-e", "require('axios')"], capture_output=True).returncode == 0


@pytest.mark.skipif(not _has_axios(), reason="there is no node, or no axios in its NODE_PATH")
def test_axios_refreshes_once_logs_out_once_and_posts_forms(database_url: str, tmp_path: Path) -> None:
    env = {"INVITREE_DATABASE_URL": database_url, "INVITREE_SECRET_KEY": SECRET, "INVITREE_WORKERS": "1"}
    with service("--data-dir", str(tmp_path), "--no-worker", env=env) as running:
        httpx.post(f"{running.url}/auth/users/", json=ALICE).raise_for_status()
        pair = httpx.post(f"{running.url}/auth/jwt/create/", json=LOGIN).raise_for_status().json()
        command = ["node", str(SCRIPT), running.url, _an_hour_later(pair["access"]), pair["refresh"]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "together": [200, 200, 200, 200, 200],
        "afterwards": "alice",
        "afterRefreshing": 1,
        "ended": [401, 401, 401],
        "wrong": 401,
        "refreshes": 2,
        "loggedOut": 1,
        "forms": [201, 201, 200, 200, 201, 200],
    }


def _an_hour_later(access: str) -> str:
    """Return an access token as it would be an hour after it was given out: expired."""
    claims = claims_in(access)
    return Keyring([SECRET]).sign({**claims, "iat": claims["iat"] - 3600, "exp": claims["exp"] - 3600})
