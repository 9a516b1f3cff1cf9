"""POST /auth/token/logout/ and /auth/jwt/logout/: the end of a session is the end of all its tokens, at once."""

import httpx
import pytest

from tests.cast import Cast, Person, refused

LOGOUT, JWT_LOGOUT, ME = "/auth/token/logout/", "/auth/jwt/logout/", "/auth/users/me/"


def forms(access: str) -> list[dict[str, str]]:
    return [{"Authorization": f"{scheme} {access}"} for scheme in ("JWT", "Bearer")]


async def status(client: httpx.AsyncClient, headers: dict[str, str]) -> int:
    return (await client.get(ME, headers=headers)).status_code


async def second_device(client: httpx.AsyncClient, person: Person) -> dict[str, str]:
    answer = await client.post(
        "/auth/token/login/", json={"email": person.email, "password": "correct horse battery staple"}
    )
    return {"Authorization": f"Token {answer.json()['auth_token']}"}


@pytest.mark.parametrize("path", [LOGOUT, LOGOUT.rstrip("/"), f"{LOGOUT}?all=false"])
async def test_logging_out_ends_this_device_only(client: httpx.AsyncClient, cast: Cast, path: str) -> None:
    alice, bob = await cast.member(), await cast.member()
    other = await second_device(client, alice)
    pair = await cast.pair(alice)
    answer = await client.post(path, headers=alice.headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["cache-control"] == "no-store"
    assert await status(client, alice.headers) == 401
    assert [await status(client, headers) for headers in (other, *forms(pair.access), bob.headers)] == [200] * 4


async def test_logging_out_with_an_access_token_ends_its_session(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    pair, other = await cast.pair(alice), await cast.pair(alice)
    following = (await client.post("/auth/jwt/refresh/", json={"refresh": pair.refresh})).json()
    assert (await client.post(LOGOUT, headers=forms(pair.access)[0])).status_code == 204
    dead = [*forms(pair.access), *forms(following["access"])]
    assert [await status(client, headers) for headers in dead] == [401] * 4
    answer = await client.post("/auth/jwt/refresh/", json={"refresh": following["refresh"]})
    refused(answer, 401, "token_not_valid")
    assert await status(client, forms(other.access)[0]) == 200
    assert await status(client, alice.headers) == 200


async def test_logging_out_everywhere_ends_every_device_of_this_user(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, bob = await cast.member(), await cast.member()
    other, pair, kept = await second_device(client, alice), await cast.pair(alice), await cast.pair(bob)
    answer = await client.post(f"{LOGOUT}?all=true", headers=other)
    assert (answer.status_code, answer.content) == (204, b"")
    dead = [alice.headers, other, *forms(pair.access)]
    assert [await status(client, headers) for headers in dead] == [401] * 4
    answer = await client.post("/auth/jwt/refresh/", json={"refresh": pair.refresh})
    refused(answer, 401, "token_not_valid")
    assert [await status(client, headers) for headers in (bob.headers, *forms(kept.access))] == [200] * 3


async def test_a_stranger_with_the_same_user_id_is_not_logged_out(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, eve = await cast.member(), await cast.stranger()
    await client.post(f"{LOGOUT}?all=true", headers=alice.headers)
    assert await status(client, eve.headers) == 200


async def test_all_is_true_or_false(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    answer = await client.post(f"{LOGOUT}?all=perhaps", headers=alice.headers)
    refused(answer, 400, "invalid_input", all=["This value is not allowed here."])
    assert await status(client, alice.headers) == 200


async def test_logging_out_twice_is_refused(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    assert (await client.post(LOGOUT, headers=alice.headers)).status_code == 204
    refused(await client.post(LOGOUT, headers=alice.headers), 401, "unauthenticated")


@pytest.mark.parametrize("which", ["unused", "used", "successor"])
async def test_a_refresh_token_used_or_not_ends_its_session(client: httpx.AsyncClient, cast: Cast, which: str) -> None:
    alice = await cast.member()
    pair, other = await cast.pair(alice), await cast.pair(alice)
    refresh = pair.refresh
    if which != "unused":
        following = (await client.post("/auth/jwt/refresh/", json={"refresh": refresh})).json()["refresh"]
        refresh = following if which == "successor" else refresh
    for _ in range(2):  # safe to repeat
        answer = await client.post(JWT_LOGOUT, json={"refresh": refresh})
        assert (answer.status_code, answer.content) == (204, b"")
    assert [await status(client, headers) for headers in forms(pair.access)] == [401, 401]
    refused(await client.post("/auth/jwt/refresh/", json={"refresh": refresh}), 401, "token_not_valid")
    assert await status(client, forms(other.access)[0]) == 200


@pytest.mark.parametrize("kind", ["access", "session token", "nonsense", "another's secret"])
async def test_logout_with_an_invalid_refresh_token_ends_nothing(
    client: httpx.AsyncClient, cast: Cast, kind: str
) -> None:
    alice, eve = await cast.member(), await cast.stranger()
    theirs = await cast.pair(eve)
    token = {
        "access": (await cast.pair(alice)).access,
        "session token": alice.token,
        "nonsense": "nonsense",
        "another's secret": f"{alice.program_id}.{theirs.refresh.partition('.')[2]}",
    }[kind]
    before = await cast.contents()
    assert (await client.post(JWT_LOGOUT, json={"refresh": token})).status_code == 204
    assert await cast.contents() == before
