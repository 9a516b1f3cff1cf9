"""Whatever is sent as a code or as its end: it is read as people mean it, or refused, and nothing else happens."""

import json
import string
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from hypothesis import example, given, settings
from hypothesis import strategies as st

from invitree.base.problems import InvalidInput, MalformedJson
from invitree.identity.programs.store import Program
from invitree.kit.web.body import decode
from invitree.sharing.codes.actions import expiry_of_day, expiry_of_instant
from invitree.sharing.codes.api import CodeIn
from invitree.sharing.codes.rules import expiry_for, parse_code

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
ZONES = st.sampled_from(sorted(available_timezones())).map(ZoneInfo)
LETTERS = string.ascii_uppercase + string.digits
CODES = st.text(LETTERS, min_size=1, max_size=64)
SMALL = string.ascii_lowercase + string.digits
# What a character may be typed as: it, the small one, and both of full width.
FULL_WIDTH = {letter: chr(ord(letter) + 0xFEE0) for letter in LETTERS + SMALL}
TYPED = {
    letter: [letter, small, FULL_WIDTH[letter], FULL_WIDTH[small]] for letter, small in zip(LETTERS, SMALL, strict=True)
}
# Spaces, dashes, quotes and what is invisible, as Unicode knows them.
DROPPED = st.characters(categories=["Zs", "Zl", "Zp", "Pd", "Pi", "Pf", "Cf"]) | st.sampled_from(
    "\t\n\r\x0b\x0c\x85\u2212\"'`\u201e\u201a\uff02\uff07\u300c\u300d\ufe0e\ufe0f\U000e0100"
)
# Letters, digits, marks and signs of any other kind.
FOREIGN = st.characters(
    categories=["L", "N", "Co", "Cn", "Cs"], exclude_characters=LETTERS + SMALL + "".join(FULL_WIDTH.values())
) | st.sampled_from("+=$^~|\0\u0301")
AROUND = st.text(st.characters(categories=["P"]) | st.sampled_from("<> ") | DROPPED, max_size=8)


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
        origins=(),
    )


@settings(max_examples=500)
@given(st.data(), CODES, AROUND, AROUND)
def test_a_code_is_the_same_whatever_is_typed_in_and_around_it(
    data: st.DataObject, code: str, before: str, after: str
) -> None:
    spelled = "".join(data.draw(st.sampled_from(TYPED[letter])) for letter in code)
    for dropped in data.draw(st.lists(DROPPED, max_size=100)):
        place = data.draw(st.integers(0, len(spelled)))
        spelled = spelled[:place] + dropped + spelled[place:]
    assert parse_code(before + spelled + after) == code


@given(CODES, CODES)
@example("O", "0")
@example("I", "L")
def test_no_code_turns_into_another(one: str, other: str) -> None:
    assert parse_code(one) == one
    assert (parse_code(one) == parse_code(other)) == (one == other)


@settings(max_examples=500)
@given(CODES, st.integers(0, 64), FOREIGN)
def test_no_text_with_a_foreign_character_is_a_code(code: str, place: int, foreign: str) -> None:
    assert parse_code(code[:place] + foreign + code[place:]) is None


@given(st.text(st.characters(), max_size=80) | st.text(LETTERS + SMALL + ' -."\uff21\u00df\u0131', max_size=80))
def test_no_text_is_more_than_a_code_or_none(text: str) -> None:
    code = parse_code(text)
    assert code is None or (parse_code(code) == code and set(code) <= set(LETTERS) and 0 < len(code) <= 64)


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
