"""Requests byte by byte, on a connection of their own."""

import re
import socket
from contextlib import suppress

from tests.process import Service

_PATIENCE_S = 20


def send(running: Service, raw: bytes, *, stop: bool = False) -> bytes:
    """Send bytes and return all that comes back before the server hangs up, which it must do.

    With `stop`, it is told that there is nothing more to come.
    """
    host, _, port = running.url.removeprefix("http://").partition(":")
    answer = b""
    # A server that has seen enough resets the connection, perhaps before it has all.
    with socket.create_connection((host, int(port)), timeout=_PATIENCE_S) as connection, suppress(ConnectionError):
        connection.sendall(raw)
        if stop:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        while chunk := connection.recv(65536):
            answer += chunk
    return answer


def statuses(answer: bytes) -> list[int]:
    """Return the statuses in what a connection has answered, but for 100 (Continue)."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([2-5]\d\d)", answer)]


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request with exactly these headers."""
    return "\r\n".join([f"{line} HTTP/1.1", *headers, "", ""]).encode("latin-1") + body
