"""Races need as many real connections as there are racers."""

import os

import pytest

from invitree.base.settings import Settings
from tests.conftest import SECRET

RACERS = 64
ROUNDS = int(os.environ.get("ROUNDS", "20"))


@pytest.fixture(scope="module")
def settings(database_url: str) -> Settings:
    """A process with a connection a racer."""
    return Settings(database_url=database_url, secret_key=SECRET, workers=1, pool_size=RACERS)


@pytest.fixture(params=range(ROUNDS))
def round_number(request: pytest.FixtureRequest) -> int:
    """Which round of the race this is."""
    number: int = request.param
    return number
