"""The clock: the database's, estimated without asking it."""

import time
from datetime import UTC, datetime


class Clock:
    """Tells the database's time; `kit.data.notifications` sets it several times a second."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def seconds(self) -> float:
        """Return the database's time, in seconds since 1970."""
        return time.time() + self._ahead_s

    def now(self) -> datetime:
        """Return the database's time, as UTC."""
        return datetime.fromtimestamp(self.seconds(), UTC)

    def set(self, database_time: datetime, *, asked_at: float) -> None:
        """Take over the database's time, which was asked for at `asked_at` (time.time(), seconds) and has just come."""
        self._ahead_s = database_time.timestamp() - (asked_at + time.time()) / 2
