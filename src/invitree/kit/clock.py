"""The clock: the database's, estimated without asking it."""

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Tells the database's time; `kit.listen` sets it several times a second."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        """Return the database's time, as UTC."""
        return datetime.now(UTC) + self._ahead

    def set(self, database_time: datetime, *, asked_at: float) -> None:
        """Take over the database's time, which was asked for at `asked_at` (time.time(), seconds) and has just come."""
        middle = (asked_at + time.time()) / 2
        self._ahead = database_time - datetime.fromtimestamp(middle, UTC)
