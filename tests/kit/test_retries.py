"""What is tried again and again while the database is away: how often it is tried, and how little is said of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from invitree.kit.clock import Clock
from invitree.kit.data import notifications as listen
from invitree.kit.data.notifications import Listener
from invitree.kit.web import cors
from invitree.kit.web.cors import Origins
from tests.waiting import eventually


class Refusing:
    """A server that hangs up on everybody."""

    def __init__(self) -> None:
        self.url = ""
        self.calls = 0

    async def answer(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        writer.close()


@pytest.fixture
async def refusing() -> AsyncIterator[Refusing]:
    """One that is open."""
    server = Refusing()
    async with await asyncio.start_server(server.answer, "127.0.0.1", 0) as opened:
        port = opened.sockets[0].getsockname()[1]
        server.url = f"postgresql://nobody@127.0.0.1:{port}/nothing?sslmode=disable"
        yield server


async def test_a_listener_that_cannot_connect_logs_it_once(refusing: Refusing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_MAX_DELAY_S", 0.001)
    listener = Listener(refusing.url, clock=Clock(), caches={}, handlers={}, on_connect=lambda: None)
    with capture_logs() as logged:
        await listener.start()
        await eventually(lambda: refusing.calls > 50)
        await listener.stop()
    assert [one["event"] for one in logged] == ["listener.lost"]


async def test_origins_that_cannot_be_read_are_logged_once_and_once_more_when_they_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cors, "_MAX_DELAY_S", 0.001)
    tries = 0

    async def read() -> list[str]:
        nonlocal tries
        tries += 1
        if tries <= 50:
            raise ConnectionRefusedError
        return ["https://app.example.com"]

    origins = Origins([], read=read)
    with capture_logs() as logged:
        await origins.start()
        origins.schedule_reload()
        await eventually(lambda: origins.known)
        await origins.stop()
    assert [(one["event"], one.get("over", False), one["times"]) for one in logged] == [
        ("origins.not_read", False, 1),
        ("origins.not_read", True, 50),
    ]
