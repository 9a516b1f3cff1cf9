"""Bodies that no route can take: each gets its problem, never a 500, and nothing is changed."""

import json
from typing import Any

import httpx
import pytest

from tests.cast import Cast, Person, refused
from tests.operations import BODIES, Operation, address, filled

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
VERIFY = next(route for route in BODIES if route.path == "/auth/jwt/verify/")
every_route = pytest.mark.parametrize("route", BODIES, ids=str)


@pytest.fixture(scope="module")
async def alice(cast: Cast) -> Person:
    return await cast.member()


def headers_of(alice: Person, route: Operation, content_type: str = JSON) -> dict[str, str]:
    return {"Content-Type": content_type, **(alice.headers if route.needs_token else {})}


MALFORMED: dict[str, bytes] = {
    "blank": b"  \n ",
    "cut": b'{"email": "a',
    "two": b"{}{}",
    "trailing comma": b'{"email":"a",}',
    "single quotes": b"{'email':'a'}",
    "comment": b"{}//",
    "not a number": b'{"email":NaN}',
    "not utf-8": b'{"email":"\xff"}',
    "utf-16": '{"email":"a"}'.encode("utf-16"),
    "byte order mark": b"\xef\xbb\xbf{}",
    "surrogate in utf-8": b'{"email":"\xed\xa0\x80"}',
    "bare nul": b"\0",
    "nul after": b"{}\0",
    "control character": b'{"email":"\x01"}',
    "form": b"email=a&password=b",
    "html": b"<html>",
    "deep arrays": b"[" * 60_000,
    "deep objects": b'{"a":' * 10_000,
    "deep in a field": b'{"email":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "deep unknown": b'{"x":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
}
NO_OBJECT = [b"null", b"true", b"[]", b"1", b"1e400", b'"text"', b"[{}]", b"-0", b"9" * 5000]


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_json_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(VERIFY.path, content=body, headers={"Content-Type": JSON})
    problem = answer.json()
    assert problem["code"] in ("malformed_json", "invalid_input"), answer.text
    refused(answer, 400, problem["code"], **answer_lists(answer))


@pytest.mark.parametrize("body", NO_OBJECT)
async def test_json_that_is_no_object_is_400(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post(VERIFY.path, content=body, headers={"Content-Type": JSON})
    if b"e400" in body or len(body) > 1000:
        assert answer.status_code == 400
    else:
        refused(answer, 400, "invalid_input", non_field_errors=["This has the wrong type."])


@every_route
async def test_every_route_refuses_a_body_it_cannot_read(
    client: httpx.AsyncClient, cast: Cast, alice: Person, route: Operation
) -> None:
    before = await cast.contents()

    async def ask(body: bytes, content_type: str) -> httpx.Response:
        headers = headers_of(alice, route, content_type)
        return await client.request(route.method, address(alice, route), content=body, headers=headers)

    refused(await ask(b'{"email": "a', JSON), 400, "malformed_json")
    refused(await ask(b"a=%ff", FORM), 400, "malformed_form")
    refused(await ask(b"{}", "text/plain"), 415, "unsupported_media_type")
    answer = await ask(b"a=1&a=2", FORM)
    assert (answer.status_code, answer.json()["a"]) == (400, ["This field is given twice."])
    assert await cast.contents() == before


def answer_lists(answer: httpx.Response) -> dict[str, list[str]]:
    return {name: value for name, value in answer.json().items() if isinstance(value, list)}


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "text/json", "", "nonsense", "application/jsonp", "application/xml", "application/problem+json"],
)
async def test_other_media_types_are_415(client: httpx.AsyncClient, content_type: str) -> None:
    answer = await client.post(VERIFY.path, content=b'{"token": "x"}', headers={"Content-Type": content_type})
    refused(answer, 415, "unsupported_media_type")


async def test_a_body_without_a_type_is_415(client: httpx.AsyncClient) -> None:
    refused(await client.post(VERIFY.path, content=b'{"token": "x"}'), 415, "unsupported_media_type")


@every_route
async def test_a_body_over_64_kib_is_refused(
    client: httpx.AsyncClient, cast: Cast, alice: Person, route: Operation
) -> None:
    """With its length in a header, and in chunks."""
    body = json.dumps(await filled(cast, alice, route)).encode()
    body += b" " * (64 * 1024 + 1 - len(body))

    async def pieces() -> Any:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    before = await cast.contents()
    for content in (body, pieces()):
        answer = await client.request(
            route.method, address(alice, route), content=content, headers=headers_of(alice, route)
        )
        refused(answer, 413, "too_large")
    assert await cast.contents() == before


async def test_a_body_of_64_kib_is_taken(client: httpx.AsyncClient, cast: Cast, alice: Person) -> None:
    body = json.dumps(await filled(cast, alice, VERIFY)).encode()
    body += b" " * (64 * 1024 - len(body))
    answer = await client.post(VERIFY.path, content=body, headers=headers_of(alice, VERIFY))
    assert answer.status_code == 200


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;"])
async def test_json_is_json_however_its_type_is_written(
    client: httpx.AsyncClient, cast: Cast, alice: Person, content_type: str
) -> None:
    body = json.dumps(await filled(cast, alice, VERIFY))
    answer = await client.post(VERIFY.path, content=body, headers={"Content-Type": content_type})
    assert answer.status_code == 200, answer.text


KEYS = ["x", "", "é", "\0", "a`b", "a.b", "$", "Email", "email ", "__class__", "x" * 20_000, "\U0001f600", "type",
        "status", "code", "detail", "error", "trace_id", "title", "non_field_errors"]  # fmt: skip
OWN = ["/auth/jwt/logout/", "/api/referral_codes/create/", "/api/referral_codes/"]


@pytest.mark.parametrize("route", [route for route in BODIES if route.path in OWN], ids=str)
async def test_our_own_routes_refuse_unknown_fields(
    client: httpx.AsyncClient, cast: Cast, alice: Person, route: Operation
) -> None:
    body = await filled(cast, alice, route)
    before = await cast.contents()
    for key in KEYS:
        answer = await client.request(
            route.method, address(alice, route), json={**body, key: 1}, headers=headers_of(alice, route)
        )
        problem = answer.json()
        assert (answer.status_code, problem["status"], problem["code"]) == (400, 400, "invalid_input"), key
        assert isinstance(problem["detail"], str)
        assert len(answer.content) < 2000
    answer = await client.request(
        route.method, address(alice, route), json={**body, "x": 1}, headers=headers_of(alice, route)
    )
    refused(answer, 400, "invalid_input", x=["This field is not known here."])
    assert await cast.contents() == before


@every_route
async def test_lone_surrogates_are_refused_as_a_key_and_as_a_value(
    client: httpx.AsyncClient, cast: Cast, alice: Person, route: Operation
) -> None:
    body = await filled(cast, alice, route)
    before = await cast.contents()
    wrong = ['{"\\ud800": 1}', '{"a\\udfff": 1}', '{"\\ud800\\ud800": null}']
    wrong += [json.dumps({**body, name: f"{value}\ud800"}) for name, value in body.items()]
    wrong += [json.dumps({**body, "x": "\udc00"})]
    for text in wrong:
        answer = await client.request(
            route.method, address(alice, route), content=text, headers=headers_of(alice, route)
        )
        assert answer.status_code == 400, (text, answer.text)
        assert answer.headers["content-type"] == "application/json"
    assert await cast.contents() == before


@every_route
async def test_null_characters_are_refused(
    client: httpx.AsyncClient, cast: Cast, alice: Person, route: Operation
) -> None:
    body = await filled(cast, alice, route)
    before = await cast.contents()
    for name, value in body.items():
        answer = await client.request(
            route.method, address(alice, route), json={**body, name: f"{value}\0"}, headers=headers_of(alice, route)
        )
        assert answer.status_code == 400, answer.text
        assert list(answer_lists(answer)) == [name]
    assert await cast.contents() == before
