"""Which pages of other origins may read the answers: every kind of answer, and preflights."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from msgspec import structs

from invitree.base.origins import parse_origins
from invitree.kit.context import AppContext
from invitree.kit.web.cors import Origins
from invitree.kit.web.edge import Edge
from tests.cast import Cast
from tests.conftest import client_for
from tests.waiting import eventually

APP = "https://app.example.com"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}


@pytest.mark.parametrize(
    ("written", "origins"),
    [
        ("", []),
        (" , ", []),
        ("https://app.example.com", ["https://app.example.com"]),
        (" https://b.example , http://a.example:8080 ", ["https://b.example", "http://a.example:8080"]),
        ("HTTPS://App.Example.COM:443,https://app.example.com", ["https://app.example.com"]),
        ("http://app.example.com:443", ["http://app.example.com:443"]),
        ("http://localhost:3000", ["http://localhost:3000"]),
        ("http://127.0.0.1:80", ["http://127.0.0.1"]),
        ("http://[0:0::1]:3000", ["http://[::1]:3000"]),
        ("https://xn--bcher-kva.example", ["https://xn--bcher-kva.example"]),
        ("capacitor://localhost", ["capacitor://localhost"]),
    ],
)
def test_origins_are_read_as_browsers_send_them(written: str, origins: list[str]) -> None:
    assert parse_origins(written.split(",")) == origins


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("*", "wildcard"),
        ("https://*.example.com", "wildcard"),
        ("null", "sandboxed"),
        ("https://app.example.com/", "write https://app.example.com$"),
        ("https://app.example.com:8443/front", "write https://app.example.com:8443$"),
        ("https://app.example.com?", "write https://app.example.com$"),
        ("https://app.example.com#top", "write https://app.example.com$"),
        ("app.example.com", "scheme://host"),
        ("localhost:3000", "scheme://host"),
        ("//app.example.com", "scheme://host"),
        ("https://", "scheme://host"),
        ("https://app.example.com:0", "scheme://host"),
        ("https://app.example.com:http", "scheme://host"),
        ("https://app.example.com:99999", "scheme://host"),
        ("https://someone@app.example.com", "scheme://host"),
        ("https://app example.com", "scheme://host"),
        ("https://app.example.com.", "scheme://host"),
        ("http://[::g]", "scheme://host"),
        ("https://bücher.example", "xn--"),
    ],
)
def test_what_is_no_origin_is_refused_with_what_to_write(written: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refusal:
        parse_origins(["https://good.example", written])
    assert repr(written) in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.fixture(scope="module")
async def client(ctx: AppContext) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service that pages of one origin may call."""

    async def none_more() -> list[str]:
        return []

    async with client_for(structs.replace(ctx, origins=Origins([APP], read=none_more))) as opened:
        yield opened


def varies_by(answer: httpx.Response) -> list[str]:
    """Return what the answer depends on; all of it stands in one field."""
    fields: list[str] = answer.headers.get_list("vary")
    assert len(fields) == 1
    return fields[0].split(", ")


async def test_every_kind_of_answer_can_be_read_by_an_allowed_page_alone(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    for path, headers, status in (
        ("/auth/users/me/", alice.headers, 200),
        (f"/api/users/{alice.id}/", alice.headers, 200),
        ("/auth/users/me/", {}, 401),
        ("/api/referral_codes/", alice.headers, 404),
        ("/nowhere", {}, 404),
        ("/auth/token/login/", {}, 405),
        ("/schema/openapi.json", {}, 200),
    ):
        for _ in range(2):  # the second time from memory, where the short way has it
            for origin, shown in ((APP, True), ("https://other.example", False), ("null", False), (None, False)):
                sent = {**headers, **({"Origin": origin} if origin else {})}
                answer = await client.get(path, headers=sent)
                assert answer.status_code == status
                assert varies_by(answer)[-1] == "Origin"
                allowed = {name: value for name, value in answer.headers.items() if name.startswith("access-control")}
                assert allowed.get("access-control-allow-origin") == (APP if shown else None), (path, origin)
                assert bool(allowed) is shown
                if shown:
                    assert allowed["access-control-allow-credentials"] == "true"
                    exposed = allowed["access-control-expose-headers"].split(", ")
                    assert {"Link", "Retry-After", "RateLimit", "RateLimit-Policy", "X-Request-Id"} <= set(exposed)


async def test_what_an_answer_depends_on_besides_is_kept(client: httpx.AsyncClient) -> None:
    assert varies_by(await client.get("/nowhere")) == ["Accept", "Accept-Language", "Origin"]


async def test_two_origins_are_none(client: httpx.AsyncClient) -> None:
    answer = await client.get("/healthz", headers=[("Origin", APP), ("Origin", APP)])
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("path", ["/auth/users/", "/api/referral_codes/check/A/", "/nowhere"])
async def test_a_preflight_of_an_allowed_page_is_told_what_it_may_send(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.options(path, headers={"Origin": APP, **ASKS})
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == APP
    assert {"DELETE", "PATCH", "POST", "PUT"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    headers = set(answer.headers["access-control-allow-headers"].lower().split(", "))
    assert {"authorization", "content-type", "accept-language", "idempotency-key", "x-program"} <= headers
    assert int(answer.headers["access-control-max-age"]) > 0
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("origin", ["https://other.example", "null", f"{APP}.evil.example", f"{APP}/", APP.upper()])
async def test_a_preflight_of_any_other_page_is_told_nothing(client: httpx.AsyncClient, origin: str) -> None:
    answer = await client.options("/auth/users/", headers={"Origin": origin, **ASKS})
    assert answer.status_code == 204
    assert varies_by(answer) == ["Origin"]
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_options_that_no_browser_asks_beforehand_is_answered_as_ever(client: httpx.AsyncClient) -> None:
    answer = await client.options("/auth/users/", headers={"Origin": APP})
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert answer.headers["access-control-allow-origin"] == APP


async def test_a_service_that_is_full_can_be_read_all_the_same(client: httpx.AsyncClient) -> None:
    edge: Any = Edge(client._transport.app, access_log=False, is_full=lambda _: True, origins=lambda: {APP.encode()})  # type: ignore[attr-defined]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=edge), base_url="http://invitree.test") as full:
        answer = await full.get("/auth/users/", headers={"Origin": APP})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (503, APP)
        assert varies_by(answer) == ["Accept", "Accept-Language", "Origin"]
        # A refused preflight would be a network error to the page, which could not tell when to come again.
        assert (await full.options("/auth/users/", headers={"Origin": APP, **ASKS})).status_code == 204


async def test_without_allowed_origins_nothing_is_said_of_them(ctx: AppContext) -> None:
    async with client_for(ctx) as plain:
        answer = await plain.get("/healthz", headers={"Origin": APP})
        assert "vary" not in answer.headers
        assert "access-control-allow-origin" not in answer.headers
        assert (await plain.options("/auth/users/", headers={"Origin": APP, **ASKS})).headers["allow"]


async def test_origins_known_last_stay_while_they_cannot_be_read() -> None:
    found: list[str] | None = ["https://one.example"]
    looked = 0

    async def read() -> list[str]:
        nonlocal looked
        looked += 1
        if found is None:
            raise ConnectionError("gone")
        return found

    async def knows(*origins: bytes) -> bool:
        return origins_kept.known == frozenset(origins)

    async def has_looked_again() -> bool:
        return looked > before

    origins_kept = Origins([APP], read=read)
    assert origins_kept.known == {APP.encode()}
    origins_kept.schedule_reload()
    await origins_kept.start()
    try:
        assert await knows(APP.encode(), b"https://one.example")
        found, before = None, looked
        origins_kept.schedule_reload()
        await eventually(has_looked_again)
        assert await knows(APP.encode(), b"https://one.example")
        found = []
        await eventually(lambda: knows(APP.encode()))
    finally:
        await origins_kept.stop()
