"""When an old code ends, and what a plan is made of whatever the file holds."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from invitree.imports.django.rules import (
    DjangoData,
    OldCode,
    OldReferral,
    OldToken,
    OldUser,
    Reason,
    end_of,
    moment_of,
    plan,
)
from invitree.sharing.codes.rules import last_day_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "zone", "end"),
    [
        ("2030-06-01", "UTC", "2030-06-02T00:00:00+00:00"),
        ("2030-06-01", "Asia/Tokyo", "2030-06-01T15:00:00+00:00"),
        ("2030-06-01", "America/New_York", "2030-06-02T04:00:00+00:00"),
        ("2030-06-01 10:11:12", "Asia/Tokyo", "2030-06-01T10:11:12+00:00"),
        ("2030-06-01T10:11:12.5+02:00", "Asia/Tokyo", "2030-06-01T08:11:12.500000+00:00"),
        ("9999-12-31", "America/New_York", "9999-01-01T05:00:00+00:00"),
    ],
)
def test_a_day_lasts_to_its_end_in_the_programs_zone(text: str, zone: str, end: str) -> None:
    found = end_of(text, zone=ZoneInfo(zone))
    assert found == datetime.fromisoformat(end)
    if len(text) == 10 and not text.startswith("9999"):
        assert last_day_of(found, zone=ZoneInfo(zone)).isoformat() == text


@pytest.mark.parametrize("text", ["", "soon", "2030-13-01", "2030-02-30", "None", "0", "12:00", "9" * 5000])
def test_no_time_is_no_time(text: str) -> None:
    assert end_of(text, zone=ZoneInfo("UTC")) is None
    assert moment_of(text) is None


def test_the_ends_of_the_calendar_are_no_trap() -> None:
    for text in ("0001-01-01", "9999-12-31", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"):
        for zone in ("Pacific/Kiritimati", "Etc/GMT+12"):
            end_of(text, zone=ZoneInfo(zone))
            moment_of(text)


_ids = st.one_of(st.none(), st.integers(-1, 6), st.just(2**62))
_texts = st.one_of(st.sampled_from(["a", "A", "ａ", "b", "", "0", "O", "x y", "2030-01-01", "f" * 40]), st.text())
_emails = st.one_of(st.sampled_from(["a@example.com", "A@EXAMPLE.com", "b@example.com", ""]), st.text())
_users = st.lists(
    st.builds(
        OldUser,
        id=st.integers(0, 6),
        username=_texts,
        email=_emails,
        password_hash=_texts,
        is_active=st.booleans(),
        is_staff=st.booleans(),
        joined=_texts,
    ),
    unique_by=lambda user: user.id,
)
_seeds = st.builds(
    DjangoData,
    users=_users.map(lambda users: sorted(users, key=lambda user: user.id)),
    codes=st.lists(
        st.builds(OldCode, id=st.integers(0, 99), user_id=_ids, code=_texts, ends=_texts, is_active=st.booleans()),
        unique_by=lambda code: code.id,
    ),
    tokens=st.lists(
        st.builds(OldToken, user_id=_ids, key=_texts, created=_texts), unique_by=lambda token: token.user_id
    ),
    referrals=st.lists(
        st.builds(OldReferral, id=st.integers(0, 99), referrer_id=_ids, referee_id=_ids, created=_texts),
        unique_by=lambda referral: referral.id,
    ),
)


@settings(deadline=None)
@given(_seeds)
def test_whatever_is_in_the_file_everything_comes_or_is_told_and_nothing_contradicts(seed: DjangoData) -> None:
    planned = plan(seed, now=NOW, zone=ZoneInfo("Europe/Riga"), is_verifiable=lambda text: text != "")
    arrivals = planned.arrivals
    told = [refusal.kind for refusal in planned.skipped_rows]
    assert len(arrivals) + told.count("user") == len(seed.users)
    assert sum(len(one.codes) for one in arrivals) + told.count("code") == len(seed.codes)
    assert sum(one.token is not None for one in arrivals) + told.count("token") == len(seed.tokens)
    assert sum(one.referral is not None for one in arrivals) + told.count("referral") == len(seed.referrals)
    for values in (
        [one.user.old_id for one in arrivals],
        [one.user.email.key for one in arrivals],
        [one.user.username for one in arrivals],
        [code.text for one in arrivals for code in one.codes],
    ):
        assert len(values) == len(set(values))
    come: set[int] = set()
    for one in arrivals:
        assert one.referral is None or one.referral.referrer_id in come
        come.add(one.user.old_id)
        assert sum(not code.is_revoked for code in one.codes) <= 1
        assert all(code.created_at <= min(code.expires_at, NOW) for code in one.codes)
        assert one.user.created_at <= NOW


def _named(number: int, username: str, email: str) -> OldUser:
    return OldUser(
        id=number, username=username, email=email, password_hash="x", is_active=True, is_staff=False, joined=""
    )


def test_the_lowest_id_keeps_what_several_want_and_the_refused_keep_nothing() -> None:
    users = [_named(number, f"u{number % 2}", f"{number // 2}@example.com") for number in range(4)]
    seed = DjangoData(users=users, codes=[], tokens=[], referrals=[])
    planned = plan(seed, now=NOW, zone=ZoneInfo("UTC"), is_verifiable=bool)
    assert [one.user.old_id for one in planned.arrivals] == [0, 3]
    assert [refusal.reason for refusal in planned.skipped_rows] == [Reason.SAME_EMAIL, Reason.SAME_USERNAME]


def test_an_administrator_without_an_address_is_told_how_to_make_one_here() -> None:
    bare = [structs.replace(_named(number, f"u{number}", " "), is_staff=number == 0) for number in range(2)]
    planned = plan(
        DjangoData(users=bare, codes=[], tokens=[], referrals=[]), now=NOW, zone=ZoneInfo("UTC"), is_verifiable=bool
    )
    assert [(refusal.reason, refusal.detail) for refusal in planned.skipped_rows] == [
        (Reason.NO_EMAIL, "u0"),
        (Reason.BAD_EMAIL, " "),
    ]
    assert "invitree user create --staff" in Reason.NO_EMAIL
