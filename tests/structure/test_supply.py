"""What the service is made of: locked with hashes, written down, and asked about."""

import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import invitree

ROOT = Path(__file__).parents[2]
LOCK = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
VENV = Path(sys.prefix)
# Whatever would go over the network fails; and a make that runs the tests has nothing to say to the ones run here.
OFFLINE = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")} | {"UV_OFFLINE": "1"}


def test_everything_is_locked_with_hashes_from_the_public_index() -> None:
    [ours] = [package for package in LOCK["package"] if package["source"] == {"editable": "."}]
    assert ours["name"] == "invitree"
    for package in LOCK["package"]:
        if package is ours:
            continue
        assert package["source"] == {"registry": "https://pypi.org/simple"}, package["name"]
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files, package["name"]
        for file in files:
            assert file["url"].startswith("https://files.pythonhosted.org/packages/")
            assert file["hash"].startswith("sha256:")
            assert len(file["hash"]) == len("sha256:") + 64


def test_the_project_is_built_by_what_is_in_uv_itself() -> None:
    [needed] = PROJECT["build-system"]["requires"]
    assert needed.startswith("uv_build>=")
    done = subprocess.run([VENV / "bin/uv", "--version"], capture_output=True, text=True, check=True)
    version = tuple(int(part) for part in done.stdout.split()[1].split("."))
    below = tuple(int(part) for part in needed.partition("<")[2].split("."))
    assert version < below, "raise the limit, or it is fetched without a hash"


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["project"]["version"] == invitree.__version__


def make(verb: str, *settings: str) -> "subprocess.CompletedProcess[str]":
    """Run a verb of the Makefile without a network, taking what is installed as it is."""
    venv = os.path.relpath(VENV, ROOT)  # to make, a space in a path parts two
    command = ["make", f"VENV={venv}", f"--assume-old={venv}/.installed", verb, *settings]
    return subprocess.run(command, cwd=ROOT, env=OFFLINE, capture_output=True, text=True)


def test_the_bill_of_materials_names_what_is_installed_with_hashes(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    done = make("sbom", f"SBOM={file}")
    assert (done.returncode, done.stdout) == (0, f"{file}\n"), done.stderr
    bill = json.loads(file.read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["component"]["version"] == invitree.__version__
    listed = {component["name"]: component for component in bill["components"]}
    locked = {package["name"]: package for package in LOCK["package"]}
    needed: set[str] = set()
    todo = [locked["invitree"]]
    while todo:
        names = {it["name"] for it in todo.pop().get("dependencies", ())} - needed
        needed |= names
        todo += [locked[name] for name in names]
    assert set(listed) == needed
    assert not {"pytest", "ruff", "mypy"} & set(listed)
    for name, component in listed.items():
        assert component["purl"] == f"pkg:pypi/{name}@{locked[name]['version']}"
        assert all(file["hashes"][0]["alg"] == "SHA-256" for file in component["externalReferences"])


class Advisories(BaseHTTPRequestHandler):
    """A database of advisories that knows something about as many packages as it is told."""

    bad: frozenset[str] = frozenset()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = {"vulns": [{"id": "PYSEC-2026-1", "modified": "2026-01-01T00:00:00Z"}]}
        self._answer({"results": [known if it["package"]["name"] in self.bad else {} for it in asked["queries"]]})

    def do_GET(self) -> None:
        self._answer({"id": "PYSEC-2026-1", "modified": "2026-01-01T00:00:00Z", "summary": "It leaks.", "affected": []})

    def _answer(self, body: Mapping[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def advisories() -> Iterator[str]:
    """The URL of such a database on this machine."""
    server = HTTPServer(("127.0.0.1", 0), Advisories)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def audit(url: str) -> "subprocess.CompletedProcess[str]":
    """Ask a database of advisories on this machine."""
    command = [sys.executable, "tools/audit.py", str(VENV / "bin/uv"), "--service-url", url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_an_audit_names_what_is_known(advisories: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = audit(advisories)
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr(Advisories, "bad", frozenset(["granian"]))
    done = audit(advisories)
    assert done.returncode == 1, done.stderr
    assert "granian" in done.stdout
    assert "PYSEC-2026-1" in done.stdout


def test_an_audit_that_reaches_nobody_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    done = audit("http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Nothing was audited: ")
    assert done.stderr.count("\n") == 1
    offline = make("audit")
    assert offline.returncode == 2
    assert offline.stderr.startswith("Nothing was audited: ")


def test_the_installer_refuses_a_uv_that_is_not_the_locked_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("install", ROOT / "tools/install.py")
    assert spec is not None
    assert spec.loader is not None
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    monkeypatch.setattr(install.urllib.request, "urlopen", lambda *_, **__: io.BytesIO(b"another uv"))
    with pytest.raises(SystemExit, match=r"is not what uv\.lock expects"):
        install._fetch_uv(tmp_path / "uv")
    assert not (tmp_path / "uv").exists()
