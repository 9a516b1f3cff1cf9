"""sharing/codes/rules.py: what a code looks like and how long it may live."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from invitree.sharing.codes.actions import candidates
from invitree.sharing.codes.rules import (
    ALPHABET,
    Refused,
    expiry_for,
    instant_for,
    is_rude,
    last_day_of,
    parse_code,
    spell,
)

YEAR = timedelta(days=366)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("zone", "now", "last_day", "ends"),
    [
        ("UTC", "2026-05-01T12:00+00:00", "2026-05-02", "2026-05-03T00:00+00:00"),
        ("Europe/Moscow", "2026-05-01T12:00+00:00", "2026-05-02", "2026-05-02T21:00+00:00"),
        ("Asia/Kathmandu", "2026-05-01T12:00+00:00", "2026-05-02", "2026-05-02T18:15+00:00"),
        # At 12:00 UTC it is already tomorrow on Kiritimati, and at 11:00 still yesterday on Baker Island.
        ("Pacific/Kiritimati", "2026-05-01T12:00+00:00", "2026-05-03", "2026-05-03T10:00+00:00"),
        ("Etc/GMT+12", "2026-05-01T11:00+00:00", "2026-05-01", "2026-05-02T12:00+00:00"),
        # The night in which midnight is left out: the day ends when the clock jumps.
        ("America/Sao_Paulo", "2018-11-01T12:00+00:00", "2018-11-03", "2018-11-04T03:00+00:00"),
        ("Africa/Cairo", "2024-04-20T12:00+00:00", "2024-04-25", "2024-04-25T22:00+00:00"),
        # The night in which an hour comes twice.
        ("America/Sao_Paulo", "2018-02-10T12:00+00:00", "2018-02-17", "2018-02-18T03:00+00:00"),
        ("America/Havana", "2018-10-30T12:00+00:00", "2018-11-03", "2018-11-04T04:00+00:00"),
        # A spring and an autumn day inside the code's life.
        ("Europe/Riga", "2026-03-28T12:00+00:00", "2026-03-29", "2026-03-29T21:00+00:00"),
        ("Europe/Riga", "2026-10-24T12:00+00:00", "2026-10-25", "2026-10-25T22:00+00:00"),
        # A country that skipped a whole day.
        ("Pacific/Apia", "2011-12-27T12:00+00:00", "2011-12-29", "2011-12-30T10:00+00:00"),
        ("UTC", "2026-05-01T00:00+00:00", "2027-05-01", "2027-05-02T00:00+00:00"),
    ],
)
def test_a_code_is_good_through_the_end_of_its_last_day(zone: str, now: str, last_day: str, ends: str) -> None:
    answer = expiry_for(date.fromisoformat(last_day), now=at(now), zone=ZoneInfo(zone), longest=YEAR)
    assert answer == at(ends)


def test_a_life_of_a_day_lets_tomorrow_be_the_last() -> None:
    answer = expiry_for(
        date(2026, 5, 2), now=at("2026-05-01T00:01+00:00"), zone=ZoneInfo("UTC"), longest=timedelta(days=1)
    )
    assert answer == at("2026-05-03T00:00+00:00")


@pytest.mark.parametrize(
    ("zone", "now", "last_day", "why"),
    [
        ("UTC", "2026-05-01T23:59+00:00", "2026-05-01", Refused.NOT_IN_THE_FUTURE),
        ("UTC", "2026-05-01T12:00+00:00", "2026-04-30", Refused.NOT_IN_THE_FUTURE),
        ("UTC", "2026-05-01T12:00+00:00", "0001-01-01", Refused.NOT_IN_THE_FUTURE),
        ("Pacific/Kiritimati", "2026-05-01T12:00+00:00", "2026-05-02", Refused.NOT_IN_THE_FUTURE),
        ("Etc/GMT+12", "2026-05-01T11:00+00:00", "2026-04-30", Refused.NOT_IN_THE_FUTURE),
        ("UTC", "2026-05-01T12:00+00:00", "2027-05-03", Refused.TOO_FAR),
        ("UTC", "2026-05-01T12:00+00:00", "9999-12-31", Refused.TOO_FAR),
        ("Pacific/Kiritimati", "2026-05-01T12:00+00:00", "9999-12-31", Refused.TOO_FAR),
        ("Etc/GMT+12", "2026-05-01T12:00+00:00", "9999-12-31", Refused.TOO_FAR),
    ],
)
def test_a_last_day_is_after_today_and_not_too_far(zone: str, now: str, last_day: str, why: Refused) -> None:
    assert expiry_for(date.fromisoformat(last_day), now=at(now), zone=ZoneInfo(zone), longest=YEAR) is why


def test_the_furthest_day_ends_within_the_longest_life() -> None:
    now = at("2026-05-01T12:00+00:00")
    assert expiry_for(date(2027, 5, 1), now=now, zone=ZoneInfo("UTC"), longest=YEAR) == at("2027-05-02T00:00+00:00")


@given(
    last_day=st.dates(date(1990, 1, 1), date(2100, 1, 1)),
    ahead=st.timedeltas(timedelta(), timedelta(days=300)),
    zone=st.sampled_from(sorted(available_timezones())).map(ZoneInfo),
)
def test_the_day_that_is_shown_is_the_day_that_was_asked_for(last_day: date, ahead: timedelta, zone: ZoneInfo) -> None:
    noon = datetime(last_day.year, last_day.month, last_day.day, 12, tzinfo=zone)
    assume(noon.astimezone(UTC).astimezone(zone).date() == last_day)  # not a day that this country skipped
    ends = expiry_for(last_day, now=noon.astimezone(UTC) - ahead, zone=zone, longest=YEAR)
    if isinstance(ends, datetime):
        assert last_day_of(ends, zone=zone) == last_day
        assert ends.astimezone(zone).date() > last_day
        assert ends.utcoffset() == timedelta()
    else:
        assert ends is Refused.NOT_IN_THE_FUTURE
        assert ahead < timedelta(days=2)


@pytest.mark.parametrize(
    ("expires_at", "answer"),
    [
        ("2026-05-01T12:00:00+00:00", Refused.NOT_IN_THE_FUTURE),
        ("2026-05-01T12:00:00.000001+00:00", at("2026-05-01T12:00:00.000001+00:00")),
        ("2026-05-01T14:00:00+02:00", Refused.NOT_IN_THE_FUTURE),
        ("2026-05-01T14:00:00-02:00", at("2026-05-01T16:00:00+00:00")),
        ("2026-05-02T12:00:00+00:00", at("2026-05-02T12:00:00+00:00")),
        ("2026-05-02T12:00:00.000001+00:00", Refused.TOO_FAR),
        ("9999-12-31T23:59:59.999999-23:59", Refused.TOO_FAR),
        ("0001-01-01T00:00:00+23:59", Refused.NOT_IN_THE_FUTURE),
    ],
)
def test_an_instant_is_in_the_future_and_not_too_far(expires_at: str, answer: datetime | Refused) -> None:
    given_at = instant_for(at(expires_at), now=at("2026-05-01T12:00+00:00"), longest=timedelta(days=1))
    assert given_at == answer
    assert not isinstance(given_at, datetime) or given_at.tzinfo is UTC


@pytest.mark.parametrize(
    ("expires_at", "zone", "day"),
    [
        ("2026-05-03T00:00+00:00", "UTC", "2026-05-02"),
        ("2026-05-03T00:00:00.000001+00:00", "UTC", "2026-05-03"),
        ("2026-05-02T21:00+00:00", "Europe/Moscow", "2026-05-02"),
        ("2026-05-02T21:01+00:00", "Europe/Moscow", "2026-05-03"),
    ],
)
def test_the_last_day_is_the_last_with_some_life_in_it(expires_at: str, zone: str, day: str) -> None:
    assert last_day_of(at(expires_at), zone=ZoneInfo(zone)) == date.fromisoformat(day)


@pytest.mark.parametrize(
    "typed",
    [
        "7K3M9XQ2AB",
        "7k3m9xq2ab",
        "  7K3M9XQ2AB\t\r\n",
        "7K3M9 XQ2AB",
        "7K3M9-XQ2AB",
        "7K3-M9X-Q2AB",
        "7K3M9\u2009XQ2AB",  # thin space
        "7K3M9\u00a0XQ2AB",  # no-break space
        "7K3M9\u2013XQ2AB",  # en dash
        "7K3M9\u2212XQ2AB",  # minus sign
        "7K3M9\u00adXQ2AB",  # soft hyphen
        "7K3M9\u2028XQ2AB",  # line separator
        "\ufeff7K3M9XQ2AB",  # byte order mark
        "7K3M9\u200bXQ2AB",  # zero width space
        "\u202a7K3M9XQ2AB\u202c",  # left-to-right embedding
        "7\ufe0fK3M9XQ2AB",  # variation selector
        "\uff17\uff2b\uff13\uff2d\uff19\uff38\uff31\uff12\uff21\uff22",  # full width
        "\uff17\uff4b\uff13\uff4d\uff19\uff58\uff51\uff12\uff41\uff42",
        '"7K3M9XQ2AB"',
        "'7K3M9XQ2AB'",
        "`7K3M9XQ2AB`",
        "7K3M9'XQ2AB",
        "\u00ab7K3M9XQ2AB\u00bb",
        "\u201e7K3M9XQ2AB\u201c",
        "\u201c7K3M9XQ2AB\u201d.",
        "\u300c7K3M9XQ2AB\u300d\u3002",
        "7K3M9XQ2AB.",
        "7K3M9XQ2AB!?",
        "7K3M9XQ2AB\u2026",
        ": 7K3M9XQ2AB ;",
        "(7K3M9XQ2AB),",
        "[7K3M9-XQ2AB]",
        "<7K3M9XQ2AB>",
        "**7K3M9XQ2AB**",
    ],
)
def test_a_code_is_read_as_people_type_and_paste_it(typed: str) -> None:
    assert parse_code(typed) == "7K3M9XQ2AB"


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("EVLK5HP89OCOT4QTBMBB", "EVLK5HP89OCOT4QTBMBB"),
        ("oOiIlL", "OOIILL"),
        ("A" * 64, "A" * 64),
        ("-".join("A" * 64), "A" * 64),
        ("A" * 65, None),
        ("A" + " " * 10_000, None),
        ("", None),
        (" ", None),
        ("-", None),
        ('"."', None),
        ("7K3M.9XQ2", None),
        ("7K3M(9XQ2)", None),
        ("A_B", None),
        ("A+B", None),
        ("A%B", None),
        ("A\0B", None),
        ("\ud800", None),
        ("\u0661\u0662\u0663", None),  # Arabic digits
        ("\u00df", None),  # sharp s, "SS" in capitals
        ("\u0131", None),  # dotless i, "I" in capitals
        ("\u017f", None),  # long s, "S" in capitals
        ("\ufb01", None),  # a ligature, "FI" in capitals
        ("\u212a", None),  # the kelvin sign, "k" in small letters
        ("A\u00b2", None),  # superscript two, 2 by NFKC
        ("\u2460", None),  # circled one, 1 by NFKC
        ("\u0410\u0412\u0421", None),  # Cyrillic
        ("A\u0301", None),  # a combining accent
    ],
)
def test_nothing_is_a_code_that_is_spelled_otherwise(typed: str, code: str | None) -> None:
    assert parse_code(typed) == code


@pytest.mark.parametrize(
    ("code", "rude"),
    [
        ("7K3M9XQ2AB", False),
        ("00FVCK0000", True),
        ("FVCK", True),
        ("00000SH1T0", True),
        ("0005H1T000", True),
        ("00000S3X00", True),
        ("000CVNT000", True),
        ("000CVN7000", True),
        ("00H0M00000", True),
        ("0000XXX000", True),
        ("XX0XX0XX0X", False),
    ],
)
def test_a_rude_code_is_seen_also_where_digits_stand_for_letters(code: str, rude: bool) -> None:
    assert is_rude(code) is rude


def test_the_alphabet_has_32_letters_that_nobody_confuses() -> None:
    assert len(set(ALPHABET)) == 32
    assert not set("ILOU") & set(ALPHABET)
    assert spell(range(32)) == ALPHABET == parse_code(ALPHABET)


@pytest.mark.parametrize("length", [8, 10, 20])
def test_minted_codes_have_their_length_and_are_never_rude_or_equal(length: int) -> None:
    minted = [code for code, _ in zip(candidates(length), range(2000), strict=False)]
    assert {len(code) for code in minted} == {length}
    assert len(set(minted)) == len(minted)
    assert set("".join(minted)) == set(ALPHABET)
    assert not any(map(is_rude, minted))
