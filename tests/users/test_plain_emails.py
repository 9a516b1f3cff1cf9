"""base/emails.py: the quick answer to what most addresses look like is the library's, and keys are final."""

import random
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from invitree.base import emails
from invitree.base.emails import Email, parse_email

SPECIAL = sorted(name.removeprefix(".") for name in emails._SPECIAL)
TOPS = ["com", "c", "museum", "co.uk", "xn--p1ai", "com1", "1", "a1", "example", "onion", "local", "arpa"]
LABELS = st.one_of(
    st.sampled_from(
        ["xn--mnchen-3ya", "xn--", "xn--a", "ab--cd", "a--b", "-a", "a-", "a" * 60, "a" * 63, "a" * 64, "0"]
    ),
    st.sampled_from(SPECIAL),
    st.text("abz019-", min_size=1, max_size=8),
    st.text("abz019-", min_size=50, max_size=66),
)
DOMAINS = st.builds(
    lambda labels, top: ".".join([*labels, top]),
    st.lists(LABELS, max_size=3),
    st.one_of(st.sampled_from(TOPS), st.sampled_from(SPECIAL), LABELS),
)
LOCALS = st.one_of(
    st.text("abz019._+-", min_size=1, max_size=12),
    st.text("abz019._+-", min_size=55, max_size=70),
    st.sampled_from(["a", "+a", "a+", "a.b", "a..b", ".a", "a.", "postmaster", "a_b-c+d"]),
)
NEAR = st.builds("{}@{}".format, LOCALS, DOMAINS)
PLAIN = st.from_regex(emails._PLAIN, fullmatch=True)
STRANGE = "@.+-_ \t\u00a0\u3002\uff0e\uff20\u212a\u0131ßA\u0301\u200d\0'/\"()\n" + string.ascii_letters


def by_the_library(text: str) -> Email | None:
    """Parse an address the long way."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(emails, "_MAX_PLAIN_LENGTH", -1)
        return parse_email(text)


def changed(text: str, seed: int) -> str:
    """Return a text with a character or two added, removed or replaced."""
    dice, characters = random.Random(seed), list(text)
    for _ in range(dice.randint(1, 2)):
        at = dice.randrange(len(characters) + 1)
        characters[at : at + dice.randint(0, 1)] = dice.choice(["", dice.choice(STRANGE)])
    return "".join(characters)


@settings(max_examples=100)
@given(st.one_of(PLAIN, NEAR))
def test_plain_addresses_match_the_library(text: str) -> None:
    assert parse_email(text) == by_the_library(text)


@settings(max_examples=100)
@given(st.builds(changed, st.one_of(PLAIN, NEAR), st.integers(0, 2**32)))
def test_near_plain_addresses_match_the_library(text: str) -> None:
    assert parse_email(text) == by_the_library(text)


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("before", ["", "a.", "a.b.", "a"])
def test_names_for_special_uses_are_answered_as_by_the_library(name: str, before: str) -> None:
    text = f"alice@{before}{name}"
    assert parse_email(text) == by_the_library(text)


@pytest.mark.parametrize("length", range(60, 70))
@pytest.mark.parametrize("template", ["{}@example.com", "a@{}.com", "a@b.{}", "a@{}"])
def test_long_parts_are_answered_as_by_the_library(template: str, length: int) -> None:
    text = template.format("b" * length)
    assert parse_email(text) == by_the_library(text)
    assert parse_email(text[-64:]) == by_the_library(text[-64:])


EXPANDING = ["ß", "ŉ", "ǰ", "ΐ", "ﬃ", "İ", "ᾳ", "㋿", "ﷺ", "a\u0301", "Å", "ς"]
UNICODE = st.one_of(
    st.builds("{}@{}.com".format, st.text(min_size=1, max_size=70), st.text(min_size=1, max_size=20)),
    st.builds(
        lambda part, times, domain: f"{part * times}@{domain}",
        st.sampled_from(EXPANDING),
        st.integers(1, 130),
        st.sampled_from(["example.com", "münchen.de", "STRASSE.com", "straße.de", "пример.рф", "faß.de", "ς.gr"]),
    ),
    st.builds("a@{}.{}".format, st.text(min_size=1, max_size=40), st.sampled_from(["com", "рф", "DE", "ß"])),
)


@pytest.mark.parametrize("part", EXPANDING)
@pytest.mark.parametrize("domain", ["example.com", "münchen.de", f"{'ü' * 50}.de"])
def test_addresses_that_folding_makes_too_long_are_refused(part: str, domain: str) -> None:
    for times in range(20, 250, 5):
        email = parse_email(f"{part * times}@{domain}")
        assert email is None or parse_email(email.key) is not None


@settings(max_examples=100)
@given(st.one_of(NEAR, PLAIN, UNICODE, st.builds(changed, NEAR, st.integers(0, 2**32))))
def test_an_address_is_found_under_its_key_as_under_itself(text: str) -> None:
    """What is remembered is looked up by what stands in the path, before it is parsed."""
    email = parse_email(text)
    if email is not None:
        again = parse_email(email.key)
        assert again is not None, ascii(email)
        assert (again.key, again.identity) == (email.key, email.identity)
