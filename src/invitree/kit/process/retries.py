"""What keeps failing and is tried again: how long to rest, and what to say of it without filling the log."""

import time
from collections.abc import Callable

import structlog

_EVERY_S = 60.0  # how often a trouble that lasts is told of
_log = structlog.get_logger()


class Trouble:
    """One thing that is tried again until it works, and the event under which it is logged.

    Told are the first failure, each new reason, once a minute how often it has failed, and the end. What fails again
    within the minute is the same trouble.
    """

    def __init__(
        self, event: str, *, first_s: float = 0.0, longest_s: float = 0.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._event, self._first_s, self._longest_s, self._now = event, first_s, longest_s, now
        self._reasons: set[str] = set()
        self._times = self._in_a_row = 0
        self._failed_at = self._told_at = now()
        self._is_told = False

    def failed(self, reason: str) -> float:
        """Log a failure if there is something new about it; return for how many seconds to rest before the next try."""
        now = self._now()
        if now - self._failed_at > _EVERY_S:
            self._reasons.clear()
            self._times = 0
        self._failed_at, self._times, self._in_a_row = now, self._times + 1, self._in_a_row + 1
        if reason not in self._reasons or now - self._told_at >= _EVERY_S:
            self._reasons.add(reason)
            self._told_at, self._is_told = now, True
            _log.warning(self._event, reason=reason, times=self._times)
        return float(min(self._longest_s, self._first_s * 2 ** min(self._in_a_row - 1, 10)))

    def over(self) -> None:
        """Log that it works again, where it was told that it did not."""
        self._in_a_row = 0
        if self._is_told:
            self._is_told = False
            _log.info(self._event, over=True, times=self._times)
