"""Rates: how often something may be done, as operators write it: `10/5m`."""

import re
from functools import cache

from msgspec import Struct

_RATE = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,3})([smh])")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Rate(Struct, frozen=True):
    """So many times at once, and as many again spread evenly over every `period_s` seconds."""

    times: int
    period_s: int


@cache
def parse_rate(text: str) -> Rate:
    """Return the rate in a text like `10/5m` (times, period in s, m or h). Raises ValueError."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a rate such as 10/5m")
    return Rate(times=int(match[1]), period_s=int(match[2]) * _SECONDS[match[3]])
