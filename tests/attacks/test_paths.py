"""Addresses in paths: whatever stands there finds the one whose address it is, or nobody."""

from collections.abc import Mapping

import httpx
import pytest

from tests.attacks.wire import request, send, statuses
from tests.cast import Cast
from tests.express.test_express import told
from tests.process import Service

LOOKUP = "/api/referral_codes/get/"
# Everybody with a code. Of most shapes below somebody careless could make the address of somebody here.
EVERYBODY = ("b@example.com", "/b@example.com", "//b@example.com", "x/b@example.com", "x//b@example.com",
             "get/b@example.com", "c@example.com", "b%00@example.com", "b%2f@example.com",
             "b+x@example.com")  # fmt: skip
# What stands in the path, and whom it finds: None is the one 404.
FOUND: Mapping[str, str | None] = {
    "b@example.com": "b@example.com",
    "b%40example%2Ecom": "b@example.com",
    "%62@example.com": "b@example.com",
    "B@EXAMPLE.COM": "b@example.com",
    "b@example.com/": "b@example.com",
    "b@example.com///": "b@example.com",
    "b@example.com%2F": "b@example.com",
    "b@example.com?/c@example.com": "b@example.com",
    "%20b@example.com%20": "b@example.com",
    "b@example.com%0d%0a": "b@example.com",
    "%EF%BD%82@example.com": "b@example.com",
    "b@example%E3%80%82com": "b@example.com",
    "/b@example.com": "/b@example.com",
    "%2Fb@example.com": "/b@example.com",
    "//b@example.com": "//b@example.com",
    "%2F%2fb@example.com": "//b@example.com",
    "///b@example.com": None,
    "x/b@example.com": "x/b@example.com",
    "x%2Fb@example.com": "x/b@example.com",
    "x//b@example.com": "x//b@example.com",
    "x///b@example.com": None,
    "get/b@example.com": "get/b@example.com",
    "get//b@example.com": None,
    "b/../c@example.com": None,
    "b%2F%2E%2E%2Fc@example.com": None,
    "x/../b@example.com": None,
    "x/%2e%2e/b@example.com": None,
    "../get/b@example.com": None,
    "%2e%2e/get/b@example.com": None,
    "%2e/b@example.com": None,
    "./b@example.com": None,
    "..%2f..%2fusers%2f1": None,
    "b%2500@example.com": "b%00@example.com",
    "b%00@example.com": None,
    "b@example.com%00": None,
    "%00b@example.com": None,
    "b@example.com%00c@example.com": None,
    "b%252f@example.com": "b%2f@example.com",
    "b%252F@example.com": "b%2f@example.com",
    "b%2540example.com": None,
    "b@example.com%252F": None,
    "b@example.com%25": None,
    "b+x@example.com": "b+x@example.com",
    "b%20x@example.com": None,
    "b@example.com.": None,
    "b@example.com..": None,
    "b@.example.com": None,
    "b@example.com;x=1": None,
    "b@example.com%3Fx": None,
    "b@example.com%23": None,
    "b@example.com%5C": None,
    "b@example.com,c@example.com": None,
    "b@example.com%0d%0aSet-Cookie:%20x=1": None,
    "b@example.com%0ac@example.com": None,
    '%22b%22@example.com': None,
    "%3Cb@example.com%3E": None,
    "b(x)@example.com": None,
    "b@%5B127.0.0.1%5D": None,
    "b@example.com'--": None,
    "%E2%80%8Bb@example.com": None,
    "%E2%80%AEb@example.com": None,
    "b@ex%C2%ADample.com": None,
    "b@example.com%FF": None,
    "b%C0%AF@example.com": None,
    "%ED%A0%80b@example.com": None,
    "b@example.com%": None,
    "b@example.com%2": None,
    "b@example.com%zz": None,
    "b@example.com%u0041": None,
    "%25": None,
    "*": None,
    "x" * 10_240: None,
    "x" * 10_240 + "@example.com": None,
    "b@" + "e" * 10_240 + ".com": None,
    "/" * 10_240 + "b@example.com": None,
    "b@example.com" + "/" * 10_240: "b@example.com",
    "%2F" * 3_000 + "b@example.com": None,
    "%E2%80%8B" * 1_000 + "b@example.com": None,
    "b@example.com" + "%20" * 3_000: "b@example.com",
}  # fmt: skip
# What is no path, and goes no further than to the server.
NO_PATH = (
    "b@example.com\r\nX: x",
    "b@example.com c@example.com",
    "<b@example.com>",
    "b@example.com\x00",
    "b@example.com\n",
)


@pytest.fixture(scope="module")
async def codes(cast: Cast) -> Mapping[str | None, str]:
    """Everybody's code, by address."""
    return {email: await cast.code(await cast.member(email=email)) for email in EVERYBODY}


def short(shape: str) -> str:
    """Return what a test is named after."""
    return shape[:30] + str(len(shape)) * (len(shape) > 30)


@pytest.mark.parametrize("shape", [shape for shape in FOUND if "./" not in shape], ids=short)  # httpx takes it out
async def test_odd_email_paths_resolve_alike_with_and_without_the_fast_path(
    client: httpx.AsyncClient, long_way: httpx.AsyncClient, cast: Cast, codes: Mapping[str | None, str], shape: str
) -> None:
    asking = await cast.member()
    url = httpx.URL("http://invitree.test", raw_path=f"{LOOKUP}{shape}/".encode())
    first, second = [await client.get(url, headers=asking.headers) for _ in range(2)]
    assert told(first) == told(second) == told(await long_way.get(url, headers=asking.headers))
    assert (first.status_code, first.json()["code"]) == expected(codes, shape)


@pytest.mark.parametrize("shape", FOUND, ids=short)
async def test_odd_email_paths_resolve_over_a_raw_socket(
    running: Service, cast: Cast, codes: Mapping[str | None, str], shape: str
) -> None:
    token = f"Authorization: Token {(await cast.member()).token}"
    asked = request(f"GET {LOOKUP}{shape}/", "Host: invitree.test", token, "Connection: close")
    for _ in range(2):  # from the database and from memory
        answer = send(running, asked)
        status, code = expected(codes, shape)
        assert statuses(answer) == [status]
        assert f'"code":"{code}"'.encode() in answer


def expected(codes: Mapping[str | None, str], shape: str) -> tuple[int, str]:
    """Return the status and the code that a shape is answered with."""
    email = FOUND[shape]
    return (200, codes[email]) if email else (404, "code_not_found")


@pytest.mark.parametrize("shape", NO_PATH, ids=repr)
async def test_malformed_request_targets_get_400(running: Service, cast: Cast, shape: str) -> None:
    token = f"Authorization: Token {(await cast.member()).token}"
    answer = send(running, request(f"GET {LOOKUP}{shape}/", "Host: invitree.test", token, "Connection: close"))
    assert statuses(answer) == [400]
