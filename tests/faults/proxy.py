"""A wire between the service and its database that is as bad as a network can be."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_AT_ONCE = 65536
_RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)  # SO_LINGER, for no time


class Proxy:
    """Passes bytes on, `delay_s` later, while `is_open`; what comes meanwhile comes through afterwards, as with TCP."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.url = ""
        self._writers: set[asyncio.StreamWriter] = set()

    def reset(self) -> int:
        """Reset all connections on both sides, whatever they are in the middle of; return how many."""
        for writer in self._writers:
            linger = _RESET_WHEN_CLOSED
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        return len(self._writers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        """Carry one connection to the database's socket."""
        there, back = await asyncio.open_unix_connection(path)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        finally:
            self._writers -= {writer, back}

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while some := await reader.read(_AT_ONCE):
                await asyncio.sleep(self.delay_s)
                await self.is_open.wait()
                writer.write(some)
                await writer.drain()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def proxy(url: str) -> AsyncIterator[Proxy]:
    """Run a proxy for the database whose socket `url` names."""
    (folder,), (port,) = (parse_qs(urlsplit(url).query)[name] for name in ("host", "port"))
    made, tasks = Proxy(), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(made.serve(reader, writer, str(Path(folder, f".s.PGSQL.{port}"))))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1")
    made.url = f"postgresql://invitree@127.0.0.1:{server.sockets[0].getsockname()[1]}/invitree"
    try:
        yield made
    finally:
        server.close()
        made.is_open.set()
        made.reset()
        await asyncio.gather(*tasks, return_exceptions=True)
