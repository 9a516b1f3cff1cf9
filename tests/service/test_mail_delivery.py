"""From a row to a mailbox: whatever the mail server does, a letter arrives, once, or is kept for the operator."""

import asyncio
import json
import time
from typing import Any

import pytest

from invitree.base.settings import Settings
from invitree.kit.context import AppContext
from invitree.run.worker import run as run_worker
from tests.process import run
from tests.service.mailing import ask, in_status, reasons, statuses, working
from tests.service.postoffice import PostOffice
from tests.waiting import eventually


async def test_a_letter_that_is_put_off_arrives_once(db: Any, office: PostOffice, mailing: Settings) -> None:
    office.answers = ["450 4.2.1 greylisted", "421 too many connections"]
    async with office.is_open(), working(mailing):
        await ask(db)
        await eventually(in_status(db))
    assert len(office.asked) == 3
    assert [letter["To"] for letter in office.letters] == ["anna@example.com"]
    assert [reason[:3] for reason in await reasons(db)] == ["450", "421"]


async def test_many_letters_arrive_once_each(db: Any, office: PostOffice, mailing: Settings) -> None:
    everybody = [f"anna{number}@example.com" for number in range(40)]
    office.answers = ["250 OK", "451 later"] * 20
    async with office.is_open(), working(mailing), working(mailing):
        for to in everybody:
            await ask(db, to=to)
        await eventually(in_status(db))
    assert sorted(letter["To"] for letter in office.letters) == sorted(everybody)
    assert len({letter["Message-ID"] for letter in office.letters}) == 40


async def test_a_letter_keeps_its_message_id_when_it_is_sent_again(
    db: Any, office: PostOffice, mailing: Settings
) -> None:
    office.hold.clear()  # it is taken after the worker has given up waiting, as by a server that is too slow
    async with office.is_open(), working(mailing, (0.05,)):
        await ask(db, patience_s=0.3)
        await eventually(lambda: len(office.asked) == 2)
        office.hold.set()
        await eventually(in_status(db))
    assert len({letter["Message-ID"] for letter in office.letters}) == 1


async def test_a_letter_waits_for_a_server_that_is_down(db: Any, office: PostOffice, mailing: Settings) -> None:
    async with working(mailing):
        await ask(db)
        await eventually(lambda: _has_reasons(db))
        async with office.is_open():
            await eventually(in_status(db))
    assert len(office.letters) == 1


async def _has_reasons(db: Any) -> bool:
    return bool(await reasons(db))


async def test_a_letter_is_given_up_after_its_last_attempt(db: Any, office: PostOffice, mailing: Settings) -> None:
    office.answers = ["450 later"] * 10
    async with office.is_open(), working(mailing, (0.01, 0.01)):
        await ask(db)
        await eventually(in_status(db, "failed"))
    assert len(office.asked) == 3
    assert await db.fetchval("SELECT attempts FROM pgqueuer") == 2


async def test_a_letter_that_is_refused_is_listed_and_retried_by_hand(
    db: Any, office: PostOffice, mailing: Settings
) -> None:
    office.answers = ["550 5.1.1 <anna@example.com>: no such user"]
    environment = {"INVITREE_DATABASE_URL": mailing.database_url}
    async with office.is_open(), working(mailing):
        number = await ask(db)
        await eventually(in_status(db, "failed"))
        assert len(office.asked) == 1, "it was tried again"
        listed = await asyncio.to_thread(run, "mail", "list", "--failed", env=environment)
        heads, row = listed.stdout.splitlines()
        assert heads.split() == ["id", "kind", "to", "status", "attempts", "since", "next", "reason"]
        assert row.split()[:5] == [str(number), "activation", "a***@e***.com", "failed", "1"]
        assert row.endswith("550 5.1.1 <***>: no such user")
        [told] = json.loads((await asyncio.to_thread(run, "mail", "list", "--json", env=environment)).stdout)
        assert (told["id"], told["next"], told["reason"]) == (number, None, "550 5.1.1 <***>: no such user")
        retried = await asyncio.to_thread(run, "mail", "retry", str(number), env=environment)
        assert retried.stdout == f"Queued again: {number}.\n"
        await eventually(in_status(db))
    assert len(office.letters) == 1


async def test_all_that_was_given_up_is_retried_with_all_its_attempts(
    db: Any, office: PostOffice, mailing: Settings
) -> None:
    environment = {"INVITREE_DATABASE_URL": mailing.database_url}
    numbers = [await ask(db), await ask(db, to="boris@example.com")]
    await db.execute("UPDATE pgqueuer SET status = 'failed', attempts = 12")
    waiting = await ask(db, to="vera@example.com")
    done = await asyncio.to_thread(run, "mail", "retry", "--all", env=environment)
    assert done.stdout == f"Queued again: {numbers[0]}, {numbers[1]}.\n"
    assert {row["attempts"] for row in await db.fetch("SELECT attempts FROM pgqueuer")} == {0}
    for args, expected in (
        ([str(waiting)], f"letter {waiting} was not given up: it is queued"),
        (["999999"], "there is no letter 999999"),
        ([str(waiting), "--all"], "name letters"),
        ([], "name letters"),
        (["--", "-1"], "there is no letter -1"),
        (["one"], "one"),
    ):
        refused = await asyncio.to_thread(run, "mail", "retry", *args, env=environment)
        assert refused.returncode in (1, 2)
        assert refused.stderr.startswith("invitree: ")
        assert refused.stderr.count("\n") == 1
        assert expected in refused.stderr
    nothing = await asyncio.to_thread(run, "mail", "retry", "--all", env=environment)
    assert nothing.stdout == "Nothing to do: no letter was given up.\n"
    listed = await asyncio.to_thread(run, "mail", "list", env=environment)
    assert len(listed.stdout.splitlines()) == 4
    none = await asyncio.to_thread(run, "mail", "list", "--failed", env=environment)
    assert none.stdout == "No letter was given up.\n"


async def test_a_letter_under_way_when_the_worker_is_stopped_arrives(
    db: Any, office: PostOffice, mailing: Settings
) -> None:
    office.hold.clear()
    async with office.is_open():
        async with working(mailing) as stop:
            await ask(db)
            await eventually(lambda: len(office.asked) == 1)
            stop.set()
            await asyncio.sleep(0.2)  # not as proof: to let a worker that does not wait end
            office.hold.set()
        assert await statuses(db) == []
    assert len(office.letters) == 1


async def test_a_letter_that_hangs_when_the_worker_is_stopped_waits_for_the_next(
    db: Any, office: PostOffice, mailing: Settings
) -> None:
    office.hold.clear()
    async with office.is_open():
        async with working(mailing) as stop:
            await ask(db, patience_s=60)
            await eventually(lambda: len(office.asked) == 1)
            stop.set()
            stopped_at = time.monotonic()
        assert 9 < time.monotonic() - stopped_at < 20
        assert await statuses(db) == ["queued"]
        office.hold.set()
        async with working(mailing):
            await eventually(in_status(db))
    assert len({letter["Message-ID"] for letter in office.letters}) == 1


async def test_neither_logs_nor_records_have_addresses(
    db: Any,
    office: PostOffice,
    mailing: Settings,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    office.answers = ["450 <anna@example.com> later", "550 <anna@example.com> never"]
    async with office.is_open(), working(mailing, (0.01, 0.01)):
        await ask(db)
        await eventually(in_status(db, "failed"))
        await ask(db, kind="crash")
        await eventually(in_status(db, "failed", "failed"))
    # What the mail server of the test says of itself is not ours.
    logged = [record.getMessage() for record in caplog.records if record.name != "mail.log"]
    printed = "".join([*capfd.readouterr(), *logged])
    for event in ("job.postponed", "job.given_up", "job.crashed", "in send"):
        assert event in printed
    kept = await db.fetch("SELECT traceback::text FROM pgqueuer_log")
    for told in (printed, *(row["traceback"] or "" for row in kept)):
        assert "anna" not in told
        assert "example.com" not in told
    assert (await reasons(db))[-1] == "ZeroDivisionError (it may have been done, up to 3 times)"
    assert "Traceback" not in printed


async def test_pgqueuer_uses_our_names_whatever_the_environment_says(
    db: Any, office: PostOffice, mailing: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CHANNEL", "QUEUE_TABLE", "PGQUEUER_PREFIX", "FUNCTION"):
        monkeypatch.setenv(name, "other_")
    async with office.is_open(), working(mailing):
        await ask(db)
        await eventually(in_status(db))
    assert len(office.letters) == 1


async def test_cleaning_is_done_by_one_worker_at_a_time_again_and_again(settings: Settings) -> None:
    running = most = done = 0

    async def clean(ctx: AppContext) -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.03)
        running -= 1
        done += 1
        if done <= 3:  # as many as there are workers
            raise ZeroDivisionError

    stop = asyncio.Event()
    workers = [asyncio.create_task(run_worker(settings, {}, stop=stop, periodic=[(0.01, clean)])) for _ in range(3)]
    await eventually(lambda: done > 12)
    stop.set()
    await asyncio.gather(*workers)
    assert most == 1
