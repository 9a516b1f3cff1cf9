"""What clients know of their writes, kept on disk as it becomes known, and compared with the database afterwards."""

import os
from collections import Counter
from pathlib import Path
from typing import Literal

import asyncpg
import msgspec
from msgspec import Struct

from tests.databases import broken_invariants, execute

Outcome = Literal["done", "refused", "unknown"]
_POSSIBLE = {"done": {1}, "refused": {0}, "unknown": {0, 1}}
_EFFECTS = """
    SELECT 'code of ' || u.email AS whose, c.code AS what
    FROM codes c JOIN users u ON u.program_id = c.program_id AND u.id = c.user_id
    UNION ALL
    SELECT u.email, 'account, brought by ' || coalesce(a.email, 'nobody')
    FROM users u
    LEFT JOIN referrals r ON r.program_id = u.program_id AND r.referee_id = u.id
    LEFT JOIN users a ON a.program_id = r.program_id AND a.id = r.referrer_id
"""
_EVENTS = """
    SELECT (SELECT count(*) FROM users) = count(*) FILTER (WHERE kind = 'account.created')
       AND (SELECT count(*) FROM codes) = count(*) FILTER (WHERE kind IN ('code.created', 'code.replaced'))
    FROM audit
"""


class Entry(Struct, frozen=True):
    """A write and what became of it. `what` is empty where only the answer would have told."""

    outcome: Outcome
    key: str
    whose: str
    what: str


class Journal:
    """Writes that were answered, and those of which nobody knows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("ab", buffering=0)

    def note(self, entry: Entry) -> None:
        """Keep an entry, also if everything ends in the next moment."""
        self._file.write(msgspec.json.encode(entry) + b"\n")
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Write no more."""
        self._file.close()

    def read(self) -> list[Entry]:
        """Return all entries, the last word on each write alone."""
        lines = self._path.read_bytes().splitlines()
        return list({entry.key: entry for entry in (msgspec.json.decode(line, type=Entry) for line in lines)}.values())

    def count(self, outcome: Outcome) -> int:
        """Return how many writes came to this."""
        return sum(entry.outcome == outcome for entry in self.read())

    async def compare(self, url: str, *, all_are_known: bool = False) -> None:
        """Check that each write has the effect that its client knows of, and that all that must hold does.

        If `all_are_known`, what was not answered was not done.
        """
        await check_invariants(url)
        db = await asyncpg.connect(url)
        found = Counter((row["whose"], row["what"]) for row in await db.fetch(_EFFECTS))
        await db.close()
        for entry in (entries := self.read()):
            count = found.pop((entry.whose, entry.what), 0)
            possible = _POSSIBLE["refused" if all_are_known and entry.outcome == "unknown" else entry.outcome]
            assert count in possible, f"{count} times: {entry}"
        # What is left was done, and nobody was told so.
        left = Counter(whose for whose, _ in found.elements())
        unknown = Counter(entry.whose for entry in entries if entry.outcome == "unknown" and not entry.what)
        assert left <= (Counter() if all_are_known else unknown), f"more than was asked for: {left - unknown}"


async def check_invariants(url: str) -> None:
    """Check what must always hold, and that each write is there with its event."""
    assert await broken_invariants(url) == []
    assert await execute(url, _EVENTS)
