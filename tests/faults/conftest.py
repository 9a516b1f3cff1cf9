"""Faults: a few of each kind, or with FAULTS=full as many as `docs/safety.md` says."""

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from invitree.kit.postgres.embedded import embedded_postgres
from invitree.migrations.upgrade import upgrade
from tests.kit.postmasters import kill_all, processes

FULL = os.environ.get("FAULTS") == "full"
Tell = Callable[[str], None]


@pytest.fixture(scope="session")
def made() -> Iterator[Path]:
    """The folder of a PostgreSQL with a migrated database, which does not run."""
    with _folder() as folder:
        with embedded_postgres(folder / "data") as url:
            upgrade(url)
        yield folder / "data"


@pytest.fixture
def place(made: Path) -> Iterator[Path]:
    """A folder with a PostgreSQL of the test's own; what still runs below it dies at the end."""
    with _folder() as folder:
        subprocess.run(["cp", "-a", made, folder / "data"], check=True)
        yield folder
        if processes(folder):
            kill_all(folder)


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that every user may pass through, unlike tmp_path."""
    with tempfile.TemporaryDirectory(prefix="faults-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Tell:
    """What prints a line of figures, of the full numbers alone."""

    def say(figures: str) -> None:
        if FULL:
            with capsys.disabled():
                print(f"\n{request.node.name}: {figures}")

    return say
