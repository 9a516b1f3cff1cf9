"""A request that is hidden in the body of another is never seen, however somebody in front of the service reads it."""

from collections.abc import Callable, Mapping
from itertools import count

import httpx
import pytest

from tests.attacks.wire import request, send, statuses
from tests.process import Service
from tests.waiting import eventually

HOST, JSON = "Host: invitree.test", "Content-Type: application/json"
LAST = request("GET /healthz", HOST, "Connection: close")
_numbers = count(1)
Shape = Callable[[bytes], bytes]
"""What hides a request."""


def post(*headers: str, body: bytes = b"") -> bytes:
    """Return a request whose body is framed by these headers."""
    return request("POST /auth/token/login/", HOST, JSON, *headers, body=body)


def chunk(body: bytes, *, size: str = "{:x}", end: bytes = b"\r\n") -> bytes:
    """Return a body of one chunk."""
    return size.format(len(body)).encode() + end + body + end + b"0" + end + end


def whole(transfer_encoding: str) -> Shape:
    """Hide by Content-Length what comes after the last chunk."""
    return lambda hidden: post(f"Content-Length: {5 + len(hidden)}", transfer_encoding, body=b"0\r\n\r\n" + hidden)


def within(transfer_encoding: str) -> Shape:
    """Hide in a chunk what comes after the end by Content-Length."""
    return lambda hidden: post("Content-Length: 4", transfer_encoding, body=chunk(hidden))


def length(spelled: str) -> Shape:
    """Hide by a Content-Length that is spelled like this."""
    return lambda hidden: post(f"Content-Length: {spelled.format(len(hidden))}", body=hidden)


def chunked(make: Shape) -> Shape:
    """Hide in chunks."""
    return lambda hidden: post("Transfer-Encoding: chunked", body=make(hidden))


def unread(line: str, *headers: str) -> Shape:
    """Hide in a body that nobody reads."""
    return lambda hidden: request(line, HOST, *headers, f"Content-Length: {len(hidden)}", body=hidden)


ENCODINGS = [
    *(f"Transfer-Encoding: {value}" for value in (
        "chunked", "CHUNKED", "xchunked", "identity", "chunked, identity", "identity, chunked", ",chunked", '"chunked"',
        "chunked;x=1", "\tchunked", "\x0bchunked", "chunked\x0b", "\r\n chunked", "chunked\r\nTransfer-Encoding: x",
        "x\r\nTransfer-Encoding: chunked", "\x00chunked", "chunked\x00",
    )),
    "Transfer-Encoding : chunked", "Transfer-Encoding\n : chunked", "Transfer-Encoding\x00: chunked",
    " Transfer-Encoding: chunked", "X: x\nTransfer-Encoding: chunked", "X: x\rTransfer-Encoding: chunked",
]  # fmt: skip
LENGTHS = ["+{}", "-{}", " {} ", "0x{:x}", "{}, 0", "0, {}", "{0},{0}", "{}.0", "1e2", "0{}", "\x0b{}", "{}\x00", "²",
           "", "9" * 30, "18446744073709551617", "{}\r\nContent-Length: 0", "0\r\nContent-Length: {}",
           "{0}\r\nContent-Length: {0}", "\r\n {}"]  # fmt: skip
SHAPES: Mapping[str, Shape] = {
    **{f"after the chunks, {te!r}": whole(te) for te in ENCODINGS},
    **{f"in a chunk, {te!r}": within(te) for te in ENCODINGS if te.strip().startswith("Transfer-Encoding:")},
    "after the chunks, length last": lambda hidden: post(
        "Transfer-Encoding: chunked", f"Content-Length: {5 + len(hidden)}", body=b"0\r\n\r\n" + hidden
    ),
    "after the chunks, HTTP/1.0": lambda hidden: whole("Transfer-Encoding: chunked")(hidden).replace(b"1.1", b"1.0", 1),
    **{f"Content-Length: {spelled!r}": length(spelled) for spelled in LENGTHS},
    "Content-Length : a space before the colon": lambda hidden: post(f"Content-Length : {len(hidden)}", body=hidden),
    "Content-Length in a folded line": lambda hidden: post("X: x", f" Content-Length: {len(hidden)}", body=hidden),
    "Content-Length after a bare CR": lambda hidden: post(f"X: x\rContent-Length: {len(hidden)}", body=hidden),
    "bare LF": lambda hidden: post(f"Content-Length: {len(hidden)}").replace(b"\r\n", b"\n") + hidden,
    "a chunk extension": chunked(lambda hidden: chunk(hidden, size="{:x};a=b")),
    "a chunk extension with a bare LF": chunked(lambda hidden: chunk(hidden, size="{:x};a=\n")),
    "chunks with bare LF": chunked(lambda hidden: chunk(hidden, end=b"\n")),
    "chunks with bare CR": chunked(lambda hidden: chunk(hidden, end=b"\r")),
    "a chunk that is shorter than it is": chunked(lambda hidden: chunk(hidden, size="2")),
    "a chunk without a size": chunked(lambda hidden: chunk(hidden, size="")),
    "a chunk of 2^64 more": chunked(lambda hidden: chunk(hidden, size="1{:016x}")),
    **{
        f"a chunk of {size}": chunked(lambda hidden, size=size: chunk(hidden, size=size))  # type: ignore[misc]
        for size in ("0x{:x}", "+{:x}", "-{:x}", " {:x}", "{:x} ", "{:x}\t", "{}.", "_{:x}")
    },
    "a trailer": chunked(lambda hidden: b"0\r\nX: x\r\n" + hidden),
    "a body that nobody wants": unread("GET /healthz"),
    "a body of HEAD": unread("HEAD /healthz"),
    "a body for nothing": unread("POST /nope", JSON),
    "a body for another method": unread("POST /healthz", JSON),
    "a body of another type": unread("POST /auth/token/login/", "Content-Type: text/plain"),
    "a body that is waited with": unread("POST /auth/token/login/", JSON, "Expect: 100-continue"),
    "a body with an offer of HTTP/2": unread(
        "POST /auth/token/login/",
        JSON,
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABk",
    ),
    "a body that is too large": lambda hidden: post(
        "Content-Length: 100000", body=hidden + b" " * (100_000 - len(hidden))
    ),
}


async def seen(running: Service, shape: Shape) -> tuple[bool, list[int]]:
    """Return whether a hidden request has come to the application, and what was answered."""
    number = next(_numbers)
    hidden, marker = f"hidden-{number}", f"marker-{number}"
    answer = send(running, shape(request("GET /healthz", HOST, f"X-Request-Id: {hidden}")) + LAST)
    # Whatever came before this is in the log when this is: it is one process.
    httpx.get(f"{running.url}/healthz", headers={"X-Request-Id": marker})
    await eventually(lambda: marker in running.output)
    return hidden in running.output, statuses(answer)


@pytest.mark.parametrize("name", SHAPES)
async def test_request_smuggling_is_refused(running: Service, name: str) -> None:
    is_seen, answered = await seen(running, SHAPES[name])
    assert not is_seen
    assert all(status < 500 for status in answered), answered


async def test_the_smuggled_request_works_when_sent_openly(running: Service) -> None:
    assert await seen(running, lambda hidden: post("Content-Length: 2", body=b"{}") + hidden) == (True, [400, 200, 200])
