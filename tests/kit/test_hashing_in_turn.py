"""The line for hashing is shared by networks in turn: none of them can fill it for the others."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from invitree.base.problems import Unavailable
from invitree.kit.secrets.passwords import Hasher

FLOOD, OTHER, THIRD = "192.0.2.1", "198.51.100.1", "203.0.113.1"


class Line:
    """A hasher with one thread, which is held up until `open`, and what it did in which order."""

    def __init__(self) -> None:
        self.hasher = Hasher(threads=1)
        self.done: list[str] = []
        self._gate = threading.Event()
        self._first = self.join("first", work=lambda: self._gate.wait(30))

    def join(self, lane: str, *, work: object = None) -> asyncio.Task[object]:
        """Send a request of a network."""
        return asyncio.create_task(self.hasher._run(lane, work or (lambda: self.done.append(lane))))  # type: ignore[arg-type]

    async def joined(self, lane: str, times: int = 1) -> list[asyncio.Task[object]]:
        """Send requests of a network, and return when they are in line, or refused."""
        tasks = [self.join(lane) for _ in range(times)]
        await settled()
        return tasks

    async def open(self) -> list[str]:
        """Let the thread go on, and return in which order the work was done."""
        self._gate.set()
        await self._first
        async with asyncio.timeout(10):
            while self.hasher._waiting or not self.hasher._free:  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(0.001)
        return self.done


async def settled() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def refused(tasks: list[asyncio.Task[object]]) -> int:
    """Return how many of these requests were refused."""
    return sum(task.done() and isinstance(task.exception(), Unavailable) for task in tasks)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    """A line that is empty, behind a thread that is busy."""
    line = Line()
    await settled()
    yield line
    await line.open()
    line.hasher.close()


async def test_networks_take_turns_however_many_requests_one_of_them_has_sent(line: Line) -> None:
    await line.joined(FLOOD, 10)
    await line.joined(OTHER, 2)
    await line.joined(THIRD)
    assert (await line.open())[:6] == [FLOOD, OTHER, THIRD, FLOOD, OTHER, FLOOD]


async def test_a_network_that_fills_the_line_is_refused_and_others_are_not(line: Line) -> None:
    flood = await line.joined(FLOOD, line.hasher.capacity + 5)
    assert refused(flood) == 5
    others = [task for lane in (OTHER, THIRD) for task in await line.joined(lane, 3)]
    assert refused(others) == 0
    assert [task.done() for task in flood[-11:]] == [True] * 11, "the newest of its requests made room"
    assert refused(flood) == 5 + 6
    assert line.hasher._waiting == line.hasher.capacity
    done = await line.open()
    assert (done.count(OTHER), done.count(THIRD)) == (3, 3)


async def test_a_full_line_of_many_small_lanes_refuses_whoever_comes_last(line: Line) -> None:
    lanes = [task for number in range(line.hasher.capacity) for task in await line.joined(f"lane {number}")]
    assert refused(await line.joined("one more")) == 1
    assert refused(lanes) == 0


async def test_a_full_line_refuses_both_hashing_and_checking(line: Line) -> None:
    await line.joined("", line.hasher.capacity)
    with pytest.raises(Unavailable):
        await line.hasher.hash("secret")
    with pytest.raises(Unavailable):
        await line.hasher.check(None, "secret")


async def test_a_request_that_is_cancelled_leaves_the_line(line: Line) -> None:
    flood = await line.joined(FLOOD, line.hasher.capacity)
    [other] = await line.joined(OTHER)
    for task in [*flood[:-1], other]:
        task.cancel()
    await settled()
    assert line.hasher._waiting == 0
    assert line.hasher._lanes == {}
    [late] = await line.joined(THIRD)
    assert await line.open() == [THIRD]
    await late


async def test_a_thread_is_free_when_its_work_is_done_and_not_when_its_request_is_cancelled(line: Line) -> None:
    line._first.cancel()
    await line.joined(OTHER)
    assert (line.hasher._free, line.hasher._waiting) == (0, 1)
    line._first = asyncio.create_task(asyncio.sleep(0))
    assert await line.open() == [OTHER]


async def test_an_error_reaches_whoever_asked_and_nobody_else(line: Line) -> None:
    failing = line.join(FLOOD, work=lambda: 1 / 0)
    await line.joined(OTHER)
    assert await line.open() == [OTHER]
    with pytest.raises(ZeroDivisionError):
        await failing
