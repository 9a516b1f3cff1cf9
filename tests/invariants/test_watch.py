"""The worker checks on a timer what must always hold, and says so where people look."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from msgspec import structs
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from invitree.invariants import INVARIANTS
from invitree.kit.context import AppContext
from invitree.run.worker import PERIODIC_TASKS, run, watch_invariants
from tests.cast import Cast
from tests.programs.test_operations import METRICS, client_of, without_a_database

TOKEN = "let me see them"


@pytest.fixture
async def two_codes(ctx: AppContext, cast: Cast) -> AsyncIterator[int]:
    """Somebody with two live codes, by their id, for the length of a test."""
    ann = await cast.member()
    code = await cast.code(ann)
    await ctx.db.execute("DROP INDEX codes_one_live")
    await ctx.db.execute(
        """
        INSERT INTO codes (program_id, user_id, code, expires_at)
        SELECT program_id, user_id, 'TWO', expires_at FROM codes WHERE code = $1
        """,
        code,
    )
    yield ann.id
    await ctx.db.execute("DELETE FROM codes WHERE code = 'TWO'")
    await ctx.db.execute("CREATE UNIQUE INDEX codes_one_live ON codes (program_id, user_id) WHERE revoked_at IS NULL")


async def seen(ctx: AppContext) -> dict[str, dict[str, float]]:
    """Return the metrics about invariants: of each, the value by the invariant's name."""
    guarded = structs.replace(ctx, settings=structs.replace(ctx.settings, metrics_token=TOKEN))
    async with client_of(guarded) as client:
        answer = await client.get(METRICS, headers={"Authorization": f"Bearer {TOKEN}"})
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(answer.text):
        if family.name.startswith("invitree_invariant"):
            found[family.name] = {sample.labels["invariant"]: sample.value for sample in family.samples}
    return found


async def test_a_broken_one_is_logged_and_counted_until_it_is_mended(ctx: AppContext, two_codes: int) -> None:
    assert (await seen(ctx))["invitree_invariant_broken_rows"] == {}
    with capture_logs() as lines:
        await watch_invariants(ctx)
    [line] = [line for line in lines if line["event"] == "invariant.broken"]
    assert (line["log_level"], line["name"], line["rows"]) == ("error", "I1", 1)
    assert line["examples"] == [f"program_id=1, user_id={two_codes}"]
    counts = (await seen(ctx))["invitree_invariant_broken_rows"]
    assert counts == {invariant.name: float(invariant.name == "I1") for invariant in INVARIANTS}
    await ctx.db.execute("DELETE FROM codes WHERE code = 'TWO'")
    await watch_invariants(ctx)
    assert set((await seen(ctx))["invitree_invariant_broken_rows"].values()) == {0.0}


async def test_metrics_tell_when_each_invariant_was_checked(ctx: AppContext) -> None:
    began = (await ctx.db.fetchval("SELECT clock_timestamp()")).timestamp()
    await watch_invariants(ctx)
    times = (await seen(ctx))["invitree_invariant_checked_timestamp_seconds"]
    assert times.keys() == {invariant.name for invariant in INVARIANTS}
    assert min(times.values()) >= began


async def test_the_worker_does_it_again_and_again(ctx: AppContext) -> None:
    assert watch_invariants in [task for _, task in PERIODIC_TASKS]
    stop = asyncio.Event()
    worker = asyncio.create_task(run(ctx.settings, {}, stop=stop, periodic=[(0.01, watch_invariants)]))
    checked: set[object] = set()
    async with asyncio.timeout(60):
        while len(checked) < 3:
            checked.add(await ctx.db.fetchval("SELECT max(checked_at) FROM invariant_checks"))
            await asyncio.sleep(0.01)
    stop.set()
    await worker


async def test_while_the_database_is_away_the_other_metrics_are_there(ctx: AppContext) -> None:
    gone = await without_a_database(ctx)
    assert await seen(gone) == {
        "invitree_invariant_broken_rows": {},
        "invitree_invariant_checked_timestamp_seconds": {},
    }
