"""Requests as no client library sends them, on a real server: always an answer, never a 500, and it goes on serving."""

from collections.abc import Iterator

import httpx
import pytest

from tests.attacks.wire import send
from tests.process import Service, service


@pytest.fixture(scope="module")
def running(database_url: str) -> Iterator[Service]:
    """A service of one worker."""
    environment = {"INVITREE_DATABASE_URL": database_url, "INVITREE_SECRET_KEY": "x" * 40, "INVITREE_ACCESS_LOG": "1"}
    with service("--workers", "1", env=environment) as started:
        yield started
    assert "Traceback" not in started.output


def ask(running: Service, raw: bytes) -> bytes:
    """Send bytes and return the first line of what comes back, empty where the server just hangs up."""
    return send(running, raw, stop=True).partition(b"\r\n")[0]


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    """Return a request's bytes."""
    return b"\r\n".join([line, b"Host: invitree.test", b"Connection: close", *headers, b"", body])


JSON = b"Content-Type: application/json"
LOGIN = b"POST /auth/token/login/ HTTP/1.1"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (request(b"GET /api/referral_codes/check/%FF/ HTTP/1.1"), {200, 400, 404}),
        (request(b"GET /api/referral_codes/check/%00/ HTTP/1.1"), {200, 400, 404}),
        (request(b"GET /api/referral_codes/check/%2F%2F/ HTTP/1.1"), {200, 400, 404}),
        (request(b"GET /api/referral_codes/check/%/ HTTP/1.1"), {200, 400, 404}),
        (request(b"GET /api/referral_codes/get/%FF%FE@x.com/ HTTP/1.1"), {401}),
        (request(b"GET /api/users/%FF/ HTTP/1.1"), {401, 404}),
        (request(b"GET /healthz?%FF=%FF&&&=;%00 HTTP/1.1"), {200}),
        (request(b"GET //healthz// HTTP/1.1"), {200, 404}),
        (request(b"GET http://elsewhere.test/healthz HTTP/1.1"), {200, 404}),
        (request(b"GET /../../etc/passwd HTTP/1.1"), {404}),
        (request(b"GET /docs/assets/..%2F..%2Fpyproject.toml HTTP/1.1"), {404}),
        (request(b"BREW /healthz HTTP/1.1"), {404, 405}),
        (request(b"GET /auth/users/me/ HTTP/1.1", b"Authorization: Token \xff\xfe"), {401}),
        (request(b"GET /healthz HTTP/1.1", b"Accept-Language: \xff\xff;q=nan"), {200}),
        (request(b"GET /nope HTTP/1.1", b"Accept-Language: \xff\xff;q=nan, ru;q=9"), {404}),
        (request(b"GET /nope HTTP/1.1", b"X-Request-Id: " + b"x" * 3000), {404}),
        (request(LOGIN, JSON, b"Content-Length: 2", body=b"\xff\xfe"), {400}),
        (request(LOGIN, JSON, b"Content-Length: -1"), {400}),
        (request(LOGIN, JSON, b"Content-Length: 999999999", body=b"{}"), {400, 413}),
        (
            request(LOGIN, JSON, b"Transfer-Encoding: chunked", body=b"11000\r\n" + b"x" * 69632 + b"\r\n0\r\n\r\n"),
            {413},
        ),
        (request(LOGIN, b"Content-Type: \xff", b"Content-Length: 2", body=b"{}"), {400, 415}),
        (request(LOGIN, b"Content-Type: application/json; charset=utf-16", b"Content-Length: 2", body=b"{}"), {400}),
    ],
    ids=lambda value: value.partition(b"\r\n")[0].decode("latin-1") if isinstance(value, bytes) else "",
)
def test_raw_requests_never_get_500(running: Service, raw: bytes, expected: set[int]) -> None:
    status = ask(running, raw)
    if status:  # a request that is not HTTP may be cut off
        assert int(status.split()[1]) in expected, status
    assert httpx.get(f"{running.url}/healthz").status_code == 200


@pytest.mark.parametrize(
    "raw",
    [b"\x00" * 100, b"GET", b"\r\n" * 50, b"\x16\x03\x01\x02\x00\x01\x00", b"GET / HTTP/9.9\r\n\r\n"],
    ids=["zeros", "a word", "empty lines", "TLS", "HTTP/9.9"],
)
def test_connections_that_do_not_speak_http_are_closed(running: Service, raw: bytes) -> None:
    status = ask(running, raw)
    assert not status or int(status.split()[1]) < 500
    assert httpx.get(f"{running.url}/healthz").status_code == 200
