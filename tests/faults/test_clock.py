"""A clock that was a day ahead and is put right: libfaketime moves the database's, as NTP or a hypervisor does."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from invitree.app import open_resources
from invitree.base.settings import Settings
from invitree.kit.context import AppContext
from invitree.kit.limits.local_rate_limiter import LocalRateLimiter
from invitree.kit.limits.rate_limiter import limit
from invitree.kit.postgres import embedded
from invitree.kit.postgres.embedded import embedded_postgres
from invitree.kit.work.jobs import cap_future_times
from invitree.migrations.upgrade import upgrade
from invitree.run.worker import fix_future_times
from tests.cast import PASSWORD, Cast
from tests.conftest import SECRET, client_for
from tests.service.mailing import ask

LIBRARY = next(Path("/usr").glob("lib*/**/faketime/libfaketime.so.1"), None)
LOGIN = "/auth/token/login/"
Move = Callable[[str], None]

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="no libfaketime: install libfaketime")


@pytest.fixture(scope="module")
def clock() -> Iterator[Path]:
    """The file that says by how much the clock is off; the database beside it must find it."""
    with tempfile.TemporaryDirectory(prefix="invitree-clock-") as folder:
        Path(folder).chmod(0o711)
        file = Path(folder, "offset")
        file.write_text("+0")
        file.chmod(0o644)
        yield file


@pytest.fixture
def move(clock: Path) -> Move:
    """What moves the database's clock: `+1d` is a day ahead, `+0` is right."""
    clock.write_text("+0")
    return lambda offset: (clock.write_text(offset), None)[1]


@pytest.fixture(scope="module")
async def ctx(clock: Path) -> AsyncIterator[AppContext]:
    """A service on a PostgreSQL whose clock is moved."""
    folder, kept = clock.parent / "data", embedded._environment
    moved = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "_environment", lambda: {**kept(), **moved, "DONT_FAKE_MONOTONIC": "1"})
        with embedded_postgres(folder) as url:
            patch.undo()
            await asyncio.to_thread(upgrade, url)
            settings = Settings(database_url=url, data_dir=str(folder), secret_key=SECRET, limit_login="2/5m")
            async with open_resources(settings) as opened:
                yield opened


async def test_the_clock_moves(ctx: AppContext, move: Move) -> None:
    before = await ctx.db.fetchval("SELECT clock_timestamp()")
    move("+1d")
    assert await ctx.db.fetchval("SELECT clock_timestamp()") - before > timedelta(hours=23)
    move("+0")
    assert await ctx.db.fetchval("SELECT clock_timestamp()") - before < timedelta(hours=1)


async def test_whoever_was_refused_may_log_in_once_the_clock_is_right(ctx: AppContext, move: Move) -> None:
    async with client_for(ctx) as client:
        alice = await Cast(client, ctx).member()
        move("+1d")
        wrong = {"email": alice.email, "password": "wrong"}
        answers = [await client.post(LOGIN, json=wrong) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [400, 400, 429]
        move("+0")
        right = {"email": alice.email, "password": PASSWORD}
        assert (await client.post(LOGIN, json=right)).status_code == 200
        answers = [await client.post(LOGIN, json=wrong) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [400, 400, 429]


async def test_counts_in_memory_are_learned_no_further_ahead_than_their_period(ctx: AppContext, move: Move) -> None:
    one = limit("clock", "3/1m", "someone")
    ahead, later = LocalRateLimiter(ctx.db, ctx.keys, on=True), LocalRateLimiter(ctx.db, ctx.keys, on=True)
    move("+1d")
    ahead.count({}, 1, one)
    await ahead.sync()
    move("+0")
    later.count({}, 1, one)
    await later.sync()
    count = "SELECT extract(epoch FROM clear_at - clock_timestamp()) FROM throttles WHERE scope = 'clock'"
    assert 0 < await ctx.db.fetchval(count) <= 60 + one.step_s


async def test_mail_that_was_under_way_or_waited_is_taken_up_again(ctx: AppContext, move: Move) -> None:
    move("+1d")
    for _ in range(3):
        await ask(ctx.db)
    [picked, delayed, _] = [row["id"] for row in await ctx.db.fetch("SELECT id FROM pgqueuer ORDER BY id")]
    await ctx.db.execute("UPDATE pgqueuer SET status = 'picked', heartbeat = now() WHERE id = $1", picked)
    await ctx.db.execute("UPDATE pgqueuer SET execute_after = now() + interval '1 minute' WHERE id = $1", delayed)
    move("+0")
    await fix_future_times(ctx)
    late = "SELECT count(*) FROM pgqueuer WHERE greatest(heartbeat, execute_after) > now() + interval '1 minute'"
    assert await ctx.db.fetchval(late) == 0


async def test_mail_that_waits_for_its_next_attempt_goes_on_waiting(ctx: AppContext, move: Move) -> None:
    number = await ask(ctx.db)
    await ctx.db.execute("UPDATE pgqueuer SET execute_after = now() + interval '1 hour' WHERE id = $1", number)
    await cap_future_times(ctx.db, longest_delay=timedelta(hours=1))
    waits = "SELECT execute_after > now() + interval '59 minutes' FROM pgqueuer WHERE id = $1"
    assert await ctx.db.fetchval(waits, number)


async def test_a_clock_that_goes_back_keeps_nobody_out(ctx: AppContext, move: Move) -> None:
    async with client_for(ctx) as client:
        alice = await Cast(client, ctx).member()
        answer = await client.post(LOGIN, json={"email": alice.email, "password": PASSWORD})
        token = {"Authorization": f"Token {answer.json()['auth_token']}"}
        move("-1d")
        assert (await client.get("/auth/users/me/", headers=token)).status_code == 200
        answer = await client.post(LOGIN, json={"email": alice.email, "password": PASSWORD})
        assert answer.status_code == 200
        move("+0")
