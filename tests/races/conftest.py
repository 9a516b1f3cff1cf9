"""Races need as many real connections as there are racers."""

import os

import pytest
from msgspec import structs

from invitree.base.settings import Settings

RACERS = 64
ROUNDS = int(os.environ.get("ROUNDS", "20"))


@pytest.fixture(scope="module")
def settings(settings: Settings) -> Settings:
    """A process with a connection a racer."""
    return structs.replace(settings, pool_size=RACERS)


@pytest.fixture(params=range(ROUNDS))
def round_number(request: pytest.FixtureRequest) -> int:
    """Which round of the race this is."""
    number: int = request.param
    return number
