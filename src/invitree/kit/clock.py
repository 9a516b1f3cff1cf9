"""A local estimate of the database's clock."""

import time
from datetime import UTC, datetime


class Clock:
    """The database's time; `kit.data.notifications` adjusts it several times a second."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def seconds(self) -> float:
        """Return the database's time as a Unix timestamp, in seconds."""
        return time.time() + self._ahead_s

    def now(self) -> datetime:
        """Return the database's time in UTC."""
        return datetime.fromtimestamp(self.seconds(), UTC)

    def set(self, database_time: datetime, *, asked_at: float) -> None:
        """Adjust to the time in an answer just received; the query was sent at `asked_at` (time.time(), seconds)."""
        self._ahead_s = database_time.timestamp() - (asked_at + time.time()) / 2
