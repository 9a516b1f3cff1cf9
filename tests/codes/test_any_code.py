"""Whatever is sent as a code or as its end: it is read as people mean it, or refused, and nothing else happens."""

import json
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import example, given, settings
from hypothesis import strategies as st

from invitree.base.problems import InvalidInput, MalformedJson
from invitree.codes.actions import expiry_of_day, expiry_of_instant
from invitree.codes.api import CodeIn
from invitree.codes.rules import ALPHABET, expiry_for, normalize
from invitree.kit.body import decode
from invitree.programs.store import Program

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ZONES = st.sampled_from(sorted(available_timezones())).map(ZoneInfo)
# What is read as each character.
READ_AS = {"0": "0oO", "1": "1iIlL"} | {letter: letter + letter.lower() for letter in ALPHABET[2:]}
CODES = st.text(ALPHABET, min_size=1, max_size=64)


def program(zone: ZoneInfo) -> Program:
    """Return a program in this zone."""
    return Program(
        id=1,
        slug="p",
        time_zone=zone.key,
        code_length=10,
        longest_code_life_days=366,
        referral_list="masked",
        activation="off",
        host=None,
    )


@given(st.data(), CODES, st.sampled_from(["", " ", "\t\n", "\u3000"]))
def test_a_code_is_the_same_however_it_is_spelled(data: st.DataObject, code: str, around: str) -> None:
    spelled = "".join(data.draw(st.sampled_from(READ_AS[letter])) for letter in code)
    assert normalize(f"{around}{spelled}{around}") == code


@given(CODES, CODES)
def test_two_codes_are_never_taken_for_each_other(one: str, other: str) -> None:
    assert (normalize(one) == normalize(other)) == (one == other)


@given(st.text(st.characters()))
def test_no_text_is_more_than_a_code_or_none(text: str) -> None:
    code = normalize(text)
    assert code is None or (code == normalize(code) and set(code) <= set(ALPHABET) | {"U"})


@settings(max_examples=1000)
@given(
    last_day=st.dates(date(2026, 1, 1), date(2040, 12, 31)),
    zone=ZONES,
    around=st.timedeltas(timedelta(hours=-26), timedelta(hours=26))
    | st.sampled_from([timedelta(0), timedelta(0, 0, -1)]),
)
@example(date(2026, 4, 4), ZoneInfo("America/Santiago"), timedelta(minutes=-90))  # 23:00 comes twice
@example(date(2026, 9, 5), ZoneInfo("America/Santiago"), timedelta(0))  # 0:00 is left out
@example(date(2026, 10, 31), ZoneInfo("America/Havana"), timedelta(minutes=30))  # 0:00 comes twice
def test_a_code_lives_as_long_as_its_last_day(last_day: date, zone: ZoneInfo, around: timedelta) -> None:
    before = datetime(last_day.year, last_day.month, last_day.day, tzinfo=UTC) - timedelta(days=3)
    ends = expiry_for(last_day, now=before, zone=zone, longest=timedelta(days=366))
    assert isinstance(ends, datetime)
    instant = ends + around
    assert (instant < ends) == (instant.astimezone(zone).date() <= last_day)


ENDS = st.one_of(
    st.text(max_size=40),
    st.dates().map(date.isoformat),
    st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
    st.datetimes().map(datetime.isoformat),
    st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]{0,15}(Z|[+-][0-9:]{0,8})?)?", fullmatch=True),
    st.none() | st.booleans() | st.integers() | st.floats() | st.lists(st.integers(), max_size=2),
)


@settings(max_examples=1000)
@given(st.sampled_from(["expiration_date", "expires_at"]), ENDS, ZONES)
def test_no_end_is_more_than_one_to_come_or_refused(field: str, value: Any, zone: ZoneInfo) -> None:
    with suppress(InvalidInput, MalformedJson):
        asked = decode(json.dumps({field: value}).encode(), CodeIn)
        ends = None
        if asked.expiration_date is not None:
            ends = expiry_of_day(asked.expiration_date, program=program(zone), now=NOW)
        if asked.expires_at is not None:
            ends = expiry_of_instant(asked.expires_at, program=program(zone), now=NOW)
        assert ends is None or (NOW < ends <= NOW + timedelta(days=368) and ends.tzinfo is UTC)


@given(
    st.binary(max_size=200)
    | st.text(st.characters(), max_size=100).map(lambda text: text.encode(errors="surrogatepass"))
)
def test_no_bytes_are_more_than_a_body_or_refused(body: bytes) -> None:
    with suppress(InvalidInput, MalformedJson):
        assert isinstance(decode(body, CodeIn), CodeIn)
