"""Whatever is sent as an address: people who would take two for the same find one account, and nothing else happens."""

import unicodedata
from collections.abc import Callable
from functools import partial, reduce

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from invitree.base.emails import masked, parse_email

DOMAINS = ["example.com", "gmail.com", "GoogleMail.com", "пример.рф"]
# Letters whose capitals, compositions and compatibility forms are many.
LETTERS = st.text("abcXYZ019ßẞŉǰΐΰﬃİſ\u212a\u212bςΣσΆäÄё\u0301\u0308\u0307ｱﾞａＡǆǅⅷ", min_size=1, max_size=12)
LOCALS = LETTERS | st.text(min_size=1, max_size=12)
FORMS = st.sampled_from(
    [
        partial(unicodedata.normalize, "NFC"),
        partial(unicodedata.normalize, "NFD"),
        partial(unicodedata.normalize, "NFKC"),
        partial(unicodedata.normalize, "NFKD"),
    ]
)
CASES = st.sampled_from([str.upper, str.lower, str.title, str.swapcase, str.casefold])
# A letter of two characters has its capital only when it is put together.
COMPOSED = CASES.map(lambda case: lambda text: case(unicodedata.normalize("NFC", text)))
WAYS = st.lists(FORMS | COMPOSED, max_size=4)


@settings(max_examples=1000)
@given(LOCALS, WAYS)
def test_an_address_leads_to_one_account_however_it_is_written(local: str, ways: list[Callable[[str], str]]) -> None:
    # The first has no capital but that of i; the second becomes a letter among its accents, before some or after.
    assume("ı" not in local and "\u0345" not in unicodedata.normalize("NFD", local))
    written = reduce(lambda text, way: way(text), ways, local)
    email, other = parse_email(f"{local}@example.com"), parse_email(f"{written}@example.com")
    if email is not None and other is not None:
        assert email.key == other.key


@settings(max_examples=500)
@given(st.text("abz019._-ß", min_size=1, max_size=12), st.text("abz+._", max_size=6), st.sampled_from(DOMAINS))
def test_a_tag_does_not_make_another_person(local: str, tag: str, domain: str) -> None:
    email, tagged = parse_email(f"{local}@{domain}"), parse_email(f"{local}+{tag}@{domain}")
    if email is not None and tagged is not None:
        assert email.identity == tagged.identity
        assert email.key != tagged.key


@given(LOCALS.map("{}@example.com".format) | st.text(st.characters()) | st.emails())
def test_what_recognizes_a_person_is_recognized_as_the_same(text: str) -> None:
    email = parse_email(text)
    again = parse_email(email.identity) if email else None
    assert again is None or (email is not None and again.identity == email.identity)


@given(st.text(st.characters(), max_size=300) | st.binary(max_size=80).map(lambda data: data.decode("latin-1")))
def test_no_text_is_more_than_an_address_or_none(text: str) -> None:
    email = parse_email(text)
    if email is not None:
        assert len(email.key) <= 254
        assert email.key.encode().isascii() or email.key == unicodedata.normalize("NFC", email.key)
        assert masked(email.key).count("***") == 2
