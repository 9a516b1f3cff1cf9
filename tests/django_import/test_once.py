"""It happens once, whatever happens between, and a dry run tells what a real one does."""

import asyncio
from itertools import pairwise
from typing import Any

import httpx
import pytest

from invitree.base.emails import parse_email
from invitree.identity.audit.store import OPERATOR
from invitree.identity.programs.store import Program, find_program_by_slug
from invitree.imports.django import actions
from invitree.imports.django.actions import KindCount
from invitree.imports.django.rules import Reason
from invitree.intake.closure.actions import delete_account
from invitree.kit.context import AppContext
from tests.cast import Cast, in_days
from tests.django_import.conftest import Import
from tests.django_import.django import Django, key_of
from tests.django_import.target import by_name, hold, refused, rows

ME, LOGIN, SIGN_UP = "/auth/users/me/", "/auth/token/login/", "/auth/users/"


async def test_a_second_run_changes_nothing_and_says_so(
    cast: Cast, ctx: AppContext, django: Django, run_import: Import
) -> None:
    ids = [django.user(f"user{number}") for number in range(6)]
    django.user("bad", email="")
    for number, old_id in enumerate(ids):
        django.code(old_id, f"CODE{number}")
        django.token(old_id, key_of(300 + number))
        django.referral(ids[0], old_id)
    first = await run_import()
    assert first.has_imports
    before = await cast.contents()
    second = await run_import()
    assert not second.has_imports
    assert await cast.contents() == before
    assert second.skipped_rows == first.skipped_rows
    assert {kind: (count.before, count.refused) for kind, count in second.counts.items()} == {
        kind: (count.imported, count.refused) for kind, count in first.counts.items()
    }


async def test_another_run_gives_codes_the_spelling_back_that_an_earlier_version_folded(
    client: httpx.AsyncClient, ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    alice, bob, carol = django.user("alice"), django.user("bob"), django.user("carol")
    django.code(alice, "EVLK5HP89OCOT4QTBMBB", in_days(30))
    django.code(bob, "FINE5HP89", in_days(30))
    django.token(alice, key_of(450))
    django.token(carol, key_of(451))
    await run_import()
    await ctx.db.execute("UPDATE codes SET code = translate(code, 'OIL', '011') WHERE program_id = $1", program.id)
    said = {"X-Program": program.slug}
    owner, other = ({**said, "Authorization": f"Token {key_of(450 + number)}"} for number in range(2))
    made = await client.post("/api/referral_codes/", json={"expiration_date": in_days(9)}, headers=other)
    path = "/api/referral_codes/get/alice@example.com/"
    assert (await client.get(path, headers=owner)).json()["code"] == "EV1K5HP890C0T4QTBMBB"  # it is in memory
    await run_import(dry_run=True)
    assert (await client.get(path, headers=owner)).json()["code"] == "EV1K5HP890C0T4QTBMBB"
    assert not (await run_import()).has_imports
    assert [code["code"] for code in await rows(ctx, program, "codes")] == [
        *("EVLK5HP89OCOT4QTBMBB", "FINE5HP89", made.json()["code"])
    ]
    assert (await client.get(path, headers=owner)).json()["code"] == "EVLK5HP89OCOT4QTBMBB"
    for typed in ("EVLK5HP89OCOT4QTBMBB", "EV1K5HP890C0T4QTBMBB"):
        assert (await client.get(f"/api/referral_codes/check/{typed}/", headers=said)).json()["valid"]


async def test_a_spelling_that_another_code_has_stays_with_it(
    cast: Cast, ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    django.code(django.user("alice"), "OIL")
    await run_import()
    await ctx.db.execute("UPDATE codes SET code = '011' WHERE program_id = $1", program.id)
    member = await cast.member(program=program)
    await ctx.db.execute(
        "INSERT INTO codes (program_id, user_id, code, expires_at) VALUES ($1, $2, 'OIL', now() + interval '1 day')",
        program.id,
        member.id,
    )
    await run_import()
    assert [code["code"] for code in await rows(ctx, program, "codes")] == ["011", "OIL"]


async def test_another_run_brings_nothing_back(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    alice, bob = django.user("alice"), django.user("bob")
    django.user("clone", email="ALICE@example.com")
    for number, old_id in enumerate((alice, bob)):
        django.code(old_id, f"CODE{number}")
        django.token(old_id, key_of(400 + number))
    django.referral(alice, bob)
    await run_import()
    users = await by_name(ctx, program)
    # Alice leaves, and somebody else takes her address and name; Bob changes everything he has.
    await delete_account(ctx, program_id=program.id, user_id=users["alice"]["id"], actor=OPERATOR)
    headers = {"X-Program": program.slug, "Authorization": f"Token {key_of(401)}"}
    assert (await client.delete("/api/referral_codes/", headers=headers)).status_code == 204
    changed = parse_email("bobby@example.com")
    assert changed is not None
    await ctx.db.execute(
        "UPDATE users SET email = $2, email_key = $2, username = 'bobby', password_hash = 'x' WHERE id = $1",
        users["bob"]["id"],
        changed.key,
    )
    assert (await client.post("/auth/token/logout/", headers=headers)).status_code == 204
    before = await cast.contents()
    assert not (await run_import()).has_imports
    assert await cast.contents() == before


async def test_what_is_mended_in_the_file_comes_with_the_next_run(
    ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    alice, bob = django.user("alice"), django.user("bob", email="")
    django.referral(alice, bob)
    django.token(bob, key_of(500))
    await run_import()
    django.db.execute("UPDATE auth_user SET email = 'bob@example.com' WHERE id = ?", (bob,))
    report = await run_import()
    assert refused(report) == []
    assert report.counts["user"] == KindCount(imported=1, before=1)
    assert report.counts["token"] == report.counts["referral"] == KindCount(imported=1)
    assert len(await rows(ctx, program, "referrals")) == 1


async def test_a_run_cut_off_is_completed_though_sign_ups_went_on(
    client: httpx.AsyncClient,
    ctx: AppContext,
    django: Django,
    program: Program,
    run_import: Import,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(actions, "_USERS_A_TRANSACTION", 2)
    top, *others = [django.user(f"user{number}") for number in range(9)]
    for above, below in pairwise([top, *others]):
        django.referral(above, below)
        django.code(below, f"CODE{below}", in_days(30))
    carried = await rows(ctx, program, "users")
    admit, batches = actions._write, iter(range(3))

    async def failing(*args: Any) -> Any:
        next(batches)  # the fourth batch ends the run
        return await admit(*args)

    monkeypatch.setattr(actions, "_write", failing)
    with pytest.raises((StopIteration, RuntimeError)):
        await run_import()
    assert len(await rows(ctx, program, "users")) == len(carried) + 6
    body = {"email": "x@example.com", "username": "x", "password": "correct horse battery"}
    answer = await client.post(
        SIGN_UP, json={**body, "referral_code": f"CODE{others[3]}"}, headers={"X-Program": program.slug}
    )
    assert answer.status_code == 201, answer.text
    monkeypatch.setattr(actions, "_write", admit)
    report = await run_import()
    assert report.counts["user"] == KindCount(imported=3, before=6)
    assert report.counts["referral"] == KindCount(imported=3, before=5)
    await hold(ctx)


async def test_a_dry_run_writes_nothing_and_tells_what_the_real_one_does(
    cast: Cast, ctx: AppContext, django: Django, program: Program, run_import: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "_USERS_A_TRANSACTION", 3)
    member = await cast.member(program=program)
    ids = [django.user(f"user{number}", password=f"{number}") for number in range(8)]
    ids += [django.user("taken", email=member.email), django.user(member.username), django.user("bad", email="")]
    for number, old_id in enumerate(ids):
        django.code(old_id, f"C{number % 9}{'O0'[number // 9]}")
        django.token(old_id, key_of(600 + number))
        django.referral(ids[-1 - number], old_id)
    before = await cast.contents()
    dry = await run_import(dry_run=True)
    assert await cast.contents() == before
    assert await run_import(dry_run=True) == dry
    assert await run_import() == dry
    assert await run_import(dry_run=True) == await run_import()


async def test_two_imports_at_once_bring_everybody_once(
    ctx: AppContext, django: Django, program: Program, run_import: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "_USERS_A_TRANSACTION", 5)
    for number in range(40):
        django.token(django.user(f"user{number}"), key_of(700 + number))
    reports = await asyncio.gather(*(run_import() for _ in range(4)))
    assert sum(report.counts["user"].imported for report in reports) == 40
    assert [refused(report) for report in reports] == [[]] * 4
    assert len(await rows(ctx, program, "users")) == len(await rows(ctx, program, "sessions")) == 40


async def test_files_of_two_services_are_told_apart_by_their_source(
    ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    old_id = django.user("alice")
    django.token(old_id, key_of(800))
    await run_import()
    django.db.execute("UPDATE auth_user SET username = 'other', email = 'other@example.com' WHERE id = ?", (old_id,))
    report = await run_import(source="the other service")
    assert report.counts["user"] == KindCount(imported=1)
    assert refused(report) == [("token", old_id, Reason.KEY_TAKEN)]
    assert set(await by_name(ctx, program)) == {"alice", "other"}


async def test_another_program_is_not_touched_and_can_take_the_same_file(
    cast: Cast, ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    stranger = await cast.stranger()
    django.code(django.user("alice"), "ALICE")
    await run_import()
    assert await ctx.db.fetchval("SELECT count(*) FROM users WHERE program_id = $1", stranger.program_id) == 1
    found = await ctx.db.fetchval("SELECT slug FROM programs WHERE id = $1", stranger.program_id)
    other = await find_program_by_slug(ctx.db, slug=found)
    assert (await run_import(into=other)).counts["user"] == KindCount(imported=1)
