"""What a program's policy may be."""

import re
from collections.abc import Sequence
from typing import Literal
from zoneinfo import available_timezones

from invitree.base.origins import parse_origins

DEFAULT_SLUG = "default"
SHORTEST_CODE, LONGEST_CODE = 8, 20
LONGEST_LIFE_DAYS = 3660
ReferralList = Literal["masked", "owner_only"]
Activation = Literal["off", "required"]
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def is_slug(text: str) -> bool:
    """Return whether a program can have this name."""
    return _SLUG.fullmatch(text) is not None


def host_of(header: str) -> str:
    """Return the host name in a `Host` header, without the port, as programs claim it."""
    return header.strip().lower().rpartition("@")[2].partition(":")[0].rstrip(".")


def policy_error(
    *,
    time_zone: str,
    code_length: int,
    longest_code_life_days: int,
    referral_list: str,
    activation: str,
    host: str | None,
    origins: Sequence[str],
) -> str | None:
    """Return why a policy cannot be, in one line for the operator, or None."""
    if time_zone not in available_timezones():
        return f"time zone {time_zone!r} is not in the IANA database; give one like Europe/Riga"
    if not SHORTEST_CODE <= code_length <= LONGEST_CODE:
        return f"code length must be between {SHORTEST_CODE} and {LONGEST_CODE}"
    if not 1 <= longest_code_life_days <= LONGEST_LIFE_DAYS:
        return f"longest code life must be between 1 and {LONGEST_LIFE_DAYS} days"
    if referral_list not in ("masked", "owner_only"):
        return "referral list must be masked or owner_only"
    if activation not in ("off", "required"):
        return "activation must be off or required"
    if host is not None and not _HOST.fullmatch(host):
        return f"{host!r} is not a host name in lower case, such as invite.example.com"
    try:
        parse_origins(origins)
    except ValueError as error:
        return str(error)
    return None
