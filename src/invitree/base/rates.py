"""Rates such as `10/5m`, as operators write them in settings."""

import re
from functools import cache

from msgspec import Struct

_RATE = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,3})([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Rate(Struct, frozen=True):
    """A burst of `times` uses, regained evenly over `period_s` seconds."""

    times: int
    period_s: int


@cache
def parse_rate(text: str) -> Rate:
    """Parse a rate such as `10/5m` (times, then a period in s, m or h). Raises ValueError."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a rate such as 10/5m")
    return Rate(times=int(match[1]), period_s=int(match[2]) * _SECONDS[match[3]])
