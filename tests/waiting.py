"""Waiting for what comes to hold by itself, where there is no event for it: as long as a slow machine may need."""

import asyncio
import inspect
import time
from collections.abc import Callable

import httpx

_PATIENCE_S = 60
_PAUSE_S = 0.01


async def eventually(holds: Callable[[], object]) -> None:
    """Wait until something is true, or what it awaits is."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            found = holds()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(_PAUSE_S)


def await_true(holds: Callable[[], object]) -> None:
    """Wait until something is true; it is not where a server that it asks does not answer."""
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except httpx.TransportError:
            pass
        time.sleep(_PAUSE_S)
    raise AssertionError("it never came to hold")
