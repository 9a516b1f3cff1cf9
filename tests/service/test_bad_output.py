"""The service with a log that cannot be written: it serves and sends mail all the same."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from bench.servers import free_port
from tests.process import INVITREE
from tests.waiting import await_true

PERSON = {"email": "anna@example.com", "username": "anna", "password": "correct horse battery staple"}
TOKEN = {"Authorization": "Bearer let me see"}


@contextmanager
def full_pipe() -> Iterator[int]:
    """The end to write into of a pipe that is full and that nobody reads."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b"x")
    os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


@contextmanager
def dead_pipe() -> Iterator[int]:
    """The end to write into of a pipe whose reader has gone, as `head` does."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextmanager
def serving(data: Path, redirected: str, output: int) -> Iterator[str]:
    """Run the service with its output where a shell's words lead it; yield its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    command = [INVITREE, "serve", "--port", url.rpartition(":")[2], "--workers", "1", "--data-dir", str(data)]
    environment = {**os.environ, "INVITREE_ACCESS_LOG": "1", "INVITREE_METRICS_TOKEN": "let me see"}
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *command], env=environment, stdout=output, stderr=output
    )
    try:
        await_true(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        yield url
        assert process.poll() is None
    finally:
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("redirected", "pipe", "drops"),
    [
        ("2>&- >&-", full_pipe, False),
        (">/dev/full 2>&1", full_pipe, True),
        ("", full_pipe, True),
        ("", dead_pipe, True),
    ],
    ids=["closed", "full", "slow", "gone"],
)
def test_the_service_serves_and_sends_mail(
    tmp_path: Path, redirected: str, pipe: Callable[[], AbstractContextManager[int]], drops: bool
) -> None:
    tmp_path.chmod(0o755)
    with pipe() as output, serving(tmp_path / "data", redirected, output) as url:
        assert httpx.post(f"{url}/auth/users/", json=PERSON).status_code == 201
        asked = httpx.post(f"{url}/auth/users/reset_password/", json={"email": PERSON["email"]})
        assert asked.status_code == 204
        await_true(lambda: len(list(tmp_path.glob("data/outbox/*.eml"))) == 1)
        assert httpx.get(f"{url}/readyz").json() == {"status": "ok", "worker": "running"}
        metrics = httpx.get(f"{url}/metrics", headers=TOKEN).text
    [dropped] = re.findall(r"^invitree_log_lines_dropped_total (\S+)$", metrics, re.MULTILINE)
    assert (float(dropped) > 0) == drops
