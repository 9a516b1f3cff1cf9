"""The variables and the home folder of others: what the database of one's own listens to, and the embedded one not."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.postmasters import only_root
from tests.process import run, service

# Each of these breaks or moves a connection that listens to it.
_VARIABLES = {
    "PGHOST": "192.0.2.1",
    "PGHOSTADDR": "192.0.2.1",
    "PGPORT": "1",
    "PGUSER": "nobody",
    "PGDATABASE": "nothing",
    "PGPASSFILE": "/nowhere",
    "PGSERVICE": "none",
    "PGSERVICEFILE": "/nowhere",
    "PGOPTIONS": "--no-such-option",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLROOTCERT": "/nowhere",
    "PGSSLCERT": "/nowhere",
    "PGSSLMINPROTOCOLVERSION": "none",
    "PGREQUIREAUTH": "none",
    "PGREQUIREPEER": "nobody",
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGGSSLIB": "none",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCONNECT_TIMEOUT": "none",
    "PGCLIENTENCODING": "none",
    "PGDATESTYLE": "none",
    "PGTZ": "none",
}


def test_the_embedded_database_listens_to_no_variable(tmp_path: Path) -> None:
    folder = ("--data-dir", str(tmp_path))
    with service(*folder, "--workers", "1", env=_VARIABLES) as running:
        assert "listener.lost" not in running.output
        assert "queue.lost" not in running.output
        done = run("verify", *folder, env=_VARIABLES)
        assert (done.returncode, done.stderr) == (0, "")
        done = run("backup", str(tmp_path / "file"), *folder, env=_VARIABLES)
        assert (done.returncode, done.stderr) == (0, "")
    done = run("restore", str(tmp_path / "file"), "--force", *folder, env=_VARIABLES)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("PGREQUIREAUTH", "scram-sha-256", "require_auth cannot be obeyed"),
        ("PGGSSENCMODE", "require", "gssencmode=require cannot be obeyed"),
        ("PGCHANNELBINDING", "require", "channel_binding=require needs sslmode=verify-full"),
        ("PGSSLMODE", "canary", "sslmode has a value that it cannot have"),
    ],
)
def test_a_variable_of_ones_own_database_that_cannot_be_obeyed_is_one_line(
    variable: str, value: str, expected: str
) -> None:
    done = run("migrate", env={"INVITREE_DATABASE_URL": "postgresql://u@127.0.0.1:1/d", variable: value})
    assert done.returncode == 1
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert "canary" not in done.stderr


_AS_NOBODY = """
import asyncio, os, sys
import asyncpg.connect_utils, encodings.idna, ssl
from invitree.kit.data.connections import connect
os.setgid(65534)
os.setuid(65534)
try:
    os.listdir(os.environ["HOME"])
except PermissionError:
    print("a closed home")
try:
    asyncio.run(connect(sys.argv[1], timeout=5))
except Exception as error:
    print(type(error).__name__)
"""


@only_root
@pytest.mark.parametrize("sslmode", ["prefer", "require"])
def test_a_home_folder_that_cannot_be_entered_is_an_empty_one(sslmode: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    url = f"postgresql://u@127.0.0.1:1/d?sslmode={sslmode}"
    command = [sys.executable, "-c", _AS_NOBODY, url]
    done = subprocess.run(command, env={"HOME": str(tmp_path)}, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["a closed home", "ConnectionRefusedError", ""]
