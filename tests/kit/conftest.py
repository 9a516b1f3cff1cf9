"""Folders for embedded PostgreSQL servers."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from invitree.kit.embedded import embedded_postgres
from tests.kit.postmasters import FAST, kill_all


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may pass through (unlike tmp_path); what still runs below it dies at the end."""
    folder = Path(tempfile.mkdtemp(prefix="emb-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    kill_all(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="emb-", dir="/tmp"))
    folder.chmod(0o755)
    with embedded_postgres(folder / "data", settings=FAST):
        pass
    yield folder / "data"
    shutil.rmtree(folder)


@pytest.fixture
def data(made: Path) -> Iterator[Path]:
    """A data folder that was started before. The tests share it, a first start being slow, and leave it usable."""
    yield made
    kill_all(made)
