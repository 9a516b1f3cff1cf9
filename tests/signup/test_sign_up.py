"""POST /auth/users/ without a code."""

from typing import Any

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, refused

PATH = "/auth/users/"
LOGIN = "/auth/token/login/"


def form(name: str, **changes: Any) -> dict[str, Any]:
    return {"email": f"{name}@example.com", "username": name, "password": PASSWORD, **changes}


async def refuse(client: httpx.AsyncClient, cast: Cast, body: Any, **fields: list[str]) -> None:
    before = await cast.contents()
    refused(await client.post(PATH, json=body), 400, "invalid_input", **fields)
    assert await cast.contents() == before


@pytest.mark.parametrize("path", [PATH, PATH.rstrip("/")])
async def test_anyone_signs_up_and_logs_in(client: httpx.AsyncClient, ctx: AppContext, path: str) -> None:
    name = "alice" if path == PATH else "alisa"
    answer = await client.post(path, json=form(name, re_password=PASSWORD))
    assert answer.status_code == 201
    user_id = answer.json()["id"]
    assert answer.json() == {"email": f"{name}@example.com", "username": name, "id": user_id}
    assert answer.headers["cache-control"] == "no-store"
    row = await ctx.db.fetchrow("SELECT * FROM users WHERE id = $1", user_id)
    assert (row["is_staff"], row["is_active"]) == (False, True)
    assert row["password_hash"].startswith("$argon2id$")
    login = await client.post(LOGIN, json={"username": name, "password": PASSWORD})
    assert login.status_code == 200
    assert await ctx.db.fetchval("SELECT count(*) FROM referrals") == 0


async def test_three_forms_of_the_address_are_stored(client: httpx.AsyncClient, ctx: AppContext) -> None:
    answer = await client.post(PATH, json=form("forms", email=" A.Forms+X@GMail.com "))
    assert answer.json()["email"] == "A.Forms+X@GMail.com"
    row = await ctx.db.fetchrow("SELECT * FROM users WHERE id = $1", answer.json()["id"])
    forms = ("A.Forms+X@GMail.com", "a.forms+x@gmail.com", "aforms@gmail.com")
    assert (row["email"], row["email_key"], row["email_identity"]) == forms


@pytest.mark.parametrize(
    "again",
    [
        "double@example.com",
        "DOUBLE@example.com",
        "Double@Example.Com",
        " double@example.com ",
        "ｄouble@example.com",
        "double＠example.com",
        "double@ｅxample.com",
        "double@EXAMPLE.com",
    ],
)
async def test_an_address_is_taken_however_it_is_written(client: httpx.AsyncClient, cast: Cast, again: str) -> None:
    await client.post(PATH, json=form("double"))
    await refuse(client, cast, form("other", email=again), email=["A user with that email already exists."])


@pytest.mark.parametrize(
    ("first", "again"),
    [
        ("ü1@example.com", "u\u03081@example.com"),
        ("straße@example.com", "strasse@example.com"),
        ("u2@münchen.de", "u2@xn--mnchen-3ya.de"),
        ("u3@МОСКВА.рф", "u3@москва.рф"),
    ],
)
async def test_an_address_is_taken_in_every_unicode_form(
    client: httpx.AsyncClient, cast: Cast, first: str, again: str
) -> None:
    name = f"user{abs(hash(first))}"
    assert (await client.post(PATH, json=form(name, email=first))).status_code == 201
    await refuse(client, cast, form(f"x{name}", email=again), email=["A user with that email already exists."])


async def test_a_plus_tag_or_a_dot_makes_another_address(client: httpx.AsyncClient) -> None:
    for number, email in enumerate(["tag@gmail.com", "tag+1@gmail.com", "t.ag@gmail.com"]):
        assert (await client.post(PATH, json=form(f"tag{number}", email=email))).status_code == 201


@pytest.mark.parametrize("again", ["namesake", "ｎamesake"])
async def test_a_username_is_taken_in_any_width(client: httpx.AsyncClient, cast: Cast, again: str) -> None:
    await client.post(PATH, json=form("namesake"))
    complaint = "A user with that username already exists."
    await refuse(client, cast, form(again, email="namesake2@example.com"), username=[complaint])


async def test_another_programs_address_and_name_are_free(client: httpx.AsyncClient, cast: Cast) -> None:
    eve = await cast.stranger()
    answer = await client.post(PATH, json=form(eve.username))
    assert (answer.status_code, answer.json()["email"]) == (201, eve.email)
    assert answer.json()["id"] != eve.id


async def test_a_member_of_another_program_signs_up_into_their_own(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    eve = await cast.stranger()
    answer = await client.post(PATH, json=form("evesfriend"), headers=eve.headers)
    program = await ctx.db.fetchval("SELECT program_id FROM users WHERE id = $1", answer.json()["id"])
    assert program == eve.program_id


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"email": "nonsense"}, {"email": ["Enter a valid email address."]}),
        ({"email": "a@b\ud800.com".encode("utf-16", "surrogatepass").decode("utf-16", "replace")}, None),
        ({"email": ""}, {"email": ["This field may not be blank."]}),
        ({"email": "a" * 250 + "@b.co"}, {"email": ["Ensure this field has no more than 254 characters."]}),
        ({"username": ""}, {"username": ["This field may not be blank."]}),
        ({"username": "a b"}, None),
        ({"username": "a" * 151}, {"username": ["Ensure this field has no more than 150 characters."]}),
        ({"password": "short"}, None),
        ({"password": "password"}, None),
        ({"password": "wrongform1"}, None),
        ({"password": "x" * 1025}, None),
        ({"re_password": "something else"}, {"non_field_errors": ["The two password fields didn't match."]}),
        ({"re_password": ""}, {"non_field_errors": ["The two password fields didn't match."]}),
        ({"email": 1}, {"email": ["This has the wrong type."]}),
        ({"email": None}, {"email": ["This field may not be null."]}),
        ({"username": []}, {"username": ["This has the wrong type."]}),
        ({"password": 12345678}, {"password": ["This has the wrong type."]}),
        ({"referral_code": 1}, {"referral_code": ["This has the wrong type."]}),
        ({"email": "a\0@b.co"}, {"email": ["Null characters are not allowed."]}),
        ({"username": "a\0"}, {"username": ["Null characters are not allowed."]}),
        ({"password": "correct\0horse battery"}, {"password": ["Null characters are not allowed."]}),
        ({"referral_code": "\0"}, {"referral_code": ["Null characters are not allowed."]}),
    ],
    ids=lambda value: ascii(value)[:40],
)
async def test_a_wrong_field_is_named_and_nobody_is_made(
    client: httpx.AsyncClient, cast: Cast, changes: dict[str, Any], fields: dict[str, list[str]] | None
) -> None:
    body = form("wrongform", **changes)
    if fields is None:
        (name,) = changes
        fields = {name: (await client.post(PATH, json=body)).json()[name]}
    await refuse(client, cast, body, **fields)
    assert (await client.post(LOGIN, json={"username": "wrongform", "password": PASSWORD})).status_code == 400


@pytest.mark.parametrize("name", ["email", "username", "password"])
async def test_a_missing_field_is_named(client: httpx.AsyncClient, cast: Cast, name: str) -> None:
    body = form("missing")
    del body[name]
    await refuse(client, cast, body, **{name: ["This field is required."]})


async def test_every_complaint_is_told_at_once(client: httpx.AsyncClient, cast: Cast) -> None:
    complaints = refused_fields = {
        "email": ["Enter a valid email address."],
        "username": ["Enter a valid username. This value may contain only letters, numbers, and @/./+/-/_ characters."],
        "password": [
            "This password is too short. It must contain at least 8 characters.",
            "This password is entirely numeric.",
            "This password is too common.",
            "Add another word or two. Uncommon words are better.",
        ],
    }
    await refuse(client, cast, {"email": "a", "username": "a b", "password": "123456"}, **refused_fields)
    assert complaints


async def test_complaints_are_told_in_russian(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        PATH, json=form("ru", password="123456"), headers={"Accept-Language": "ru;q=0.9,en;q=0.8"}
    )
    complaints = [
        "Введённый пароль слишком короткий. Он должен содержать как минимум 8 символов.",
        "Введённый пароль состоит только из цифр.",
        "Введённый пароль слишком широко распространён.",
        "Добавьте ещё одно-два слова, лучше редких.",
    ]
    assert refused(answer, 400, "invalid_input", password=complaints)["detail"] == f"password: {complaints[0]}"
    assert answer.headers["content-language"] == "ru"
