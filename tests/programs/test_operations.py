"""/healthz, /readyz, /metrics, and what every answer has in common."""

from typing import Any

import httpx
import pytest
from msgspec import structs

from invitree.app import create_app
from invitree.kit.context import AppContext
from invitree.kit.data.db import Database
from invitree.kit.web.edge import Edge
from tests.cast import Cast, refused

METRICS = "/metrics"


def client_of(ctx: AppContext) -> httpx.AsyncClient:
    app = create_app(ctx.settings)
    app.state["context"] = ctx
    edge: Any = Edge(app, access_log=True)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=edge), base_url="http://invitree.test")


async def without_a_database(ctx: AppContext) -> AppContext:
    """Return what a process has open whose database has gone away."""
    database = Database.at(ctx.settings.database_url, size=1)
    await database.close()
    return structs.replace(ctx, db=database)


@pytest.mark.parametrize(
    ("path", "said"), [("/healthz", {"status": "ok"}), ("/readyz", {"status": "ok", "worker": "missing"})]
)
@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_well_service_says_ok(client: httpx.AsyncClient, path: str, said: dict[str, str], slash: str) -> None:
    answer = await client.get(path + slash)
    assert (answer.status_code, answer.json()) == (200, said)
    assert answer.headers["cache-control"] == "no-store"


async def test_without_the_database_it_is_alive_but_not_ready(ctx: AppContext, cast: Cast) -> None:
    alice = await cast.member()
    async with client_of(await without_a_database(ctx)) as client:
        assert (await client.get("/healthz")).status_code == 200
        for path in ("/readyz", "/auth/users/me/", "/api/referral_codes/", f"/api/users/{alice.id}/"):
            answer = await client.get(path, headers=alice.headers)
            refused(answer, 503, "unavailable")
            assert answer.headers["retry-after"] == "1"
        answer = await client.post("/auth/jwt/refresh/", json={"refresh": "1.x"}, headers={"Accept-Language": "ru"})
        refused(answer, 503, "unavailable")
        assert answer.headers["content-language"] == "ru"


async def test_with_a_database_that_only_reads_it_is_not_ready(ctx: AppContext) -> None:
    database = Database.at(ctx.settings.database_url, size=1)
    async with client_of(structs.replace(ctx, db=database)) as client:
        assert (await client.get("/readyz")).status_code == 200
        await database.execute("SET default_transaction_read_only = on")
        refused(await client.get("/readyz"), 503, "unavailable")
    await database.close()


@pytest.mark.parametrize(
    "statement", ["UPDATE alembic_version SET version_num = '9999'", "DELETE FROM alembic_version"]
)
async def test_with_another_schema_it_is_not_ready(client: httpx.AsyncClient, ctx: AppContext, statement: str) -> None:
    head = await ctx.db.fetchval("SELECT version_num FROM alembic_version")
    await ctx.db.execute(statement)
    refused(await client.get("/readyz"), 503, "unavailable")
    await ctx.db.execute("DELETE FROM alembic_version")
    await ctx.db.execute("INSERT INTO alembic_version VALUES ($1)", head)
    assert (await client.get("/readyz")).status_code == 200


@pytest.mark.parametrize("authorization", [None, "", "Bearer ", "Bearer", "Bearer x"])
async def test_there_are_no_metrics_without_a_token_set(client: httpx.AsyncClient, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    refused(await client.get(METRICS, headers=headers), 404, "not_found")


async def test_metrics_open_to_their_token_only(ctx: AppContext) -> None:
    guarded = structs.replace(ctx, settings=structs.replace(ctx.settings, metrics_token="m" * 20))
    async with client_of(guarded) as client:
        await client.get("/healthz")
        wrong = ["", "Bearer", f"Bearer {'m' * 19}", f"Token {'m' * 20}", "m" * 20, f"Bearer {'m' * 21}", "Bearer \xfc"]
        for authorization in wrong:
            answer = await client.get(METRICS, headers={b"Authorization": authorization.encode("latin-1")})
            refused(answer, 404, "not_found")
        answer = await client.get(METRICS, headers={"Authorization": f"Bearer {'m' * 20}"})
        assert answer.status_code == 200
        assert 'invitree_request_seconds_count{method="GET",route="/healthz",status="200"}' in answer.text


async def test_metrics_name_routes_and_never_addresses(ctx: AppContext, cast: Cast) -> None:
    alice = await cast.member()
    guarded = structs.replace(ctx, settings=structs.replace(ctx.settings, metrics_token="m" * 20))
    async with client_of(guarded) as client:
        await client.get(f"/api/referral_codes/get/{alice.email}/", headers=alice.headers)
        await client.get("/nowhere/secret@example.com")
        await client.request("BREW", "/healthz")
        text = (await client.get(METRICS, headers={"Authorization": f"Bearer {'m' * 20}"})).text
    assert alice.email not in text
    assert "secret@example.com" not in text
    assert "BREW" not in text


@pytest.mark.parametrize("path", ["/nowhere", "/api/nowhere/", "/api/referral_codes/get/", "/..%2f..", "/%FF"])
async def test_an_unknown_address_is_a_404_problem(client: httpx.AsyncClient, path: str) -> None:
    refused(await client.get(path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/auth/users/me/events/", "GET, HEAD, OPTIONS"),
        ("GET", "/auth/token/login/", "OPTIONS, POST"),
        ("DELETE", "/auth/users/", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/healthz", "GET, HEAD, OPTIONS"),
        ("PATCH", "/api/referral_codes/", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("POST", "/auth/users/7/", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("PUT", "/auth/users/activation", "OPTIONS, POST"),
        ("BREW", "/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_wrong_method_is_told_which_are_right(
    client: httpx.AsyncClient, cast: Cast, method: str, path: str, allowed: str
) -> None:
    answer = await client.request(method, path, headers=(await cast.member()).headers)
    refused(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed  # RFC 9110, 15.5.6: a 405 must say


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/api/referral_codes", "DELETE, GET, HEAD, OPTIONS, POST"),
        ("/auth/users/", "GET, HEAD, OPTIONS, POST"),
        ("/auth/users/me/", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/auth/users/7", "DELETE, GET, HEAD, OPTIONS, PATCH, PUT"),
        ("/auth/users/activation/", "OPTIONS, POST"),
        ("/auth/token/login/", "OPTIONS, POST"),
        ("/api/referral_codes/get/a@example.com/", "GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ],
)
async def test_an_address_says_what_can_be_done_there(client: httpx.AsyncClient, path: str, allowed: str) -> None:
    answer = await client.options(path)
    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("abc-123.X_y", True),
        ("a" * 64, True),
        ("a" * 65, False),
        ("", False),
        ("a b", False),
        ("a\tb", False),
        ("<", False),
    ],
)
async def test_a_requests_name_is_the_clients_where_it_is_a_name(
    client: httpx.AsyncClient, sent: str, kept: bool
) -> None:
    answer = await client.get("/nowhere", headers={"X-Request-Id": sent})
    name = answer.headers["x-request-id"]
    assert (name == sent) is kept
    assert kept or len(name) == 16
    assert refused(answer, 404, "not_found")["trace_id"] == name


async def test_two_requests_have_two_names(client: httpx.AsyncClient) -> None:
    names = {(await client.get("/healthz")).headers["x-request-id"] for _ in range(5)}
    assert len(names) == 5


async def test_every_answer_forbids_sniffing(client: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/nowhere"):
        assert (await client.get(path)).headers["x-content-type-options"] == "nosniff"


async def test_what_breaks_on_our_side_is_a_500_without_a_trace_of_why(
    client: httpx.AsyncClient, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_args: object, **_named: object) -> None:
        raise RuntimeError("secret reason")

    alice = await cast.member()
    monkeypatch.setattr("invitree.sharing.codes.store.find_own_code", broken)
    answer = await client.get("/api/referral_codes/", headers=alice.headers)
    refused(answer, 500, "internal")
    assert "secret reason" not in answer.text
    assert "Traceback" not in answer.text
