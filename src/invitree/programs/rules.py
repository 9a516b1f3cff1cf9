"""What a program's policy may be."""

from typing import Literal
from zoneinfo import available_timezones

DEFAULT_SLUG = "default"
SHORTEST_CODE, LONGEST_CODE = 8, 20
LONGEST_LIFE_DAYS = 3660
ReferralList = Literal["masked", "owner_only"]


def complaint(*, time_zone: str, code_length: int, longest_code_life_days: int, referral_list: str) -> str | None:
    """Return why a policy cannot be, in one line for the operator, or None."""
    if time_zone not in available_timezones():
        return f"time zone {time_zone!r} is not in the IANA database; give one like Europe/Riga"
    if not SHORTEST_CODE <= code_length <= LONGEST_CODE:
        return f"code length must be between {SHORTEST_CODE} and {LONGEST_CODE}"
    if not 1 <= longest_code_life_days <= LONGEST_LIFE_DAYS:
        return f"longest code life must be between 1 and {LONGEST_LIFE_DAYS} days"
    if referral_list not in ("masked", "owner_only"):
        return "referral list must be masked or owner_only"
    return None
