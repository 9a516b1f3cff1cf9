"""POST /auth/token/login/ and POST /auth/jwt/create/; GET /auth/users/me/."""

from typing import Any

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, refused
from tests.hashes import busy

LOGIN, CREATE, ME = "/auth/token/login/", "/auth/jwt/create/", "/auth/users/me/"
DOORS = [LOGIN, CREATE, LOGIN.rstrip("/"), CREATE.rstrip("/")]
WRONG = "Unable to log in with provided credentials."
NO_ACCOUNT = "No active account found with the given credentials"


def is_wrong(answer: httpx.Response, path: str, *, ru: bool = False) -> None:
    if path.startswith(LOGIN.rstrip("/")):
        text = "Не удалось войти с предоставленными учётными данными." if ru else WRONG
        assert refused(answer, 400, "invalid_credentials", non_field_errors=[text])["detail"] == text
    else:
        text = "Не найдено активной учётной записи с указанными данными." if ru else NO_ACCOUNT
        assert refused(answer, 401, "no_active_account")["detail"] == text


def header(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    if "auth_token" in body:
        assert set(body) == {"auth_token"}
        return {"Authorization": f"Token {body['auth_token']}"}
    assert set(body) == {"access", "refresh", "access_expires_at", "refresh_expires_at"}
    return {"Authorization": f"JWT {body['access']}"}


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("by", ["email", "username"])
async def test_a_password_opens_by_address_or_name(client: httpx.AsyncClient, cast: Cast, path: str, by: str) -> None:
    alice = await cast.member()
    answer = await client.post(path, json={by: getattr(alice, by), "password": PASSWORD})
    me = await client.get(ME, headers=header(answer))
    assert me.json() == {"email": alice.email, "id": alice.id, "username": alice.username}


async def test_every_login_is_a_session_of_its_own(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    body = {"email": alice.email, "password": PASSWORD}
    tokens = [(await client.post(LOGIN, json=body)).json()["auth_token"] for _ in range(3)]
    assert len({*tokens, alice.token}) == 4


@pytest.mark.parametrize("path", [LOGIN, CREATE])
async def test_an_address_opens_in_any_case_and_width(client: httpx.AsyncClient, cast: Cast, path: str) -> None:
    alice = await cast.member()
    for email in (alice.email.upper(), f" {alice.email} ", alice.email.replace("p", "ｐ")):
        header(await client.post(path, json={"email": email, "password": PASSWORD}))


@pytest.mark.parametrize("path", [LOGIN, CREATE])
@pytest.mark.parametrize("language", ["en", "ru"])
async def test_failed_logins_all_get_the_same_answer(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, path: str, language: str
) -> None:
    alice, gone, eve = await cast.member(), await cast.member(), await cast.stranger()
    await cast.deactivate(gone)
    wrong: list[dict[str, Any]] = [
        {"email": alice.email, "password": PASSWORD + "."},
        {"email": alice.email, "password": PASSWORD.upper()},
        {"email": alice.email, "password": "x" * 5000},
        {"email": "nobody@example.com", "password": PASSWORD},
        {"email": "malformed", "password": PASSWORD},
        {"username": "nobody", "password": PASSWORD},
        {"username": "no body", "password": PASSWORD},
        {"username": alice.email, "password": PASSWORD},
        {"email": alice.username, "password": PASSWORD},
        {"email": gone.email, "password": PASSWORD},
        {"username": gone.username, "password": PASSWORD},
        {"email": eve.email, "password": PASSWORD},
        {"username": eve.username, "password": PASSWORD},
        {"email": alice.email, "username": gone.username, "password": PASSWORD},
    ]
    before = await cast.contents()
    seen = set()
    for body in wrong:
        answer = await client.post(path, json=body, headers={"Accept-Language": language, "X-Request-Id": "same"})
        is_wrong(answer, path, ru=language == "ru")
        assert answer.headers["content-language"] == language
        seen.add((answer.content, tuple(answer.headers.raw)))
    assert len(seen) == 1
    # Failures are recorded, and nothing else.
    assert {**await cast.contents(), "audit": before["audit"]} == before


@pytest.mark.parametrize("path", [LOGIN, CREATE])
@pytest.mark.parametrize("field", ["email", "username", "password"])
@pytest.mark.parametrize("value", [1, True, [], {}, ["a"]])
async def test_a_field_of_the_wrong_type_is_named(client: httpx.AsyncClient, path: str, field: str, value: Any) -> None:
    refused(await client.post(path, json={field: value}), 400, "invalid_input", **{field: ["This has the wrong type."]})


@pytest.mark.parametrize("path", [ME, ME.rstrip("/")])
async def test_a_member_sees_who_they_are(client: httpx.AsyncClient, cast: Cast, path: str) -> None:
    for person in (await cast.member(), await cast.stranger(), await cast.staff()):
        answer = await client.get(path, headers=person.headers)
        assert answer.status_code == 200
        assert answer.json() == {"email": person.email, "id": person.id, "username": person.username}
        assert answer.headers["cache-control"] == "no-store"


async def test_a_full_hasher_is_told_as_503(client: httpx.AsyncClient, cast: Cast, ctx: AppContext) -> None:
    async with busy(ctx.hasher):
        answer = await client.post(LOGIN, json={"email": "a@example.com", "password": "x"})
    refused(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_no_table_holds_a_token_or_a_password_as_it_is(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice = await cast.member()
    pair = await cast.pair(alice)
    following = (await client.post("/auth/jwt/refresh/", json={"refresh": pair.refresh})).json()
    secrets = [alice.token, pair.refresh, pair.access, following["refresh"], following["access"], PASSWORD]
    secrets += [secret.partition(".")[2] for secret in secrets if "." in secret]
    for (table,) in await ctx.db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        for (text,) in await ctx.db.fetch(f"SELECT t::text FROM {table} t"):
            for secret in secrets:
                assert secret not in text
                assert secret.encode().hex() not in text
    hashes = await ctx.db.fetch("SELECT token_hash FROM refresh_tokens UNION SELECT token_hash FROM sessions")
    assert {len(row["token_hash"]) for row in hashes if row["token_hash"]} == {32}
