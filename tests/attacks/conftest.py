"""The service as it is run, on the module's database and with its secret: who is made by `cast` is known to it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SECRET
from tests.process import Service, service


@pytest.fixture(scope="module")
def outbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service writes its mail."""
    return tmp_path_factory.mktemp("service") / "outbox"


@pytest.fixture(scope="module")
def running(database_url: str, outbox: Path) -> Iterator[Service]:
    """A service of one web process, which logs every request and finds nothing wrong with itself."""
    environment = {
        "INVITREE_DATABASE_URL": database_url,
        "INVITREE_DATA_DIR": str(outbox.parent),
        "INVITREE_SECRET_KEY": SECRET,
        "INVITREE_WORKERS": "1",
        "INVITREE_ACCESS_LOG": "true",
        "INVITREE_LOG_FORMAT": "json",
        "INVITREE_THROTTLE": "off",
    }
    with service(env=environment) as started:
        yield started
    assert "request.failed" not in started.output
    assert "Traceback" not in started.output
