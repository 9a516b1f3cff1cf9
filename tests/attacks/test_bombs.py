"""Bodies that cost more than they weigh, or that two readers read differently: refused, and nothing is changed."""

import gzip
import json
import zlib
from collections.abc import Callable, Mapping

import httpx
import psutil
import pytest

from invitree.kit.context import AppContext
from tests.attacks.wire import request, send, statuses
from tests.auth.test_bad_bodies import OWN, answer_lists, headers_of
from tests.cast import Cast, Person, refused
from tests.operations import BODIES, Operation, address, filled
from tests.process import Service

LIMIT = 64 * 1024
HOST, JSON = "Host: invitree.test", "Content-Type: application/json"
every_route = pytest.mark.parametrize("route", BODIES, ids=str)
# Values that no field takes, of up to 64 KB.
VALUES = [
    "1e999999", "-1e999999", "1e-999999", "1e99999999999999999999", "9" * 60_000, "-" + "9" * 60_000,
    "0." + "0" * 60_000 + "1", "1" + "0" * 60_000 + "e-60000", "[" * 30_000 + "]" * 30_000,
    '{"":' * 12_000 + "1" + "}" * 12_000,
    '"' + "\\ud83d" * 10_000 + '"', "[" + '"",' * 20_000 + '""]', "{" + '"":0,' * 12_000 + '"":0}',
    "{" + ",".join(f'"{number}":0' for number in range(6_000)) + "}", "0x1", "Infinity", "-NaN", "01", "1_0", "\\u0031",
]  # fmt: skip
# How a good body is spelled so that only some would read it.
SPELLINGS: Mapping[str, Callable[[str], bytes]] = {
    "a byte order mark": lambda text: text.encode("utf-8-sig"),
    **{
        name: lambda text, name=name: text.encode(name)  # type: ignore[misc]
        for name in ("utf-16", "utf-16-le", "utf-32", "utf-32-be")
    },
    "NUL before": lambda text: b"\0" + text.encode(),
    "NUL after": lambda text: text.encode() + b"\0",
    "more after": lambda text: text.encode() + b"{}",
    "a comment": lambda text: text.encode() + b"/**/",
    "in an array": lambda text: b"[" + text.encode() + b"]",
    "100,000 deep": lambda text: b"[" * 100_000 + text.encode() + b"]" * 100_000,
    "a vertical tab": lambda text: b"\x0b" + text.encode(),
    "a space that is none": lambda text: "\u00a0".encode() + text.encode(),
}  # fmt: skip
BOMB = gzip.compress(b" " * 10_000_000)  # a body may follow it: gzip has members
CODINGS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "GZIP": bytes,
    "deflate": zlib.compress,
    "br": bytes,
    "x-gzip": gzip.compress,
    "gzip, identity": gzip.compress,
    "identity, gzip": bytes,
    "": bytes,
}


@pytest.fixture(scope="module")
async def alice(cast: Cast) -> Person:
    """Whose things the bodies are about."""
    return await cast.member()


async def ask(
    client: httpx.AsyncClient, alice: Person, route: Operation, body: bytes, **headers: str
) -> httpx.Response:
    """Send a body to a route."""
    sent = {**headers_of(alice, route), **headers}
    return await client.request(route.method, address(alice, route), content=body, headers=sent)


@every_route
async def test_values_that_no_field_takes_are_refused(
    client: httpx.AsyncClient, cast: Cast, alice: Person, route: Operation
) -> None:
    good = await filled(cast, alice, route)
    before = await cast.contents()
    for value in VALUES:
        for name in (*good, "x") if route.path in OWN else good:
            rest = json.dumps({other: text for other, text in good.items() if other != name})[1:-1]
            answer = await ask(client, alice, route, f'{{"{name}":{value}{"," * bool(rest)}{rest}}}'.encode())
            assert answer.status_code == 400, (name, value[:20], answer.text[:200])
            assert len(answer.content) < 1000
    assert await cast.contents() == before


@every_route
async def test_a_spelling_that_only_some_would_read_is_refused(
    client: httpx.AsyncClient, cast: Cast, alice: Person, route: Operation
) -> None:
    good = json.dumps(await filled(cast, alice, route))
    before = await cast.contents()
    for name, spell in SPELLINGS.items():
        body = spell(good)
        answer = await ask(client, alice, route, body)
        assert answer.status_code == (413 if len(body) > LIMIT else 400), name
        refused(answer, answer.status_code, answer.json()["code"], **answer_lists(answer))
    assert await cast.contents() == before


@every_route
async def test_a_field_that_is_given_twice_is_refused(
    client: httpx.AsyncClient, cast: Cast, alice: Person, route: Operation
) -> None:
    good = await filled(cast, alice, route)
    before = await cast.contents()
    text = json.dumps(good)[1:-1]
    for name, value in good.items():
        escaped = f"\\u{ord(name[0]):04x}{name[1:]}"
        for twin in (f'"{name}":{json.dumps(value)}', f'"{escaped}":{json.dumps(value)}', f'"{name}":null'):
            for body in (f"{{{twin},{text}}}", f"{{{text},{twin}}}"):
                answer = await ask(client, alice, route, body.encode())
                assert answer.status_code == 400, body
                assert list(answer_lists(answer)) == [name]
    answer = await ask(client, alice, route, f"{{{text},{text}}}".encode())
    refused(answer, 400, "invalid_input", **{next(iter(good)): ["This field is given twice."]})
    assert await cast.contents() == before


@every_route
async def test_a_body_that_says_to_be_encoded_is_refused(
    client: httpx.AsyncClient, cast: Cast, alice: Person, route: Operation
) -> None:
    good = json.dumps(await filled(cast, alice, route)).encode()
    before = await cast.contents()
    for name, encode in CODINGS.items():
        for body in {encode(good), good, BOMB + gzip.compress(good)}:
            answer = await ask(client, alice, route, body, **{"Content-Encoding": name})
            refused(answer, 415, "unsupported_media_type")
    assert await cast.contents() == before


async def test_a_body_that_says_not_to_be_encoded_is_taken(
    client: httpx.AsyncClient, cast: Cast, alice: Person
) -> None:
    route = next(route for route in BODIES if route.path == "/auth/jwt/verify/")
    good = json.dumps(await filled(cast, alice, route)).encode()
    assert (await ask(client, alice, route, good, **{"Content-Encoding": "identity"})).status_code == 200


def post(*headers: str, body: bytes) -> bytes:
    """Return a sign-up."""
    return request("POST /auth/users/", HOST, JSON, "Connection: close", *headers, body=body)


async def test_a_length_that_lies_does_nothing(running: Service, ctx: AppContext) -> None:
    body = b'{"email":"liar@example.com","username":"liar","password":"correct horse battery staple"}'
    for length in (0, 1, len(body) - 1):
        assert statuses(send(running, post(f"Content-Length: {length}", body=body))) == [400]
    for length in (LIMIT + 1, 10**9, 10**18):
        assert statuses(send(running, post(f"Content-Length: {length}", body=body))) == [413]
    for chunks in (b"11000\r\n" + b" " * 0x11000 + b"\r\n0\r\n\r\n", b"1\r\n \r\n" * (LIMIT + 1) + b"0\r\n\r\n"):
        assert statuses(send(running, post("Transfer-Encoding: chunked", body=chunks))) in ([413], [])
    assert await ctx.db.fetchval("SELECT count(*) FROM users WHERE username = 'liar'") == 0


async def test_a_client_that_stops_midway_does_nothing(running: Service, ctx: AppContext) -> None:
    """The fixture looks whether the service took it for an error of its own."""
    body = b'{"email":"quitter@example.com","username":"quitter","password":"correct horse battery staple"}'
    for framing in (f"Content-Length: {len(body) + 1}", "Transfer-Encoding: chunked"):
        chunked = b"%x\r\n%s\r\n" % (len(body), body) if "chunked" in framing else body
        assert statuses(send(running, post(framing, body=chunked), stop=True)) in ([400], [])
    assert await ctx.db.fetchval("SELECT count(*) FROM users WHERE username = 'quitter'") == 0


async def test_bombs_leave_no_crater(running: Service) -> None:
    """What the web process has needed at most does not grow with them."""
    [web] = [child for child in psutil.Process(running.process.pid).children() if "worker" not in child.cmdline()]

    def throw() -> int:
        with httpx.Client(base_url=running.url, timeout=60) as client:
            for value in VALUES:
                body = f'{{"email":"a@example.com","password":{value}}}'.encode()
                answer = client.post("/auth/token/login/", content=body, headers={"Content-Type": "application/json"})
                assert answer.status_code == 400
        return int(web.memory_info().rss)

    first = throw()
    assert max(throw() for _ in range(10)) < first + 32_000_000
