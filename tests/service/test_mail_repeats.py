"""A letter that was sent is not sent again for reasons of ours, and one that waits for the operator is not lost."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from msgspec import structs

from invitree.base.settings import Settings
from invitree.kit.context import AppContext
from invitree.kit.work.jobs import Backlog, backlog, retry_jobs
from invitree.kit.work.queue import DELAYS_S
from tests.programs.test_operations import METRICS, client_of
from tests.service import mailing as steps
from tests.service.mailing import ask, in_status, make_stale, reasons, working
from tests.service.postoffice import PostOffice
from tests.waiting import eventually


@pytest.fixture
async def deaf_log(db: Any) -> Any:
    """A job log that takes neither the news of a success nor that of a failure; that a job is begun it takes."""
    await db.execute(
        "ALTER TABLE pgqueuer_log ADD CONSTRAINT deaf CHECK (status <> 'successful' AND traceback IS NULL) NOT VALID"
    )
    yield
    await db.execute("ALTER TABLE pgqueuer_log DROP CONSTRAINT deaf")


@pytest.mark.usefixtures("deaf_log")
async def test_a_letter_that_was_sent_leaves_the_queue_though_the_job_log_cannot_be_written(
    db: Any, office: PostOffice, mailing: Settings
) -> None:
    async with office.is_open(), working(mailing):
        await ask(db)
        await eventually(in_status(db))
    assert len(office.asked) == 1


@pytest.mark.usefixtures("deaf_log")
async def test_a_letter_is_put_off_and_given_up_though_the_job_log_cannot_be_written(
    db: Any, office: PostOffice, mailing: Settings
) -> None:
    office.answers = ["450 later", "450 later", "250 OK", "550 5.1.1 no such user"]
    async with office.is_open(), working(mailing):
        await ask(db)
        await eventually(in_status(db))
        await ask(db)
        await eventually(in_status(db, "failed"))
    assert len(office.asked) == 4


async def test_a_job_that_crashes_after_its_letter_was_sent_sends_it_four_times_at_most(
    db: Any, office: PostOffice, mailing: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def send_and_crash(ctx: AppContext, payload: bytes, job_id: int) -> None:
        await steps.send(ctx, payload, job_id)
        raise BrokenPipeError

    monkeypatch.setitem(steps.JOBS, "send_mail", send_and_crash)
    async with office.is_open(), working(mailing):
        await ask(db)
        await eventually(in_status(db, "failed"))
    assert len(office.letters) == 4
    assert len({letter["Message-ID"] for letter in office.letters}) == 1
    assert (await reasons(db))[-1] == "BrokenPipeError (it may have been done, up to 4 times)"
    assert (await backlog(db, job="send_mail")).most_in_doubt == 4


async def test_a_letter_whose_taking_is_never_confirmed_is_sent_four_times_at_most(
    db: Any, office: PostOffice, mailing: Settings
) -> None:
    office.hold.clear()  # as a server that takes letters and needs longer to say so than anybody waits
    async with office.is_open(), working(mailing):
        await ask(db, timeout_s=0.1)
        await eventually(in_status(db, "failed"))
    assert len(office.asked) == 4


async def test_attempts_that_surely_sent_nothing_are_not_counted_among_those(
    db: Any, office: PostOffice, mailing: Settings
) -> None:
    office.answers = ["450 later"] * 8
    async with office.is_open(), working(mailing):
        await ask(db)
        await eventually(in_status(db))
    assert len(office.asked) == 9
    assert len(office.letters) == 1


async def test_a_letter_during_which_workers_end_is_given_up_before_the_fifth_time_and_can_be_retried(
    db: Any, office: PostOffice, mailing: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    await ask(db)
    await db.execute("UPDATE pgqueuer SET status = 'picked', headers = '{\"in_doubt\": 3}'")
    await make_stale(db)
    office.answers = ["450 later"]
    async with office.is_open(), working(mailing):
        await eventually(in_status(db))
        assert len(office.asked) == 2
        async with db.transaction():  # or the worker would have it first
            number = await ask(db)
            await db.execute("UPDATE pgqueuer SET status = 'picked', headers = '{\"in_doubt\": 4}'")
            await make_stale(db)
        await eventually(in_status(db, "failed"))
        assert len(office.asked) == 2
        assert "job.repeated" in capsys.readouterr().out
        [reason] = [said for said in await reasons(db) if "again and again" in said]
        assert "up to 4 times" in reason
        await retry_jobs(db, ids=[number])
        await eventually(in_status(db))
    assert len(office.letters) == 2


async def test_an_attempt_is_recorded_before_the_email_is_sent(db: Any, office: PostOffice, mailing: Settings) -> None:
    office.hold.clear()
    async with office.is_open(), working(mailing):
        await ask(db)
        await eventually(lambda: len(office.asked) == 1)
        assert (await backlog(db, job="send_mail")).most_in_doubt == 1
        office.hold.set()
        await eventually(in_status(db))


async def test_letters_wait_for_what_the_operator_has_to_mend_and_the_log_says_so_once(
    db: Any, office: PostOffice, mailing: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    office.sender = "553 5.7.1 <invitree@localhost>: Sender address rejected: not owned by user"
    said: list[str] = []

    def blocked() -> list[str]:
        said.append(capsys.readouterr().out)
        return re.findall(r"jobs\.(?:un)?blocked", "".join(said))

    async with office.is_open(), working(mailing, (0.05,) * 1000):
        for to in ("anna@example.com", "boris@example.com"):
            await ask(db, to=to)
        await eventually(lambda: len(office.senders) >= 8)
        assert (await backlog(db, job="send_mail")).given_up == 0
        assert sum("553" in reason for reason in await reasons(db)) >= 6
        office.sender = "550 5.1.8 <invitree@localhost>: Sender address rejected: Domain not found"
        await eventually(lambda: len(blocked()) == 2)
        office.sender = "250 OK"
        await eventually(in_status(db))
    assert sorted(letter["To"] for letter in office.letters) == ["anna@example.com", "boris@example.com"]
    assert blocked() == ["jobs.blocked", "jobs.blocked", "jobs.unblocked"]
    assert "job.postponed" not in "".join(said)


def test_the_operator_has_days_to_mend_it() -> None:
    assert 4.5 < sum(DELAYS_S) / 86_400 < 5.5
    assert max(DELAYS_S) == 3600


async def test_the_backlog_counts_what_waits_is_blocked_and_was_given_up(db: Any, ctx: AppContext) -> None:
    assert await backlog(db, job="send_mail") == Backlog()
    for _ in range(4):
        await ask(db)
    first = await db.fetchval("SELECT min(id) FROM pgqueuer")
    await db.execute("UPDATE pgqueuer SET status = 'failed' WHERE id = $1", first)
    await db.execute('UPDATE pgqueuer SET headers = \'{"obstacle": "login 535"}\' WHERE id = $1', first + 1)
    await db.execute("UPDATE pgqueuer SET headers = '{\"in_doubt\": 2}' WHERE id = $1", first + 2)
    await db.execute("UPDATE pgqueuer SET created = now() - interval '1 hour' WHERE id = $1", first + 3)
    found = await backlog(db, job="send_mail")
    assert (found.waiting, found.blocked, found.given_up, found.most_in_doubt) == (3, 1, 1, 2)
    assert 3600 <= found.oldest_s < 3700
    guarded = structs.replace(ctx, settings=structs.replace(ctx.settings, metrics_token="m" * 20))
    async with client_of(guarded) as client:
        answer = await client.get(METRICS, headers={"Authorization": f"Bearer {'m' * 20}"})
    seen = dict(re.findall(r"^(invitree_mail_\w+) (\S+)$", answer.text, re.MULTILINE))
    assert 3600 <= float(seen.pop("invitree_mail_oldest_waiting_seconds")) < 3700
    assert seen == {
        "invitree_mail_waiting": "3.0",
        "invitree_mail_blocked": "1.0",
        "invitree_mail_given_up": "1.0",
        "invitree_mail_repeats_max": "2.0",
    }


class _Broken:
    """A logger whose reader has gone."""

    def __getattr__(self, _: str) -> Callable[..., None]:
        def fail(*_: Any, **__: Any) -> None:
            raise BrokenPipeError

        return fail


async def test_a_letter_is_written_once_though_no_log_line_can_be(db: Any, settings: Settings) -> None:
    configured = structlog.get_config()
    structlog.configure(logger_factory=lambda *_: _Broken())
    try:
        async with working(settings):
            await ask(db)
            await eventually(in_status(db))
            await ask(db)
            await eventually(in_status(db))
    finally:
        structlog.configure(**configured)
    assert len(list((Path(settings.data_dir) / "outbox").glob("*.eml"))) == 2
