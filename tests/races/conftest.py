"""Races need as many real connections as there are racers."""

import asyncio
import os
from collections.abc import Iterator

import pytest
from msgspec import structs

from invitree.base.settings import Settings
from invitree.kit.context import AppContext
from invitree.kit.data import pool
from invitree.kit.secrets import passwords
from tests.races.stage import AtOnce, ready

RACERS = 64
ROUNDS = int(os.environ.get("ROUNDS", "4"))


@pytest.fixture(scope="module")
def unhurried() -> Iterator[None]:
    """Let 64 requests wait for a hash and a connection, for as long as it takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_QUEUE_PER_THREAD", RACERS)  # whatever the number of cores
        patch.setattr(pool, "_MAX_WAIT_S", 60.0)
        yield


@pytest.fixture(scope="module")
def settings(settings: Settings, unhurried: None) -> Settings:
    """A process with a connection a racer."""
    return structs.replace(settings, pool_size=RACERS)


@pytest.fixture(scope="module")
async def ctx(ctx: AppContext) -> AppContext:
    """What the process has open, all its connections among it."""
    await ready(ctx, RACERS)
    return ctx


@pytest.fixture
def racers() -> int:
    """How many there are."""
    return RACERS


@pytest.fixture
def at_once() -> AtOnce:
    """What begins a race."""
    return asyncio.gather


@pytest.fixture(params=range(ROUNDS))
def round_number(request: pytest.FixtureRequest) -> int:
    """Which round of the race this is."""
    number: int = request.param
    return number
