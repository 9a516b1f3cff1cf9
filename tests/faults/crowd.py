"""More clients than a service can serve, who do not wait for each other, and clients who are slow or silent."""

import asyncio
import resource
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from tests.faults.load import NO_ANSWER, PATIENCE_S

Make = Callable[[], bytes]


class Seen(Struct, frozen=True):
    """What became of a request; the status is `NO_ANSWER` where there was none."""

    ended_at: float
    status: int
    says_when: bool


class Line(asyncio.Protocol):
    """A connection that carries one request after the other."""

    def __init__(self, crowd: "Crowd") -> None:
        self._crowd = crowd
        self._got, self._is_waiting = b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way out."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def ask(self, request: bytes) -> None:
        """Send a request."""
        self._got, self._is_waiting = b"", True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Look whether the answer is complete."""
        self._got += data
        head, end, body = self._got.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            self._is_waiting = False
            self._crowd.handlers(int(head[9:12]), says_when=b"\r\nretry-after: " in head.lower())
            self._crowd.is_free(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Know that there will be no answer."""
        if self._is_waiting:
            self._crowd.handlers(NO_ANSWER)
        self._crowd.has_lost(self)


class Crowd:
    """Clients with `most` connections, opened when they are needed."""

    def __init__(self, url: str, *, most: int) -> None:
        self.seen: list[Seen] = []
        self._sent = 0
        self._port, self._most = urlsplit(url).port or 0, most
        self._lines: set[Line] = set()
        self._idle: list[Line] = []
        self._queue: deque[bytes] = deque()
        self._opening: set[asyncio.Task[None]] = set()

    async def keep_busy(self, make: Make, *, seconds: float) -> list[Seen]:
        """Send the next request on each connection whenever one is answered; return what was in that time."""
        first, until = len(self.seen), time.monotonic() + seconds
        while time.monotonic() < until:
            while self._idle or len(self._lines) + len(self._opening) < self._most:
                self._send(make())
            await asyncio.sleep(0.001)
        answered = self.seen[first:]
        await self._hear_all()
        return answered

    async def press(self, make: Make, *, rate: float, seconds: float) -> list[Seen]:
        """Send so many requests a second, whatever becomes of them; return what did when all were answered."""
        first, began, sent = len(self.seen), time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            due = int(passed * rate) - sent
            for _ in range(due):
                self._send(make())
            sent += due
            await asyncio.sleep(0.001)
        await self._hear_all()
        return self.seen[first:]

    def handlers(self, status: int, *, says_when: bool = False) -> None:
        """Keep an answer."""
        self.seen.append(Seen(time.monotonic(), status, says_when))

    def is_free(self, line: Line) -> None:
        """Give a connection the request that has waited longest."""
        if self._queue:
            line.ask(self._queue.popleft())
        else:
            self._idle.append(line)

    def has_lost(self, line: Line) -> None:
        """Forget a connection."""
        self._lines.discard(line)
        if line in self._idle:
            self._idle.remove(line)

    def leave(self) -> None:
        """Close all connections."""
        for line in list(self._lines):
            line.transport.abort()

    def _send(self, request: bytes) -> None:
        self._sent += 1
        if self._idle:
            self._idle.pop().ask(request)
        elif len(self._lines) + len(self._opening) < self._most:
            task = asyncio.create_task(self._send_anew(request))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        else:
            self._queue.append(request)

    async def _send_anew(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        _, line = await loop.create_connection(lambda: Line(self), "127.0.0.1", self._port)
        self._lines.add(line)
        line.ask(request)

    async def _hear_all(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.seen) < self._sent:  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(0.01)


@asynccontextmanager
async def slow_clients(url: str, request: bytes, *, count: int, every_s: float) -> AsyncIterator[None]:
    """Have so many clients send a request byte by byte for the length of a block, half of them its body alone."""
    head = request.index(b"\r\n\r\n") + 4
    tasks = [asyncio.create_task(_dribble(url, request, number % 2 * head, every_s)) for number in range(count)]
    try:
        await asyncio.sleep(every_s)
        yield
        for task in tasks:
            assert not task.done() or task.result() is None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _dribble(url: str, request: bytes, at_once: int, every_s: float) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
    try:
        writer.write(request[:at_once])
        for byte in request[at_once:]:
            writer.write(bytes([byte]))
            await asyncio.sleep(every_s)
    except ConnectionError:
        pass  # who takes too long for the head is sent away
    finally:
        writer.transport.abort()


@asynccontextmanager
async def silent_clients(url: str, *, count: int) -> AsyncIterator[None]:
    """Have so many clients connected, who say nothing, for the length of a block."""
    port = urlsplit(url).port
    lines = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(count)))
    try:
        yield
    finally:
        for _, writer in lines:
            writer.transport.abort()


def as_bytes(method: str, path: str, headers: Mapping[str, str], body: Mapping[str, str] | None = None) -> bytes:
    """Return a request as it is sent."""
    sent = msgspec.json.encode(body).decode() if body else ""  # as httpx writes it
    told = {"Host": "127.0.0.1", "Content-Type": "application/json", "Content-Length": str(len(sent)), **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items()), "", sent]
    return "\r\n".join(lines).encode()


@contextmanager
def many_files() -> Iterator[None]:
    """Let this process have as many connections as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
