"""What comes over from the Django service, what stays behind, and that it happens once."""

from datetime import UTC, datetime
from itertools import pairwise

import httpx
import pytest

from invitree.identity.programs.store import Program
from invitree.imports.django import actions
from invitree.imports.django.actions import KindCount
from invitree.imports.django.rules import Reason
from invitree.kit.context import AppContext
from tests.cast import Cast, in_days
from tests.django_import.conftest import Import
from tests.django_import.django import PASSWORD, Django, key_of
from tests.django_import.target import by_name, hold, refused, rows

ME, LOGIN, SIGN_UP = "/auth/users/me/", "/auth/token/login/", "/auth/users/"


async def test_a_user_comes_with_everything(
    ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    alice = django.user("alice", email="Alice+Tag@Example.COM", is_staff=1)
    bob = django.user("bob", is_superuser=1, date_joined="2024-01-02 03:04:05")
    django.code(alice, "aBcDeFgHiJkLmNoPqRsT", "2031-07-09")
    django.token(alice, key_of(1))
    django.referral(alice, bob)
    report = await run_import()
    assert refused(report) == []
    one, two = KindCount(imported=1), KindCount(imported=2)
    assert report.counts == {"user": two, "password": two, "code": one, "token": one, "referral": one}
    users = await by_name(ctx, program)
    stored = users["alice"]
    assert (stored["email"], stored["email_key"]) == ("Alice+Tag@Example.COM", "alice+tag@example.com")
    assert stored["password_hash"].startswith("pbkdf2_sha256$")
    assert stored["created_at"] == datetime(2023, 4, 5, 6, 7, 8, 123456, tzinfo=UTC)
    assert [stored[name] for name in ("is_active", "is_staff", "confirmed_at", "deactivated_at")] == [
        *(True, True, None, None)
    ]
    assert users["bob"]["is_staff"]
    (code,) = await rows(ctx, program, "codes")
    # The end of that day in Tokyo.
    assert (code["code"], code["expires_at"]) == ("ABCDEFGHIJKLMNOPQRST", datetime(2031, 7, 9, 15, tzinfo=UTC))
    assert (code["user_id"], code["revoked_at"]) == (stored["id"], None)
    (session,) = await rows(ctx, program, "sessions")
    assert session["token_hash"] == ctx.keys.hash(key_of(1))
    assert session["created_at"] == session["last_seen_at"] == datetime(2023, 5, 6, 7, 8, 9, tzinfo=UTC)
    (referral,) = await rows(ctx, program, "referrals")
    assert (referral["referrer_id"], referral["referee_id"]) == (stored["id"], users["bob"]["id"])
    assert (referral["code_id"], referral["created_at"]) == (None, datetime(2023, 6, 7, 8, 9, 10, tzinfo=UTC))
    events = await ctx.db.fetch("SELECT kind, actor, user_id FROM audit WHERE program_id = $1", program.id)
    assert sorted(tuple(event) for event in events) == sorted(
        ("account.created", "operator", user["id"]) for user in users.values()
    )


async def test_old_passwords_tokens_and_codes_go_on_working(
    client: httpx.AsyncClient, ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    alice = django.user("alice")
    django.code(alice, "oldSpellingOfTheCode", in_days(30))
    django.token(alice, key_of(77))
    await run_import()
    said = {"X-Program": program.slug}
    me = await client.get(ME, headers={**said, "Authorization": f"Token {key_of(77)}"})
    assert (me.status_code, me.json().get("username")) == (200, "alice"), me.text
    elsewhere = await client.get(ME, headers={"Authorization": f"Token {key_of(77)}"})
    assert elsewhere.status_code == 401
    for attempt in range(2):  # the second meets the hash that the first has left
        answer = await client.post(LOGIN, json={"username": "alice", "password": PASSWORD}, headers=said)
        assert answer.status_code == 200, (attempt, answer.text)
    assert (await by_name(ctx, program))["alice"]["password_hash"].startswith("$argon2id$")
    body = {"email": "new@example.com", "username": "new", "password": "correct horse battery"}
    new = await client.post(SIGN_UP, json={**body, "referral_code": "oldSpellingOfTheCode"}, headers=said)
    assert new.status_code == 201, new.text
    (referral,) = await rows(ctx, program, "referrals")
    assert referral["referee_id"] == new.json()["id"]
    await hold(ctx)


async def test_an_imported_token_can_be_logged_out_and_stays_so(
    client: httpx.AsyncClient, django: Django, program: Program, run_import: Import
) -> None:
    django.token(django.user("alice"), key_of(78))
    await run_import()
    headers = {"X-Program": program.slug, "Authorization": f"Token {key_of(78)}"}
    assert (await client.post("/auth/token/logout/", headers=headers)).status_code == 204
    assert not (await run_import()).has_imports
    assert (await client.get(ME, headers=headers)).status_code == 401


async def test_an_inactive_user_stays_inactive_and_keeps_no_key(
    ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    alice = django.user("alice", is_active=0)
    django.code(alice, "ALICE")
    django.token(alice, key_of(2))
    report = await run_import()
    assert refused(report) == [("token", alice, Reason.INACTIVE_OWNER)]
    stored = (await by_name(ctx, program))["alice"]
    assert not stored["is_active"]
    assert stored["deactivated_at"] is not None
    assert (await rows(ctx, program, "codes"))[0]["revoked_at"] is not None
    assert await rows(ctx, program, "sessions") == []


async def test_a_password_that_cannot_be_verified_is_told_and_the_user_comes(
    client: httpx.AsyncClient, ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    hashes = ["bcrypt_sha256$$2b$12$abc", "!unusable", "", "md5$a$b", "pbkdf2_sha256$6000000$a$" + "A" * 43 + "="]
    ids = [django.user(f"user{number}", password=text) for number, text in enumerate(hashes)]
    fine = django.user("fine", password="argon2$argon2id$v=19$m=102400,t=2,p=8$c2FsdHNhbHQ$" + "A" * 22)
    report = await run_import()
    assert refused(report) == [("password", old_id, Reason.UNVERIFIABLE) for old_id in ids]
    assert report.counts["user"] == KindCount(imported=6)
    assert report.counts["password"] == KindCount(imported=1, refused=5)
    stored = [user["password_hash"] for user in await rows(ctx, program, "users")]
    assert stored[:5] == ["!"] * 5
    assert stored[5].startswith("argon2$")
    assert fine


async def test_whoever_cannot_be_a_user_is_refused_with_all_they_have(
    ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    alice = django.user("alice", email="straße@example.com")
    bad = [
        django.user("same1", email="STRASSE@Example.com"),
        django.user("same2", email="ｓｔｒａｓｓｅ@example.com"),
        django.user("ａｌｉｃｅ", email="wide@example.com"),
        django.user("empty", email=""),
        django.user("bad", email="not an address"),
        django.user("two words", email="two@example.com"),
        django.user("", email="none@example.com"),
    ]
    for number, old_id in enumerate(bad):
        django.code(old_id, f"CODE{number}")
        django.token(old_id, key_of(100 + number))
        django.referral(alice, old_id)
    report = await run_import()
    reasons = [
        *(Reason.SAME_EMAIL, Reason.SAME_EMAIL, Reason.SAME_USERNAME),
        *(Reason.BAD_EMAIL, Reason.BAD_EMAIL, Reason.BAD_USERNAME, Reason.BAD_USERNAME),
    ]
    told = refused(report)
    assert told[:7] == [("user", old_id, reason) for old_id, reason in zip(bad, reasons, strict=True)]
    assert {(kind, reason) for kind, _, reason in told[7:]} == {
        (kind, Reason.REFUSED_USER) for kind in ("code", "token", "referral")
    }
    assert len(told) == 4 * 7
    assert list(await by_name(ctx, program)) == ["alice"]
    assert await rows(ctx, program, "codes") == await rows(ctx, program, "referrals") == []


async def test_who_is_in_the_program_already_is_left_alone(
    cast: Cast, ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    member, other = await cast.member(program=program), await cast.member(program=program)
    stranger = await cast.member()  # of the default program, whose address is free here
    by_email = django.user("newname", email=member.email.upper())
    by_name_ = django.user(other.username, email=stranger.email)
    fine = django.user("fine")
    for number, old_id in enumerate((by_email, by_name_, fine)):
        django.code(old_id, f"C{number}")
        django.token(old_id, key_of(200 + number))
    django.referral(by_email, fine)
    django.referral(fine, by_name_)
    before = await by_name(ctx, program)
    report = await run_import()
    assert sorted(refused(report)) == sorted(
        [
            ("user", by_email, Reason.EMAIL_TAKEN),
            ("code", 1, Reason.REFUSED_USER),
            ("token", by_email, Reason.REFUSED_USER),
            ("referral", 1, Reason.REFUSED_USER),
            ("user", by_name_, Reason.USERNAME_TAKEN),
            ("code", 2, Reason.REFUSED_USER),
            ("token", by_name_, Reason.REFUSED_USER),
            ("referral", 2, Reason.REFUSED_USER),
        ]
    )
    assert report.counts["user"] == report.counts["code"] == report.counts["token"] == KindCount(imported=1, refused=2)
    assert report.counts["password"] == KindCount(imported=1)
    after = await by_name(ctx, program)
    assert set(after) - set(before) == {"fine"}
    assert {name: after[name] for name in before} == before
    assert [row["old_id"] for row in await rows(ctx, program, "imported_users")] == [fine]


async def test_codes_keep_their_spelling_and_are_told_apart_by_it(
    ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    spelled = ["OIL0", "oil0", "a+b", "", "x" * 65, "ß", "fine", "0110", "A1-B2 c3"]
    people = [django.user(f"user{number}") for number in range(len(spelled))]
    for person, text in zip(people, spelled, strict=True):
        django.code(person, text, "" if text == "fine" else "2030-01-01")
    django.code(999, "NOBODYS")
    report = await run_import()
    assert refused(report) == [
        ("code", 2, Reason.SAME_CODE),
        *(("code", number, Reason.BAD_CODE) for number in (3, 4, 5, 6)),
        ("code", 7, Reason.NO_END),
        ("code", 10, Reason.NO_SUCH_USER),
    ]
    assert [code["code"] for code in await rows(ctx, program, "codes")] == ["OIL0", "0110", "A1B2C3"]


async def test_a_code_that_was_ended_comes_revoked_and_is_nobody_elses(
    ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    django.db.execute("ALTER TABLE stakewolle_referralcode ADD COLUMN is_active bool NOT NULL DEFAULT 1")
    alice, bob = django.user("alice"), django.user("bob")
    django.code(alice, "ENDED", is_active=0)
    django.code(alice, "LIVE")
    django.code(bob, "ended")
    assert refused(await run_import()) == [("code", 3, Reason.SAME_CODE)]
    codes = {code["code"]: code["revoked_at"] is None for code in await rows(ctx, program, "codes")}
    assert codes == {"ENDED": False, "LIVE": True}


async def test_a_code_that_ended_before_its_owner_joined_has_no_negative_life(
    ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    django.code(django.user("alice"), "OLD", "2001-02-03")
    await run_import()
    (code,) = await rows(ctx, program, "codes")
    assert code["created_at"] == code["expires_at"] < datetime(2001, 2, 4, tzinfo=UTC)


async def test_a_token_of_another_kind_stays_behind(
    ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    keys = [key_of(1)[1:], key_of(2) + "0", "x" * 40, key_of(0xABC).upper(), f"{program.id}.secret", ""]
    ids = [django.user(f"user{number}") for number in range(len(keys))]
    for old_id, key in zip(ids, keys, strict=True):
        django.token(old_id, key)
    django.token(999, key_of(9))
    report = await run_import()
    assert sorted(refused(report)) == [
        *(("token", old_id, Reason.BAD_KEY) for old_id in ids),
        ("token", 999, Reason.NO_SUCH_USER),
    ]
    assert not any(key and key in str(report.skipped_rows) for key in keys)
    assert await rows(ctx, program, "sessions") == []


async def test_a_code_that_the_program_has_stays_whose_it_is(
    cast: Cast, ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    member = await cast.member(program=program)
    code = await cast.code(member)
    alice = django.user("alice")
    django.code(alice, code.lower())
    report = await run_import()
    assert refused(report) == [("code", 1, Reason.CODE_TAKEN)]
    assert [row["user_id"] for row in await rows(ctx, program, "codes")] == [member.id]


async def test_an_expired_code_comes_as_it_is(
    client: httpx.AsyncClient, ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    alice = django.user("alice")
    django.code(alice, "EXPIRED1", in_days(-2))
    django.token(alice, key_of(3))
    assert refused(await run_import()) == []
    (code,) = await rows(ctx, program, "codes")
    assert code["revoked_at"] is None
    assert code["created_at"] <= code["expires_at"] < datetime.now(UTC)
    said = {"X-Program": program.slug}
    assert (await client.get("/api/referral_codes/check/EXPIRED1/", headers=said)).json() == {"valid": False}
    headers = {**said, "Authorization": f"Token {key_of(3)}"}
    made = await client.post("/api/referral_codes/", json={"expiration_date": in_days(9)}, headers=headers)
    assert made.status_code == 201, made.text


async def test_of_several_codes_the_last_to_end_stays(
    ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    alice = django.user("alice")
    for text, end in (("A1", "2030-01-01"), ("A2", "2031-01-01"), ("A3", "2031-01-01"), ("A4", "2029-01-01")):
        django.code(alice, text, end)
    report = await run_import()
    assert sorted(refused(report)) == [("code", number, Reason.SECOND_CODE) for number in (1, 3, 4)]
    assert [code["code"] for code in await rows(ctx, program, "codes")] == ["A2"]


async def test_referrals_become_a_forest(ctx: AppContext, django: Django, program: Program, run_import: Import) -> None:
    # Against the order of ids: 3 brought 2, who brought 1.
    one, two, three, four, five = [django.user(f"user{number}") for number in range(5)]
    for referrer, referee in [
        *((two, one), (three, two), (four, one), (five, five), (one, three)),
        *((four, five), (five, four), (four, 999), (998, four), (two, one)),
    ]:
        django.referral(referrer, referee)
    report = await run_import()
    assert refused(report) == [
        ("referral", 3, Reason.SECOND_REFERRER),
        ("referral", 4, Reason.ONESELF),
        ("referral", 5, Reason.CIRCLE),
        ("referral", 7, Reason.CIRCLE),
        ("referral", 8, Reason.NO_SUCH_USER),
        ("referral", 9, Reason.NO_SUCH_USER),
        ("referral", 10, Reason.SECOND_REFERRER),
    ]
    names = {user["id"]: user["username"] for user in await rows(ctx, program, "users")}
    found = [(names[row["referrer_id"]], names[row["referee_id"]]) for row in await rows(ctx, program, "referrals")]
    assert found == [("user2", "user1"), ("user1", "user0"), ("user3", "user4")]
    await hold(ctx)


async def test_a_deep_chain_comes_upside_down_across_batches(
    ctx: AppContext, django: Django, program: Program, run_import: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actions, "_USERS_A_TRANSACTION", 7)
    ids = [django.user(f"deep{number}") for number in range(100)]
    for below, above in pairwise(ids):
        django.referral(above, below)
    report = await run_import()
    assert refused(report) == []
    assert report.counts["referral"] == KindCount(imported=99)
    await hold(ctx)


async def test_a_referral_without_a_time_began_with_its_referee(
    ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    alice, bob = django.user("alice"), django.user("bob", date_joined="2024-02-03 04:05:06")
    django.referral(alice, bob, created_at="no time at all")
    await run_import()
    (referral,) = await rows(ctx, program, "referrals")
    assert referral["created_at"] == datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)


async def test_nothing_comes_from_the_future(
    client: httpx.AsyncClient, ctx: AppContext, django: Django, program: Program, run_import: Import
) -> None:
    alice, bob = django.user("alice", date_joined="2999-01-01 00:00:00"), django.user("bob", date_joined="soon")
    django.referral(alice, bob, created_at="2999-01-01 00:00:00")
    django.code(alice, "ALICE1", in_days(30))
    await run_import()
    now = datetime.now(UTC)
    for table in ("users", "referrals", "codes"):
        assert all(row["created_at"] <= now for row in await rows(ctx, program, table))
    body = {"email": "x@example.com", "username": "x", "password": "correct horse battery", "referral_code": "ALICE1"}
    assert (await client.post(SIGN_UP, json=body, headers={"X-Program": program.slug})).status_code == 201
    await hold(ctx)
