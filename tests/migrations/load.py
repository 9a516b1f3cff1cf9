"""What a service does while its database is migrated, with the patience that it has."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

from invitree.kit.data.db import Database

Act = Callable[[int], Awaitable[Any]]
_PROGRAM = "SELECT id FROM programs WHERE slug = 'default'"


class Load:
    """Acts, each done again and again and twice side by side. Every failure is kept."""

    def __init__(self, *acts: Act) -> None:
        self.failures: list[str] = []
        self.done, self.longest_s = 0, 0.0
        self._acts, self._numbers, self._is_over = acts, count(1), False

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Go on for the length of the block, and a little before and after."""
        tasks = [asyncio.create_task(self._repeat(act)) for act in self._acts for _ in range(2)]
        await asyncio.sleep(0.3)
        yield
        await asyncio.sleep(0.3)
        self._is_over = True
        await asyncio.gather(*tasks)

    async def _repeat(self, act: Act) -> None:
        while not self._is_over:
            begun = time.monotonic()
            try:
                await act(next(self._numbers))
            except Exception as error:
                self.failures.append(f"{act}: {error!r}")
            self.longest_s = max(self.longest_s, time.monotonic() - begun)
            self.done += 1


@asynccontextmanager
async def in_use(url: str) -> AsyncIterator[Load]:
    """Use a database, for the length of the block, as the version did that needed the first revision alone.

    Events are recorded as by the versions that had them as a table of this name.
    """
    db = Database.at(url, size=8)
    first = _FirstVersion(db)
    of_second = [first.record] if await db.fetchval("SELECT to_regclass('events')") else []
    load = Load(first.log_in, first.look_up_caller, first.sign_up, first.refresh, *of_second)
    async with load.going_on():
        yield load
    await db.close()


class _FirstVersion:
    """In its own words."""

    def __init__(self, db: Database) -> None:
        self.db = db

    async def log_in(self, number: int) -> None:
        program = await self.db.fetchval(_PROGRAM)
        user = await self.db.fetchrow(
            "SELECT id AS user_id, password_hash, is_active FROM users WHERE program_id = $1 AND email_key = $2",
            program,
            f"{number % 100 + 1}@example.com",
        )
        await self.db.fetchval(
            "INSERT INTO sessions (program_id, user_id, token_hash) VALUES ($1, $2, $3) RETURNING id",
            program,
            user["user_id"],
            f"load {number}".encode(),
        )

    async def look_up_caller(self, number: int) -> None:
        await self.db.fetchrow(
            """
            SELECT s.program_id, s.id AS session_id, u.id AS user_id, u.email, u.username, u.is_staff
            FROM sessions s JOIN users u ON u.program_id = s.program_id AND u.id = s.user_id
            WHERE s.program_id = $1 AND u.is_active AND s.token_hash = ANY($2)
            """,
            await self.db.fetchval(_PROGRAM),
            [f"load {number}".encode()],
        )

    async def sign_up(self, number: int) -> None:
        async with self.db.transaction() as tx:
            program = await tx.fetchval(_PROGRAM)
            user = await tx.fetchval(
                """
                INSERT INTO users (program_id, email, email_key, email_identity, username, password_hash, is_staff)
                VALUES ($1, $2, $2, $2, $2, 'x', false) RETURNING id
                """,
                program,
                f"new {number}",
            )
            code = await tx.fetchrow(
                "SELECT id, user_id FROM codes WHERE program_id = $1 AND user_id = $2 FOR SHARE",
                program,
                number % 50 * 2 + 1,
            )
            await tx.execute(
                """
                INSERT INTO referrals (program_id, referrer_id, referee_id, code_id, created_at)
                VALUES ($1, $2, $3, $4, clock_timestamp())
                """,
                program,
                code["user_id"],
                user,
                code["id"],
            )

    async def record(self, number: int) -> None:
        program = await self.db.fetchval(_PROGRAM)
        event_id = await self.db.fetchval(
            """
            INSERT INTO events (program_id, kind, user_id, actor, actor_id, ip_prefix)
            VALUES ($1, 'login.failed', $2, 'self', $2, '') RETURNING id
            """,
            program,
            number,
        )
        newest = await self.db.fetchval(
            "SELECT id FROM events WHERE program_id = $1 AND user_id = $2 ORDER BY id DESC LIMIT 1", program, number
        )
        assert newest == event_id

    async def refresh(self, number: int) -> None:
        async with self.db.transaction() as tx:
            token = await tx.fetchrow(
                """
                SELECT t.program_id, t.id, t.session_id
                FROM refresh_tokens t JOIN sessions s ON s.program_id = t.program_id AND s.id = t.session_id
                WHERE t.used_at IS NULL ORDER BY t.program_id, t.session_id LIMIT 1 FOR UPDATE OF s
                """
            )
            await tx.execute(
                """
                UPDATE refresh_tokens SET used_at = clock_timestamp()
                WHERE program_id = $1 AND session_id = $2 AND used_at IS NULL
                """,
                token["program_id"],
                token["session_id"],
            )
            await tx.execute(
                """
                INSERT INTO refresh_tokens (program_id, session_id, token_hash, expires_at)
                VALUES ($1, $2, $3, clock_timestamp() + interval '30 days')
                """,
                token["program_id"],
                token["session_id"],
                f"load {number}".encode(),
            )
