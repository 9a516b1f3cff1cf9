"""bench/: the benchmark runs, at the smallest sizes. It times nothing here."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.data import Sizes
from bench.paths import PATHS
from tests.process import service

ROOT = Path(__file__).parents[2]
SIZES = Sizes(people=30, referrals=200)
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


BRIEFLY = ("--seconds", "1", "--turns", "1", "--connections", "4")


def bench(*args: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the benchmark to its end."""
    command = [sys.executable, "-m", "bench", *args]
    environment = {**os.environ, **({"PATH": path} if path is not None else {})}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def on(database_url: str, folder: Path) -> dict[str, str]:
    """Return the environment of a service on this database."""
    return {"INVITREE_DATABASE_URL": database_url, "INVITREE_DATA_DIR": str(folder)}


@needs_wrk
def test_every_path_is_measured_beside_its_floor() -> None:
    done = bench(*BRIEFLY, "--people", str(SIZES.people), "--referrals", str(SIZES.referrals), "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["sizes"] == {"people": SIZES.people, "referrals": SIZES.referrals}
    assert [row["path"] for row in report["rows"]] == [path.name for path in PATHS]
    for row in report["rows"]:
        for measured in ("rate", "p50_ms", "p99_ms", "floor_rate", "ratio", "memory_mib"):
            assert row[measured] > 0, row
        assert (row["reads_p99_ms"] is None) == (row["path"] not in ("login", "register", "mixed"))


@needs_wrk
@pytest.mark.parametrize("routes", ["seed", "invitree"])
def test_another_server_can_be_measured(routes: str, database_url: str, tmp_path: Path) -> None:
    environment = {**on(database_url, tmp_path), "INVITREE_THROTTLE": "off"}
    with service("--workers", "1", "--no-worker", env=environment) as running:
        done = bench(
            *BRIEFLY,
            *("--url", running.url, "--routes", routes, "--people", "12"),
            "--only",
            "lookup-hot",
            "create-delete",
        )
    assert done.returncode == 0, done.stderr
    rows = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows[1:] == ["lookup-hot", "create-delete"]
    assert "floor" not in done.stdout


@needs_wrk
def test_memory_is_watched_through_a_long_load() -> None:
    done = bench("soak", "--people", "200", "--referrals", "200", "--seconds", "4", "--connections", "4")
    assert done.returncode == 0, done.stderr
    soaked = json.loads(done.stdout)
    assert soaked["requests"] > 0
    assert len(soaked["mib"]) == 10
    assert min(soaked["mib"]) > 10


def test_a_path_that_there_is_not_is_refused() -> None:
    done = bench("--only", "lookup-hottest")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("lookup-hottest: there is only lookup-cold, lookup-hot,")


@needs_wrk
def test_refusals_are_an_error_and_not_a_rate(database_url: str, tmp_path: Path) -> None:
    with service("--workers", "1", "--no-worker", env=on(database_url, tmp_path)) as running:  # it limits sign-ups
        done = bench(*BRIEFLY, "--url", running.url, "--people", "90", "--only", "lookup-hot")
    assert (done.returncode, done.stdout) == (1, "")
    assert "429" in done.stderr.splitlines()[-1]


def test_the_lack_of_wrk_is_one_line_that_says_how_to_get_it(tmp_path: Path) -> None:
    done = bench(path=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "apt-get install wrk" in done.stderr
