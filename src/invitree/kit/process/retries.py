"""Retrying with backoff, and logging repeated failures without flooding the log."""

import time
from collections.abc import Callable

import structlog

_LOG_INTERVAL_S = 60.0  # between log lines while it keeps failing
_log = structlog.get_logger()


class RetryLog:
    """The log of one operation that is retried until it succeeds.

    Logs the first failure, each new reason, once a minute the number of failures, and the recovery. A failure within a
    minute of the last one continues the same series.
    """

    def __init__(
        self, event: str, *, first_s: float = 0.0, longest_s: float = 0.0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._event, self._first_s, self._longest_s, self._now = event, first_s, longest_s, now
        self._reasons: set[str] = set()
        self._times = self._consecutive = 0
        self._failed_at = self._logged_at = now()
        self._is_logged = False

    def failed(self, reason: str) -> float:
        """Log a failure if it is due; return how many seconds to wait before the next attempt."""
        now = self._now()
        if now - self._failed_at > _LOG_INTERVAL_S:
            self._reasons.clear()
            self._times = 0
        self._failed_at, self._times, self._consecutive = now, self._times + 1, self._consecutive + 1
        if reason not in self._reasons or now - self._logged_at >= _LOG_INTERVAL_S:
            self._reasons.add(reason)
            self._logged_at, self._is_logged = now, True
            _log.warning(self._event, reason=reason, times=self._times)
        return float(min(self._longest_s, self._first_s * 2 ** min(self._consecutive - 1, 10)))

    def succeeded(self) -> None:
        """Log the recovery, if the failure was logged."""
        self._consecutive = 0
        if self._is_logged:
            self._is_logged = False
            _log.info(self._event, over=True, times=self._times)
