"""What clients of djoser send and expect, beyond the routes themselves (docs/coming-from-django.md)."""

import base64
import json
import unicodedata
from typing import Any

import httpx
import pytest
from msgspec import structs

from invitree.kit.context import AppContext
from invitree.kit.secrets.passwords import Hasher
from tests.cast import PASSWORD, Cast, in_days, refused
from tests.conftest import client_for

USERS, ME, LOGIN, CREATE = "/auth/users/", "/auth/users/me/", "/auth/token/login/", "/auth/jwt/create/"
REQUIRED, BLANK, NULL = "This field is required.", "This field may not be blank.", "This field may not be null."


def newcomer(cast: Cast) -> dict[str, str]:
    """Return the body of a sign-up that nobody has sent yet."""
    name = f"new{cast.ctx.clock.seconds():.6f}".replace(".", "-")
    return {"email": f"{name}@example.com", "username": name, "password": PASSWORD}


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
async def test_the_main_job_works_with_forms(client: httpx.AsyncClient, cast: Cast, kind: str) -> None:
    async def send(path: str, body: dict[str, str], **headers: str) -> httpx.Response:
        if kind == "urlencoded":
            return await client.post(path, data=body, headers=headers)
        return await client.post(path, files={name: (None, value) for name, value in body.items()}, headers=headers)

    alice, bob = newcomer(cast), newcomer(cast)
    assert (await send(USERS, alice)).status_code == 201
    token = (await send(LOGIN, {"email": alice["email"], "password": PASSWORD})).json()["auth_token"]
    mine = {"Authorization": f"Token {token}"}
    code = (await send("/api/referral_codes/create/", {"expiration_date": in_days(5)}, **mine)).json()["code"]
    brought = await send(USERS, {**bob, "referral_code": code, "re_password": ""})
    assert brought.status_code == 201
    me = (await client.get(ME, headers=mine)).json()["id"]
    people = (await client.get(f"/api/users/{me}/", headers=mine)).json()
    assert [person["id"] for person in people] == [brought.json()["id"]]
    refused(await send(USERS, {"email": "x"}), 400, "invalid_input", email=["Enter a valid email address."],
            username=[REQUIRED], password=[REQUIRED])  # fmt: skip


async def test_an_idempotency_key_holds_for_a_form_with_another_boundary(client: httpx.AsyncClient, cast: Cast) -> None:
    body = newcomer(cast)
    files: Any = {name: (None, value) for name, value in body.items()}
    first, second = [await client.post(USERS, files=files, headers={"Idempotency-Key": "form"}) for _ in range(2)]
    assert first.request.headers["content-type"] != second.request.headers["content-type"]
    assert (first.status_code, second.status_code, first.json()) == (201, 201, second.json())
    other = {**files, "username": (None, "somebody")}
    refused(await client.post(USERS, files=other, headers={"Idempotency-Key": "form"}), 422, "idempotency_key_reused")


async def test_sign_up_names_every_fault(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    for content, media_type in ((b"{}", "application/json"), (b"", "application/json"), (b"", "text/plain")):
        answer = await client.post(USERS, content=content, headers={"Content-Type": media_type})
        refused(answer, 400, "invalid_input", email=[REQUIRED], username=[REQUIRED], password=[REQUIRED])
    answer = await client.post(USERS, json={"email": "x", "username": None, "password": "83746501"})
    assert set(answer.json()) >= {"email", "username", "password"}
    both = {"email": alice.email, "username": alice.username, "password": PASSWORD}
    refused(
        await client.post(USERS, json=both),
        400,
        "invalid_input",
        email=["A user with that email already exists."],
        username=["A user with that username already exists."],
    )


@pytest.mark.parametrize(
    "name", ["referralCode", "referal_code", "refferal-code", "code", "ref", "REF_CODE", "invite_code"]
)
async def test_a_code_under_another_name_is_not_dropped_silently(
    client: httpx.AsyncClient, cast: Cast, name: str
) -> None:
    body = newcomer(cast)
    answer = await client.post(USERS, json={**body, name: "7K3M9XQ2AB"})
    text = f"This field is called referral_code; {name} is not known here."
    refused(answer, 400, "invalid_input", referral_code=[text])
    assert (await client.post(USERS, json={**body, name: "", "first_name": "New"})).status_code == 201


async def test_space_around_a_password_does_not_matter_whenever_it_was_set(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice, bob = newcomer(cast), await cast.member()
    spaced = {**alice, "username": f" {alice['username']}\n", "password": f" {PASSWORD}  ", "re_password": PASSWORD}
    assert (await client.post(USERS, json=spaced)).json()["username"] == alice["username"]
    for password in (PASSWORD, f"{PASSWORD} ", f"\t{PASSWORD}\n"):
        for path in (LOGIN, CREATE):
            body = {"email": alice["email"], "password": password}
            assert (await client.post(path, json=body)).status_code == 200, (path, password)
    # One from before passwords were trimmed.
    hasher = Hasher(threads=1)
    await ctx.db.execute("UPDATE users SET password_hash = $2 WHERE id = $1", bob.id, await hasher.hash(" as sent "))
    hasher.close()
    body = {"email": bob.email, "password": "as sent"}
    assert (await client.post(LOGIN, json=body)).status_code == 400
    assert (await client.post(LOGIN, json={**body, "password": " as sent "})).status_code == 200
    assert (await client.post(LOGIN, json=body)).status_code == 200  # it was hashed anew


async def test_an_accent_typed_as_two_characters_is_the_same_password(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = newcomer(cast) | {"password": unicodedata.normalize("NFD", "crème brûlée à vélo")}
    assert (await client.post(USERS, json=alice)).status_code == 201
    for form in ("NFC", "NFD"):
        password = unicodedata.normalize(form, alice["password"])
        answer = await client.post(LOGIN, json={"username": alice["username"], "password": password})
        assert answer.status_code == 200, form


async def test_a_login_takes_email_and_username_of_one_account(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, bob = await cast.member(), await cast.member()
    for path in (LOGIN, CREATE):
        body = {"email": alice.email, "username": alice.username, "password": PASSWORD}
        assert (await client.post(path, json=body)).status_code == 200
        assert (await client.post(path, json={**body, "username": bob.username})).status_code in (400, 401)


async def test_fields_missing_at_a_login_are_no_401(client: httpx.AsyncClient) -> None:
    refused(await client.post(CREATE), 400, "invalid_input", email=[REQUIRED], password=[REQUIRED])
    refused(await client.post(CREATE, json={"email": "a@b.co", "password": ""}), 400, "invalid_input", password=[BLANK])
    refused(await client.post(CREATE, json={"email": None, "password": "x"}), 400, "invalid_input", email=[NULL])
    wrong = ["Unable to log in with provided credentials."]
    refused(await client.post(LOGIN, json={}), 400, "invalid_credentials", non_field_errors=wrong)
    refused(await client.post(LOGIN, json={"email": "", "password": "x"}), 400, "invalid_input", email=[BLANK])


async def test_an_expired_access_token_tells_a_client_to_refresh(client: httpx.AsyncClient, cast: Cast) -> None:
    pair = await cast.pair(await cast.member())
    answer = await client.get(ME, headers={"Authorization": f"Bearer {pair.access[:-2]}xx"})
    body = refused(answer, 401, "token_not_valid")
    assert body["messages"][0]["token_type"] == "access"


async def test_an_access_token_reads_as_simplejwts(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    answer = await client.post(CREATE, json={"email": alice.email, "password": PASSWORD})
    payload = answer.json()["access"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert (claims["user_id"], claims["token_type"]) == (str(alice.id), "access")
    assert answer.json()["access_expires_at"] < answer.json()["refresh_expires_at"]


async def test_a_wrong_method_without_a_login_is_401(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    refused(await client.get("/auth/users/set_password/"), 401, "unauthenticated")
    refused(await client.get("/auth/users/set_password/", headers=alice.headers), 405, "method_not_allowed")
    refused(await client.put("/auth/users/"), 401, "unauthenticated")
    refused(await client.get(LOGIN), 405, "method_not_allowed")


@pytest.mark.parametrize("accept", ["application/problem+json", "text/html, application/problem+json;q=0.9"])
async def test_problems_have_their_media_type_where_it_is_asked_for(client: httpx.AsyncClient, accept: str) -> None:
    answer = await client.get(ME, headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/problem+json"
    for usual in ("*/*", "application/json", "text/html"):
        answer = await client.get(ME, headers={"Accept": usual})
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["vary"] == "Accept, Accept-Language"


@pytest.mark.parametrize("domain", ["corp.local", "localhost", "example.test"])
async def test_local_addresses_sign_up_only_where_a_setting_lets_them(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, domain: str
) -> None:
    body = newcomer(cast)
    body["email"] = f"{body['username']}@{domain}"
    reason = ["Mail cannot reach this domain. Enter an address at a public one."]
    refused(await client.post(USERS, json=body), 400, "invalid_input", email=reason)
    tolerant = structs.replace(ctx, settings=structs.replace(ctx.settings, allow_local_email=True))
    async with client_for(tolerant) as other:
        assert (await other.post(USERS, json=body)).status_code == 201
    # Who is there logs in, wherever it came from.
    login = {"email": body["email"], "password": PASSWORD}
    assert (await client.post(LOGIN, json=login)).status_code == 200
    assert (await client.post("/auth/users/reset_password/", json={"email": body["email"]})).status_code == 204


async def test_an_address_to_change_to_may_be_repeated(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    body = {"current_password": PASSWORD, "new_email": "one@example.com", "re_new_email": "two@example.com"}
    differ = ["The two email fields didn't match."]
    answer = await client.post("/auth/users/set_email/", json=body, headers=alice.headers)
    refused(answer, 400, "invalid_input", non_field_errors=differ)
    body["re_new_email"] = body["new_email"]
    answer = await client.post("/auth/users/set_email/", json=body, headers=alice.headers)
    assert answer.status_code == 204
