"""identity/users/rules.py and kit/secrets/passwords.py: usernames and passwords."""

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invitree.identity.users.rules import clean_password, clean_username, password_errors
from invitree.kit.secrets.passwords import Hasher, Match

pytestmark = pytest.mark.usefixtures("costly_hashes")
SHORT = "This password is too short. It must contain at least 8 characters."
LONG = "This password is too long. It must contain at most 1024 characters."
DIGITS = "This password is entirely numeric."
EASY = "This password is too easy to guess."
ANOTHER_WORD = "Add another word or two. Uncommon words are better."
NO_REPEATS = "Avoid repeated words and characters."
COMMON = "This password is too common."
LIKE_EMAIL = "The password is too similar to the email."
LIKE_USERNAME = "The password is too similar to the username."


@pytest.mark.parametrize(
    ("password", "complaints"),
    [
        ("correct horse battery staple", []),
        ("zq8#kV2w", []),
        ("zq8#kV2w" * 128, []),
        ("пароль-сложный-42", []),
        ("zq8#kV2", [SHORT]),
        ("x" * 1025, [LONG]),
        ("x" * 60_000, [LONG]),
        ("password", [COMMON, ANOTHER_WORD]),
        ("letmein123", [COMMON, ANOTHER_WORD]),
        ("123456", [SHORT, DIGITS, COMMON, ANOTHER_WORD]),
        ("8374650192", [DIGITS]),
        ("aaaaaaaa", [EASY, 'Repeats like "aaa" are easy to guess.', ANOTHER_WORD, NO_REPEATS]),
        ("abcdefgh", [EASY, 'Sequences like "abc" or "6543" are easy to guess.', ANOTHER_WORD, "Avoid sequences."]),
        ("солнышко1", [EASY, ANOTHER_WORD]),
        ("acmerewards", [EASY, ANOTHER_WORD]),
        ("marylou@example.com", [LIKE_EMAIL, EASY, ANOTHER_WORD]),
        ("mArylou1-zq8#", [LIKE_EMAIL]),
        ("namowrednow#Kz", [LIKE_USERNAME, EASY, ANOTHER_WORD, "Reversed words aren't much harder to guess."]),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_password_meets_every_complaint_it_deserves(password: str, complaints: list[str]) -> None:
    found = password_errors(password, email="marylou@example.com", username="wonderwoman", program="acmerewards")
    assert [text.en for text in found] == complaints
    assert all(text.ru and text.ru != text.en for text in found)


@given(st.text(max_size=40), st.text(max_size=10), st.text(max_size=10))
def test_any_password_gets_an_estimate(password: str, email: str, username: str) -> None:
    password_errors(clean_password(password), email=email, username=username, program="default")


def test_a_name_of_two_letters_forbids_nothing() -> None:
    assert password_errors("zq8#kV2w", email="zq@k.io", username="zq", program="") == []


def test_a_hostile_password_takes_no_time() -> None:
    began = time.perf_counter()
    password_errors("ab" * 512, email="ab" * 127, username="ab" * 75, program="")
    assert time.perf_counter() - began < 0.2


@pytest.mark.parametrize(
    ("text", "username"),
    [
        ("bob", "bob"),
        ("Bob", "Bob"),
        ("b.o+b@x-_", "b.o+b@x-_"),
        ("ｂｏｂ", "bob"),
        ("боб", "боб"),
        ("b" * 150, "b" * 150),
        ("b" * 151, None),
        ("ﷺ" * 20, None),
        ("", None),
        ("bo b", None),
        (" bob\n", "bob"),
        ("bob\0", None),
        ("b/o", None),
        ("<b>", None),
        ("\ud800", None),
        ("\U0001f600", None),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_username_is_letters_digits_and_five_signs(text: str, username: str | None) -> None:
    assert clean_username(text) == username


@given(st.text())
def test_a_clean_username_stays_as_it_is(text: str) -> None:
    name = clean_username(text)
    assert name is None or clean_username(name) == name


async def test_a_hash_is_argon2id_with_our_parameters_and_its_own_salt() -> None:
    hasher = Hasher(threads=1)
    first, second = await hasher.hash("secret"), await hasher.hash("secret")
    assert first.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert first != second
    assert await hasher.check(first, "secret") is Match.RIGHT
    assert await hasher.check(first, "Secret") is Match.WRONG
    hasher.close()


@pytest.mark.parametrize("stored", [None, "", "!", "$argon2id$broken", "pbkdf2_sha256$1$a$b"])
async def test_nobodys_and_unreadable_hashes_match_nothing(stored: str | None) -> None:
    hasher = Hasher(threads=1)
    assert await hasher.check(stored, "nobody") is Match.WRONG
    hasher.close()


async def test_hashing_leaves_the_event_loop_free() -> None:
    hasher = Hasher(threads=1)
    hashing = asyncio.create_task(hasher.hash("correct horse battery staple"))
    turns = 0
    while not hashing.done():
        await asyncio.sleep(0)
        turns += 1
    hasher.close()
    assert turns > 3, "on the loop, it would have been done after its first turn"
