"""base/emails.py: the three forms of an address."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invitree.base.emails import masked, parse_email


@pytest.mark.parametrize(
    ("typed", "key", "identity"),
    [
        ("alice@example.com", "alice@example.com", "alice@example.com"),
        ("  Alice@Example.COM ", "alice@example.com", "alice@example.com"),
        ("ALICE+news@example.com", "alice+news@example.com", "alice@example.com"),
        ("a.li.ce+x@gmail.com", "a.li.ce+x@gmail.com", "alice@gmail.com"),
        ("a.lice@GoogleMail.com", "a.lice@googlemail.com", "alice@gmail.com"),
        ("a.lice@example.com", "a.lice@example.com", "a.lice@example.com"),
        ("+tag@example.com", "+tag@example.com", "+tag@example.com"),
        ("ａｌｉｃｅ@example.com", "alice@example.com", "alice@example.com"),
        ("alice＠example.com", "alice@example.com", "alice@example.com"),
        ("straße@example.com", "strasse@example.com", "strasse@example.com"),
        ("STRASSE@example.com", "strasse@example.com", "strasse@example.com"),
        ("a@münchen.de", "a@xn--mnchen-3ya.de", "a@xn--mnchen-3ya.de"),
        ("a@MÜNCHEN.de", "a@xn--mnchen-3ya.de", "a@xn--mnchen-3ya.de"),
        ("a@xn--mnchen-3ya.de", "a@xn--mnchen-3ya.de", "a@xn--mnchen-3ya.de"),
        ("u\u0308@example.com", "ü@example.com", "ü@example.com"),
        ("Ü@example.com", "ü@example.com", "ü@example.com"),
        ("ПОЧТА@пример.рф", "почта@xn--e1afmkfd.xn--p1ai", "почта@xn--e1afmkfd.xn--p1ai"),
        ("a/b@example.com", "a/b@example.com", "a/b@example.com"),
        ("o'neil@example.com", "o'neil@example.com", "o'neil@example.com"),
    ],
)
def test_an_address_has_three_forms(typed: str, key: str, identity: str) -> None:
    email = parse_email(typed)
    assert email is not None
    assert (email.typed, email.key, email.identity) == (unicodedata.normalize("NFC", typed.strip()), key, identity)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "@",
        "a",
        "a@",
        "@b.com",
        "a b@example.com",
        "a@exam ple.com",
        "a@@example.com",
        "a@example..com",
        ".a@example.com",
        "a.@example.com",
        "a@-example.com",
        "a@[127.0.0.1]",
        '"a b"@example.com',
        "Alice <a@example.com>",
        "a@example.com\nBcc: b@example.com",
        "a\0@example.com",
        "a\u202e@example.com",
        "a\u200b@example.com",
        "\ud800@example.com",
        "a@" + "b" * 250 + ".com",
        "x" * 100_000,
        "a@example.com, b@example.com",
    ],
    ids=lambda text: ascii(text)[:40],
)
def test_malformed_addresses_are_refused(text: str) -> None:
    assert parse_email(text) is None


ADDRESSES = st.one_of(
    st.emails(),
    st.text(),
    st.builds("{}@{}.com".format, st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20)),
    st.builds("{}@example.com".format, st.text(min_size=1, max_size=30)),
)


@given(ADDRESSES)
def test_the_key_of_a_key_is_the_key(text: str) -> None:
    email = parse_email(text)
    if email is not None:
        again = parse_email(email.key)
        assert again is not None, email
        assert (again.key, again.identity) == (email.key, email.identity)


@given(ADDRESSES)
def test_writing_an_address_in_capitals_does_not_make_another(text: str) -> None:
    email, upper = parse_email(text), parse_email(text.upper())
    if email is not None and upper is not None and text.isascii():
        assert email.key == upper.key


@given(ADDRESSES)
def test_what_is_stored_can_be_written_and_masked(text: str) -> None:
    email = parse_email(text)
    if email is not None:
        for form in (email.typed, email.key, email.identity):
            assert form.encode()
            assert "\0" not in form
        assert email.key.partition("@")[0] or masked(email.typed)


@pytest.mark.parametrize(
    ("email", "shown"),
    [
        ("bob@example.com", "b***@e***.com"),
        ("b@e.com", "b***@e***.com"),
        ("bob@mail.example.co.uk", "b***@m***.uk"),
        ("üzgür@münchen.de", "ü***@m***.de"),
        ("a@b@c.org", "a***@c***.org"),
    ],
)
def test_a_masked_address_shows_its_first_letters(email: str, shown: str) -> None:
    assert masked(email) == shown
