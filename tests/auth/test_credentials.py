"""The `Authorization` header, on every route: which forms open, and what everything else gets."""

from typing import Any

import httpx
import pytest

from invitree.identity.auth import actions
from tests.cast import Cast, in_days, refused

CODES = "/api/referral_codes"
# (method, path, body)
MEMBERS: list[tuple[str, str, Any]] = [
    ("GET", "/auth/users/me/", None),
    ("POST", "/auth/token/logout/", None),
    ("POST", "/auth/token/logout/?all=true", None),
    ("POST", f"{CODES}/create/", {"expiration_date": in_days(5)}),
    ("POST", f"{CODES}/", {"expiration_date": in_days(5)}),
    ("POST", f"{CODES}/create/", {"nonsense": 1}),
    ("DELETE", f"{CODES}/delete/", None),
    ("DELETE", f"{CODES}/", None),
    ("GET", f"{CODES}/", None),
    ("GET", f"{CODES}/get/person1@example.com/", None),
    ("GET", f"{CODES}/get/nobody/", None),
    ("GET", "/api/users/1/", None),
    ("GET", "/api/users/999999/", None),
    ("GET", "/api/users/1/?limit=0", None),
    ("GET", "/api/users/1/referrer/", None),
]
ANYONE: list[tuple[str, str, Any]] = [
    ("POST", "/auth/users/", {"email": "x@example.com", "username": "x", "password": "correct horse battery staple"}),
    ("GET", f"{CODES}/check/ABC/", None),
]
GARBAGE = [
    "Token",
    "Token ",
    "Token  ",
    "Token nonsense",
    "Token 1.nonsense",
    "Token 999999.nonsense",
    "Token 99999999999999999999.nonsense",
    "Token -1.x",
    "Token 1.x y",
    "Token 1." + "x" * 5000,
    "JWT",
    "JWT nonsense",
    "JWT a.b.c",
    "Bearer nonsense",
    "Bearer 1.nonsense",
    "Bearer eyJhbGciOiJub25lIn0.e30.",
    "Token \xfc",
    "Bearer \xfc.\xfc.\xfc",
    "Bearer \t",
]
OTHER_SCHEMES = ["Basic YTpi", "Digest username=x", "nonsense", "\xa0"]


def shown(route: tuple[str, str, Any]) -> str:
    return f"{route[0]} {route[1]}"


@pytest.mark.parametrize("route", MEMBERS, ids=shown)
async def test_requests_without_credentials_get_401(
    client: httpx.AsyncClient, cast: Cast, route: tuple[str, str, Any]
) -> None:
    before = await cast.contents()
    method, path, body = route
    for headers in ({}, {"Authorization": ""}, {"Authorization": " "}):
        answer = await client.request(method, path, json=body, headers=headers)
        refused(answer, 401, "unauthenticated")
    assert await cast.contents() == before


@pytest.mark.parametrize("route", [*MEMBERS, *ANYONE], ids=shown)
async def test_garbage_gets_the_same_401_everywhere(
    client: httpx.AsyncClient, cast: Cast, route: tuple[str, str, Any]
) -> None:
    before = await cast.contents()
    method, path, body = route
    for authorization in GARBAGE:
        headers = {b"Authorization": authorization.encode("latin-1")}
        answer = await client.request(method, path, json=body, headers=headers)
        refused(answer, 401, "unauthenticated")
        for scheme in ("Bearer", "Token", "JWT"):
            assert f'{scheme} realm="invitree"' in answer.headers["www-authenticate"]
    assert await cast.contents() == before


@pytest.mark.parametrize("authorization", OTHER_SCHEMES)
async def test_credentials_of_another_scheme_are_nobodys(
    client: httpx.AsyncClient, cast: Cast, authorization: str
) -> None:
    headers = {b"Authorization": authorization.encode("latin-1")}
    for method, path, body in MEMBERS:
        refused(await client.request(method, path, json=body, headers=headers), 401, "unauthenticated")
    checked = await client.get(f"{CODES}/check/ABC/", headers=headers)
    assert (checked.status_code, checked.json()) == (200, {"valid": False})
    body = {"email": f"{cast.ctx.clock.seconds()}@example.com", "username": ascii(authorization)[1:-1].split()[0]}
    body |= {"username": body["username"].replace("\\", "."), "password": "correct horse battery staple"}
    assert (await client.post("/auth/users/", json=body, headers=headers)).status_code == 201


@pytest.mark.parametrize("path", ["/auth/jwt/refresh/", "/auth/jwt/create/", "/auth/token/login/"])
async def test_a_stale_header_does_not_stop_a_client_from_logging_in(
    client: httpx.AsyncClient, cast: Cast, path: str
) -> None:
    alice = await cast.member()
    body = {"refresh": (await cast.pair(alice)).refresh}
    if path != "/auth/jwt/refresh/":
        body = {"email": alice.email, "password": "correct horse battery staple"}
    answer = await client.post(path, json=body, headers={"Authorization": "JWT expired"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("scheme", ["Token", "token", "TOKEN", "JWT", "jwt", "Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("space", [" ", "  ", " \t"])
async def test_every_form_of_the_header_opens(client: httpx.AsyncClient, cast: Cast, scheme: str, space: str) -> None:
    alice = await cast.member()
    token = alice.token if scheme.lower() == "token" else (await cast.pair(alice)).access
    answer = await client.get("/auth/users/me/", headers={"Authorization": f"{scheme}{space}{token}"})
    assert answer.json() == {"email": alice.email, "id": alice.id, "username": alice.username}


@pytest.mark.parametrize("scheme", ["Token", "JWT", "Bearer"])
async def test_a_token_opens_only_under_its_own_scheme(client: httpx.AsyncClient, cast: Cast, scheme: str) -> None:
    alice = await cast.member()
    pair = await cast.pair(alice)
    wrong = [pair.access] if scheme == "Token" else [alice.token]
    for token in [*wrong, pair.refresh]:
        answer = await client.get("/auth/users/me/", headers={"Authorization": f"{scheme} {token}"})
        refused(answer, 401, "unauthenticated")


async def test_a_cut_or_lengthened_token_does_not_open(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    for token in (alice.token[:-1], f"{alice.token}A", alice.token.swapcase(), alice.token.partition(".")[2]):
        answer = await client.get("/auth/users/me/", headers={"Authorization": f"Token {token}"})
        refused(answer, 401, "unauthenticated")


async def test_a_token_means_its_own_program_and_no_other(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, eve = await cast.member(), await cast.stranger()
    moved = f"{alice.program_id}.{eve.token.partition('.')[2]}"
    refused(await client.get("/auth/users/me/", headers={"Authorization": f"Token {moved}"}), 401, "unauthenticated")
    assert (await client.get("/auth/users/me/", headers=eve.headers)).json()["id"] == eve.id


@pytest.mark.parametrize("route", MEMBERS, ids=shown)
async def test_a_deactivated_user_gets_in_nowhere(
    client: httpx.AsyncClient, cast: Cast, route: tuple[str, str, Any]
) -> None:
    alice = await cast.member()
    pair = await cast.pair(alice)
    await cast.deactivate(alice)
    before = await cast.contents()
    method, path, body = route
    for authorization in (f"Token {alice.token}", f"JWT {pair.access}", f"Bearer {pair.access}"):
        answer = await client.request(method, path, json=body, headers={"Authorization": authorization})
        refused(answer, 401, "unauthenticated")
    assert await cast.contents() == before


async def test_a_token_that_one_recognizer_does_not_know_is_left_to_the_next(
    client: httpx.AsyncClient, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody(*_: object) -> tuple[None, float]:
        return None, 0

    alice = await cast.member()
    monkeypatch.setitem(actions.RECOGNIZERS, "token", (nobody, *actions.RECOGNIZERS["token"]))
    assert (await client.get("/auth/users/me/", headers=alice.headers)).status_code == 200
    monkeypatch.setitem(actions.RECOGNIZERS, "token", (nobody,))
    bob = await cast.member()
    refused(await client.get("/auth/users/me/", headers=bob.headers), 401, "unauthenticated")
