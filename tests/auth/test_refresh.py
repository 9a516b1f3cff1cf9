"""POST /auth/jwt/refresh/ and /auth/jwt/verify/."""

import httpx
import msgspec
import pytest

from invitree.identity.auth.actions import TokenPair
from invitree.kit.context import AppContext
from tests.cast import Cast, Person, refused

REFRESH, VERIFY, ME = "/auth/jwt/refresh/", "/auth/jwt/verify/", "/auth/users/me/"
INVALID = "Token is invalid or expired"


async def refresh(client: httpx.AsyncClient, token: str) -> TokenPair:
    answer = await client.post(REFRESH, json={"refresh": token})
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"access", "refresh", "access_expires_at", "refresh_expires_at"}
    assert answer.headers["cache-control"] == "no-store"
    return msgspec.json.decode(answer.content, type=TokenPair)


async def is_refused(client: httpx.AsyncClient, path: str, token: str) -> None:
    answer = await client.post(path, json={"refresh" if path == REFRESH else "token": token})
    assert refused(answer, 401, "token_not_valid")["detail"] == INVALID


async def opens(client: httpx.AsyncClient, access: str) -> bool:
    answer = await client.get(ME, headers={"Authorization": f"Bearer {access}"})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


async def used_ago(ctx: AppContext, person: Person, seconds: int) -> None:
    """Move the use of a person's tokens into the past."""
    await ctx.db.execute(
        """
        UPDATE refresh_tokens t SET used_at = t.used_at - make_interval(secs => $3)
        FROM sessions s WHERE s.program_id = t.program_id AND s.id = t.session_id
          AND s.program_id = $1 AND s.user_id = $2 AND t.used_at IS NOT NULL
        """,
        person.program_id,
        person.id,
        seconds,
    )


async def is_dead(client: httpx.AsyncClient, *pairs: TokenPair) -> None:
    for pair in pairs:
        await is_refused(client, REFRESH, pair.refresh)
        await is_refused(client, VERIFY, pair.refresh)
        await is_refused(client, VERIFY, pair.access)
        assert not await opens(client, pair.access)


@pytest.mark.parametrize("path", [REFRESH, REFRESH.rstrip("/")])
async def test_a_refresh_token_is_exchanged_for_a_new_pair(client: httpx.AsyncClient, cast: Cast, path: str) -> None:
    first = await cast.pair(await cast.member())
    answer = await client.post(path, json={"refresh": first.refresh})
    second = msgspec.json.decode(answer.content, type=TokenPair)
    third = await refresh(client, second.refresh)
    assert len({first.refresh, second.refresh, third.refresh}) == 3
    assert len({first.access, second.access, third.access}) == 3
    assert all([await opens(client, pair.access) for pair in (first, second, third)])


async def test_a_client_that_lost_the_answer_gets_the_same_successor(client: httpx.AsyncClient, cast: Cast) -> None:
    first = await cast.pair(await cast.member())
    seconds = [await refresh(client, first.refresh) for _ in range(3)]
    assert len({pair.refresh for pair in seconds}) == 1
    assert (await refresh(client, seconds[0].refresh)).refresh != seconds[0].refresh


async def test_a_repeated_refresh_gets_the_successor_for_19_seconds(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice = await cast.member()
    first = await cast.pair(alice)
    second = await refresh(client, first.refresh)
    await used_ago(ctx, alice, 19)
    assert (await refresh(client, first.refresh)).refresh == second.refresh


async def test_a_token_used_again_after_the_grace_ends_the_whole_session(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice = await cast.member()
    first, other = await cast.pair(alice), await cast.pair(alice)
    second = await refresh(client, first.refresh)
    await used_ago(ctx, alice, 20)
    await is_refused(client, REFRESH, first.refresh)
    await is_dead(client, first, second)
    assert await opens(client, other.access)
    assert (await client.get(ME, headers=alice.headers)).status_code == 200


async def test_a_token_used_again_after_its_successor_ends_the_whole_session(
    client: httpx.AsyncClient, cast: Cast
) -> None:
    first = await cast.pair(await cast.member())
    second = await refresh(client, first.refresh)
    third = await refresh(client, second.refresh)
    await is_refused(client, REFRESH, first.refresh)
    await is_dead(client, first, second, third)


async def test_an_expired_token_is_refused_and_ends_nothing(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice = await cast.member()
    pair = await cast.pair(alice)
    await ctx.db.execute(
        """
        UPDATE refresh_tokens t SET expires_at = clock_timestamp() FROM sessions s
        WHERE s.program_id = t.program_id AND s.id = t.session_id AND s.user_id = $1
        """,
        alice.id,
    )
    await is_refused(client, REFRESH, pair.refresh)
    await is_refused(client, VERIFY, pair.refresh)
    assert await opens(client, pair.access)


async def test_a_refresh_token_lives_thirty_days(client: httpx.AsyncClient, cast: Cast, ctx: AppContext) -> None:
    alice = await cast.member()
    await refresh(client, (await cast.pair(alice)).refresh)
    lives = await ctx.db.fetch(
        """
        SELECT date_part('day', t.expires_at - t.created_at + interval '1 s') AS days
        FROM refresh_tokens t JOIN sessions s ON s.program_id = t.program_id AND s.id = t.session_id
        WHERE s.user_id = $1
        """,
        alice.id,
    )
    assert [row["days"] for row in lives] == [30, 30]


async def test_a_deactivated_users_tokens_are_refused(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    pair = await cast.pair(alice)
    await cast.deactivate(alice)
    await is_refused(client, REFRESH, pair.refresh)
    await is_refused(client, VERIFY, pair.access)
    await is_refused(client, VERIFY, pair.refresh)


@pytest.mark.parametrize("kind", ["access", "session token", "nonsense", "another program's", "other secret"])
async def test_foreign_refresh_tokens_are_refused(client: httpx.AsyncClient, cast: Cast, kind: str) -> None:
    alice = await cast.member()
    pair, eve = await cast.pair(alice), await cast.stranger()
    theirs = await cast.pair(eve)
    tokens = {
        "access": pair.access,
        "session token": alice.token,
        "nonsense": "nonsense",
        "another program's": f"{alice.program_id}.{theirs.refresh.partition('.')[2]}",
        "other secret": f"{pair.refresh[:-1]}{'A' if pair.refresh[-1] != 'A' else 'B'}",
    }
    before = await cast.contents()
    await is_refused(client, REFRESH, tokens[kind])
    assert await cast.contents() == before


async def test_verify_knows_a_good_token_of_each_kind(client: httpx.AsyncClient, cast: Cast) -> None:
    pair = await cast.pair(await cast.member())
    for token in (pair.access, pair.refresh):
        for path in (VERIFY, VERIFY.rstrip("/")):
            answer = await client.post(path, json={"token": token})
            assert (answer.status_code, answer.json()) == (200, {})
    await refresh(client, pair.refresh)  # which verifying has not used up
    await is_refused(client, VERIFY, pair.refresh)


@pytest.mark.parametrize("token", ["x", "1.x", "ü", "a.b.c", "1." + "a" * 8000, "\u0660.x"])
async def test_verify_refuses_anything_else(client: httpx.AsyncClient, token: str) -> None:
    await is_refused(client, VERIFY, token)
    await is_refused(client, REFRESH, token)


async def test_the_refusal_is_told_in_russian(client: httpx.AsyncClient) -> None:
    answer = await client.post(REFRESH, json={"refresh": "x"}, headers={"Accept-Language": "ru"})
    assert refused(answer, 401, "token_not_valid")["detail"] == "Токен недействителен или просрочен."
    assert answer.headers["content-language"] == "ru"


@pytest.mark.parametrize(("path", "field"), [(REFRESH, "refresh"), (VERIFY, "token"), ("/auth/jwt/logout/", "refresh")])
async def test_the_token_is_a_required_text_of_at_most_8192_characters(
    client: httpx.AsyncClient, path: str, field: str
) -> None:
    refused(await client.post(path, json={}), 400, "invalid_input", **{field: ["This field is required."]})
    refused(await client.post(path, json={field: 1}), 400, "invalid_input", **{field: ["This has the wrong type."]})
    too_long = "Ensure this field has no more than 8192 characters."
    refused(await client.post(path, json={field: "x" * 8193}), 400, "invalid_input", **{field: [too_long]})
