"""What is dead is deleted on a timer, and nothing else."""

import httpx
import pytest

from invitree.identity.email.actions import send_link
from invitree.kit.context import AppContext
from invitree.run.worker import purge_expired
from tests.cast import Cast, Person, refused
from tests.postbox import Postbox


async def _count(ctx: AppContext, table: str, person: Person, column: str = "user_id") -> int:
    found: int = await ctx.db.fetchval(f"SELECT count(*) FROM {table} WHERE {column} = $1", person.id)
    return found


@pytest.fixture
async def ann(cast: Cast) -> Person:
    return await cast.member()


async def test_a_session_goes_when_its_last_refresh_token_has_expired(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, ann: Person
) -> None:
    live, dead = await cast.pair(ann), await cast.pair(ann)
    await ctx.db.execute(
        """
        UPDATE refresh_tokens SET expires_at = now() - interval '1 second' WHERE token_hash = $1
        """,
        ctx.keys.hash(dead.refresh),
    )
    await ctx.db.execute("UPDATE sessions SET created_at = now() - interval '31 days' WHERE user_id = $1", ann.id)
    assert await _count(ctx, "sessions", ann) == 3
    await purge_expired(ctx)
    assert await _count(ctx, "sessions", ann) == 2
    assert (await client.get("/auth/users/me/", headers=ann.headers)).status_code == 200, "an opaque token lives on"
    assert (await client.post("/auth/jwt/refresh/", json={"refresh": live.refresh})).status_code == 200


async def test_a_used_token_is_kept_through_its_life_to_tell_of_a_theft(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, ann: Person
) -> None:
    first = await cast.pair(ann)
    answer = await client.post("/auth/jwt/refresh/", json={"refresh": first.refresh})
    second = answer.json()["refresh"]
    assert (await client.post("/auth/jwt/refresh/", json={"refresh": second})).status_code == 200
    await purge_expired(ctx)
    refused(await client.post("/auth/jwt/refresh/", json={"refresh": first.refresh}), 401, "token_not_valid")
    refused(await client.post("/auth/jwt/refresh/", json={"refresh": second}), 401, "token_not_valid")


async def test_used_tokens_past_their_life_go_and_the_family_lives_on(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, ann: Person
) -> None:
    token = (await cast.pair(ann)).refresh
    old = []
    for _ in range(3):
        old.append(ctx.keys.hash(token))
        token = (await client.post("/auth/jwt/refresh/", json={"refresh": token})).json()["refresh"]
    await ctx.db.execute(
        "UPDATE refresh_tokens SET expires_at = now() - interval '1 second' WHERE token_hash = ANY($1)", old[:2]
    )
    await purge_expired(ctx)
    left = await ctx.db.fetchval("SELECT count(*) FROM refresh_tokens WHERE token_hash = ANY($1)", old)
    assert left == 1
    assert (await client.post("/auth/jwt/refresh/", json={"refresh": token})).status_code == 200


async def test_links_go_a_day_after_their_end_if_they_were_used_and_else_after_a_month(
    client: httpx.AsyncClient, ctx: AppContext, postbox: Postbox, ann: Person
) -> None:
    for _ in range(4):
        await client.post("/auth/users/reset_password/", json={"email": ann.email})
    await postbox.collect()
    await ctx.db.execute(
        """
        UPDATE one_time_tokens AS t SET expires_at = now() - aged.by, used_at = CASE WHEN is_used THEN now() END
        FROM (SELECT id, row_number() OVER (ORDER BY id) AS place FROM one_time_tokens WHERE user_id = $1) AS numbered
        JOIN (VALUES (1, interval '25 hours', TRUE), (2, '23 hours', TRUE), (3, '25 hours', FALSE),
            (4, '32 days', FALSE)) AS aged (place, by, is_used) USING (place)
        WHERE numbered.id = t.id
        """,
        ann.id,
    )
    await purge_expired(ctx)
    left = await ctx.db.fetch("SELECT used_at IS NULL AS unused FROM one_time_tokens WHERE user_id = $1", ann.id)
    assert sorted(row["unused"] for row in left) == [False, True]


async def test_a_letter_that_waited_for_days_has_a_link_that_works(
    client: httpx.AsyncClient, ctx: AppContext, postbox: Postbox, ann: Person
) -> None:
    async with ctx.db.transaction() as tx:
        await send_link(tx, ctx.keys, kind="password_reset", program_id=1, user_id=ann.id, language="en")
    await ctx.db.execute("UPDATE one_time_tokens SET expires_at = now() - interval '6 days' WHERE user_id = $1", ann.id)
    await purge_expired(ctx)
    link = await postbox.link(ann.email)
    body = {**link.body, "new_password": "another horse battery staple"}
    assert (await client.post("/auth/users/reset_password_confirm/", json=body)).status_code == 204


async def test_counts_go_when_they_are_clear(ctx: AppContext) -> None:
    await ctx.db.execute(
        """
        INSERT INTO throttles
        VALUES (1, 't', 'clear', now() - interval '1 s'), (1, 't', 'full', now() + interval '1 h')
        """
    )
    await ctx.throttle.purge(1)
    assert [row["key"] for row in await ctx.db.fetch("SELECT key FROM throttles WHERE scope = 't'")] == [b"full"]
