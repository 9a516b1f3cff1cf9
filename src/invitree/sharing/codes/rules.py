"""Rules for codes: alphabet, parsing, and expiry."""

import enum
import re
import string
import unicodedata
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

# Crockford's base 32: no I, L, O (read as 1, 1, 0) and no U (which avoids some rude words).
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MAX_LENGTH = 64
_MAX_TYPED_LENGTH = 4 * _MAX_LENGTH

# Full-width forms, as typed on East Asian keyboards. NFKC would also turn many other characters into letters.
_FULL_WIDTH = {ord(character) + 0xFEE0: character for character in string.ascii_letters + string.digits}
# Spaces aside: format characters, dashes, opening and closing quotes.
_DROPPED = {"Cf", "Pd", "Pi", "Pf"}
# Quotes in other categories, primes and accents used as quotes; hyphens and the minus sign; invisible variation
# selectors.
_DROPPED_TOO = re.compile(
    "[\"'`\u00b4\u201a\u201e\u2032-\u2037\u2e42\u300c-\u300f\u301d-\u301f\ufe41-\ufe44\uff02\uff07\uff62\uff63"
    "\u02d7\u2043\u2212"
    "\u034f\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)

# Rude words in English and transliterated Russian, spelled with the alphabet. V stands for U, which does not occur.
# Never with 3, 4, 5 or 7: these digits are replaced by letters first.
_RUDE = (
    "ANA1", "ANVS", "ARSE", "B00B", "B1TCH", "BASTARD", "C0CK", "CRAP", "CVM", "CVNT", "DAMN", "D1CK", "DYKE", "FAG",
    "FART", "FCK", "FVCK", "G00K", "H0M0", "JERK", "JEW", "K1KE", "NAZ1", "N1GG", "PED0", "PEN1S", "P1SS", "P00P",
    "P0RN", "PR1CK", "PVSSY", "RAPE", "SEX", "SH1T", "S1VT", "SPERM", "T1T", "TWAT", "VAG1NA", "WANK", "WH0RE", "XXX",
    "B1YAD", "B1YAT", "EBAT", "HVY", "MVDAK", "P1ZD", "XER", "XVY",
)  # fmt: skip
_DIGITS_AS_LETTERS = str.maketrans("3457", "EAST")


class Refused(enum.StrEnum):
    """Why an expiry is not allowed."""

    NOT_IN_THE_FUTURE = "not_in_the_future"
    TOO_FAR = "too_far"


def spell(numbers: Iterable[int]) -> str:
    """Return the code encoded by numbers from 0 to 31."""
    return "".join(ALPHABET[number] for number in numbers)


def is_rude(code: str) -> bool:
    """Return whether a code contains a rude word, with digits read as the letters they resemble."""
    letters = code.translate(_DIGITS_AS_LETTERS)
    return any(word in letters for word in _RUDE)


def parse_code(typed: str) -> str | None:
    """Parse a code as typed or pasted, into upper case; return None if it cannot be one.

    Drops spaces, dashes, quotes and invisible characters anywhere, and punctuation and brackets around it, but nothing
    else: a text with a letter of another script is not a code.
    """
    if len(typed) > _MAX_TYPED_LENGTH:
        return None
    code = typed if _is_plain(typed) else _strip_decoration(typed)
    return code.upper() if _is_plain(code) and len(code) <= _MAX_LENGTH else None


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isalnum()


def _strip_decoration(typed: str) -> str:
    kept = "".join(character for character in typed if not _is_dropped(character)).translate(_FULL_WIDTH)
    return kept.strip("".join(filter(_is_punctuation, kept)))


def _is_dropped(character: str) -> bool:
    return (
        character.isspace()
        or unicodedata.category(character) in _DROPPED
        or _DROPPED_TOO.fullmatch(character) is not None
    )


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] == "P" or character in "<>"


def expiry_for(last_day: date, *, now: datetime, zone: ZoneInfo, longest: timedelta) -> datetime | Refused:
    """Return when a code valid through `last_day` expires, or why this is not allowed."""
    today = now.astimezone(zone).date()
    if last_day <= today:
        return Refused.NOT_IN_THE_FUTURE
    if last_day - today > longest:  # also prevents overflow in the sum below
        return Refused.TOO_FAR
    return datetime.combine(last_day + timedelta(days=1), time(), zone).astimezone(UTC)


def instant_for(expires_at: datetime, *, now: datetime, longest: timedelta) -> datetime | Refused:
    """Return `expires_at` in UTC, or why it is not allowed."""
    if expires_at <= now:
        return Refused.NOT_IN_THE_FUTURE
    if expires_at - now > longest:
        return Refused.TOO_FAR
    return expires_at.astimezone(UTC)


def last_day_of(expires_at: datetime, *, zone: ZoneInfo) -> date:
    """Return the last day, in the program's time zone, on which the code is valid for at least a moment."""
    return (expires_at - timedelta(microseconds=1)).astimezone(zone).date()
