"""What a code looks like and how long it may live."""

import enum
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

# Crockford's base 32: no I, L, O (read as 1, 1, 0) and no U (which keeps some rude words out).
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LONGEST = 64
_LOOK_ALIKE = str.maketrans("OIL", "011")

# What nobody wants on an invitation, spelled as the alphabet and its digits can spell it (English, and Russian in Latin
# letters). U cannot be minted; V stands in for it. No 3, 4, 5 or 7 in here: those are read as letters first.
_RUDE = (
    "ANA1", "ANVS", "ARSE", "B00B", "B1TCH", "BASTARD", "C0CK", "CRAP", "CVM", "CVNT", "DAMN", "D1CK", "DYKE", "FAG",
    "FART", "FCK", "FVCK", "G00K", "H0M0", "JERK", "JEW", "K1KE", "NAZ1", "N1GG", "PED0", "PEN1S", "P1SS", "P00P",
    "P0RN", "PR1CK", "PVSSY", "RAPE", "SEX", "SH1T", "S1VT", "SPERM", "T1T", "TWAT", "VAG1NA", "WANK", "WH0RE", "XXX",
    "B1YAD", "B1YAT", "EBAT", "HVY", "MVDAK", "P1ZD", "XER", "XVY",
)  # fmt: skip
_DIGITS_AS_LETTERS = str.maketrans("3457", "EAST")


class Refused(enum.StrEnum):
    """Why a code cannot live as long as asked."""

    NOT_IN_THE_FUTURE = "not_in_the_future"
    TOO_FAR = "too_far"


def spell(numbers: Iterable[int]) -> str:
    """Return the code that random numbers from 0 to 31 stand for."""
    return "".join(ALPHABET[number] for number in numbers)


def is_rude(code: str) -> bool:
    """Return whether a code can be read as a rude word, digits taken for the letters they look like."""
    read = code.translate(_DIGITS_AS_LETTERS)
    return any(word in read for word in _RUDE)


def normalize(text: str) -> str | None:
    """Return a code as it is stored, from however a person typed it; None where it cannot be one."""
    code = text.strip().upper().translate(_LOOK_ALIKE)
    return code if code.isascii() and code.isalnum() and len(code) <= _LONGEST else None


def expiry_for(last_day: date, *, now: datetime, zone: ZoneInfo, longest: timedelta) -> datetime | Refused:
    """Return the instant from which a code good through `last_day` is dead, or why there is none."""
    today = now.astimezone(zone).date()
    if last_day <= today:
        return Refused.NOT_IN_THE_FUTURE
    if last_day - today > longest:  # also keeps the sum below within the calendar
        return Refused.TOO_FAR
    return datetime.combine(last_day + timedelta(days=1), time(), zone).astimezone(UTC)


def instant_for(expires_at: datetime, *, now: datetime, longest: timedelta) -> datetime | Refused:
    """Return `expires_at` in UTC, or why a code cannot live until then."""
    if expires_at <= now:
        return Refused.NOT_IN_THE_FUTURE
    if expires_at - now > longest:
        return Refused.TOO_FAR
    return expires_at.astimezone(UTC)


def last_day_of(expires_at: datetime, *, zone: ZoneInfo) -> date:
    """Return the last day, in the program's time zone, of which some part belongs to the code's life."""
    return (expires_at - timedelta(microseconds=1)).astimezone(zone).date()
