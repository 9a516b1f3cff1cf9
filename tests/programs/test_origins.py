"""A program's origins, followed by services that run."""

import httpx

from invitree.app import open_resources
from invitree.identity.programs.actions import set_policy
from invitree.kit.context import AppContext
from tests.cast import Cast
from tests.conftest import client_for
from tests.programs.test_policy import within_a_second
from tests.waiting import eventually

ONE, OTHER = "https://one.example", "https://other.example:8443"


async def test_a_programs_origins_are_followed_within_a_second(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    eve, mallory = await cast.stranger(), await cast.stranger()

    async def allowed(*origins: str) -> bool:
        return {origin for origin in (ONE, OTHER) if await is_allowed(client, origin)} == set(origins)

    assert await allowed()
    await set_policy(ctx.db, program_id=eve.program_id, origins=["HTTPS://One.example:443"])
    await within_a_second(lambda: allowed(ONE))
    await set_policy(ctx.db, program_id=mallory.program_id, origins=[ONE, OTHER])
    await within_a_second(lambda: allowed(ONE, OTHER))
    await set_policy(ctx.db, program_id=mallory.program_id, origins=[])
    await within_a_second(lambda: allowed(ONE))
    await set_policy(ctx.db, program_id=eve.program_id, origins=[])
    await within_a_second(allowed)


async def is_allowed(client: httpx.AsyncClient, origin: str) -> bool:
    """Return whether a page of this origin may read an answer."""
    answer = await client.get("/healthz", headers={"Origin": origin})
    return bool(answer.headers.get("access-control-allow-origin") == origin)


async def test_what_changed_while_nothing_was_heard_is_known_after(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    eve = await cast.stranger()
    await ctx.db.execute("UPDATE programs SET origins = $2 WHERE id = $1", eve.program_id, [ONE])
    assert not await is_allowed(client, ONE)
    await ctx.db.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'invitree listener'
        """
    )
    await eventually(lambda: is_allowed(client, ONE))
    await set_policy(ctx.db, program_id=eve.program_id, origins=[])


async def test_a_service_knows_the_programs_origins_when_it_starts(cast: Cast, ctx: AppContext) -> None:
    eve = await cast.stranger()
    await set_policy(ctx.db, program_id=eve.program_id, origins=[ONE])
    async with open_resources(ctx.settings) as opened, client_for(opened) as client:
        assert await is_allowed(client, ONE)
    await set_policy(ctx.db, program_id=eve.program_id, origins=[])
