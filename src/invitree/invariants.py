"""What must always hold, one query a line: each finds rows that break it."""

from collections.abc import Sequence
from datetime import datetime

import structlog
from msgspec import Struct

from invitree.kit.data.db import Database, Queryable


class Invariant(Struct, frozen=True):
    """A promise about the data and the query that finds what breaks it."""

    name: str
    promise: str
    query: str


class Broken(Struct, frozen=True):
    """An invariant that does not hold, with how many rows break it and some of them."""

    invariant: Invariant
    count: int
    examples: Sequence[str]


_EXAMPLES = 5
_log = structlog.get_logger()

INVARIANTS = (
    Invariant(
        "I1",
        "a user has at most one code that is not revoked",
        """
        SELECT program_id, user_id FROM codes WHERE revoked_at IS NULL
        GROUP BY program_id, user_id HAVING count(*) > 1
        """,
    ),
    Invariant(
        "I2a",
        "a referee has one referrer, and it is somebody else",
        """
        SELECT program_id, referee_id FROM referrals
        GROUP BY program_id, referee_id HAVING count(*) > 1 OR bool_or(referrer_id = referee_id)
        """,
    ),
    Invariant(
        # Along any chain the ids of referrals grow (the upper one is committed before its referee can have a code), so
        # that none can lead back to where it began. Ids and not times: clocks are set back now and then.
        "I2b",
        "the graph is a forest: whoever brings others was brought before them",
        """
        SELECT r.program_id, r.id
        FROM referrals r JOIN referrals above ON above.program_id = r.program_id AND above.referee_id = r.referrer_id
        WHERE above.id >= r.id
        """,
    ),
    Invariant(
        "I3",
        "a referral's code was its referrer's, and alive when it was used",
        """
        SELECT r.program_id, r.id
        FROM referrals r JOIN codes c ON c.program_id = r.program_id AND c.id = r.code_id
        WHERE c.user_id <> r.referrer_id OR r.created_at < c.created_at OR r.created_at >= c.expires_at
           OR r.created_at > c.revoked_at
        """,
    ),
    Invariant(
        "I4a",
        "a session has at most one unused refresh token",
        """
        SELECT program_id, session_id FROM refresh_tokens WHERE used_at IS NULL
        GROUP BY program_id, session_id HAVING count(*) > 1
        """,
    ),
    Invariant(
        "I4b",
        "a refresh token has a successor only when it was used, and one",
        """
        SELECT n.program_id, n.parent_id
        FROM refresh_tokens n
        LEFT JOIN refresh_tokens t ON t.program_id = n.program_id AND t.id = n.parent_id AND t.used_at IS NOT NULL
        WHERE n.parent_id IS NOT NULL
        GROUP BY n.program_id, n.parent_id HAVING count(*) > 1 OR count(t.id) = 0
        """,
    ),
    Invariant(
        # Users from before there were events have none; whoever came after the first that has one has one. Once a month
        # of events was dropped, those who came within a day of its end are left out: ids and times differ in order.
        "I5",
        "a user and the event of its coming are written together",
        """
        SELECT u.program_id, u.id
        FROM users u
        LEFT JOIN audit e ON e.program_id = u.program_id AND e.user_id = u.id AND e.kind = 'account.created'
        JOIN (
            SELECT min(user_id) AS user_id, min(created_at) AS created_at FROM audit WHERE kind = 'account.created'
        ) first ON u.id > first.user_id
        WHERE e.id IS NULL
            AND (to_regclass('audit_oldest') IS NOT NULL
                OR u.created_at > date_trunc('month', first.created_at) + interval '1 day')
        """,
    ),
    Invariant(
        "I7",
        "a request that its client has named has one answer",
        """
        SELECT program_id, min(user_id) AS about FROM idempotency_keys
        GROUP BY program_id, key_hash HAVING count(*) > 1
        """,
    ),
    Invariant(
        "I9",
        "no row points into another program, or at nothing",
        """
        SELECT 'users' AS of, u.program_id, u.id FROM users u LEFT JOIN programs p ON p.id = u.program_id
        WHERE p.id IS NULL
        UNION ALL
        SELECT 'sessions', s.program_id, s.id
        FROM sessions s LEFT JOIN users u ON u.program_id = s.program_id AND u.id = s.user_id WHERE u.id IS NULL
        UNION ALL
        SELECT 'refresh_tokens', t.program_id, t.id
        FROM refresh_tokens t LEFT JOIN sessions s ON s.program_id = t.program_id AND s.id = t.session_id
        WHERE s.id IS NULL
        UNION ALL
        SELECT 'one_time_tokens', t.program_id, t.id
        FROM one_time_tokens t LEFT JOIN users u ON u.program_id = t.program_id AND u.id = t.user_id WHERE u.id IS NULL
        UNION ALL
        SELECT 'imported_users', i.program_id, i.user_id
        FROM imported_users i LEFT JOIN users u ON u.program_id = i.program_id AND u.id = i.user_id WHERE u.id IS NULL
        UNION ALL
        SELECT 'idempotency_keys', k.program_id, k.user_id
        FROM idempotency_keys k
        LEFT JOIN programs p ON p.id = k.program_id
        LEFT JOIN users u ON u.program_id = k.program_id AND u.id = k.user_id
        WHERE p.id IS NULL OR (k.user_id IS NOT NULL AND u.id IS NULL)
        UNION ALL
        SELECT 'audit', e.program_id, e.id
        FROM audit e
        LEFT JOIN programs p ON p.id = e.program_id
        LEFT JOIN users u ON u.program_id = e.program_id AND u.id = e.user_id
        WHERE p.id IS NULL OR (e.user_id IS NOT NULL AND u.id IS NULL)
        UNION ALL
        SELECT 'codes', c.program_id, c.id
        FROM codes c LEFT JOIN users u ON u.program_id = c.program_id AND u.id = c.user_id WHERE u.id IS NULL
        UNION ALL
        SELECT 'referrals', r.program_id, r.id
        FROM referrals r
        LEFT JOIN users a ON a.program_id = r.program_id AND a.id = r.referrer_id
        LEFT JOIN users b ON b.program_id = r.program_id AND b.id = r.referee_id
        LEFT JOIN codes c ON c.program_id = r.program_id AND c.id = r.code_id
        WHERE a.id IS NULL OR b.id IS NULL OR (r.code_id IS NOT NULL AND c.id IS NULL)
        """,
    ),
    Invariant(
        "I10",
        "an acknowledged write survives a crash: commits wait for the disk",
        """
        SELECT name, setting FROM pg_settings
        WHERE (name = 'fsync' AND setting <> 'on') OR (name = 'synchronous_commit' AND setting = 'off')
        """,
    ),
)


async def check(db: Queryable, invariant: Invariant) -> Broken | None:
    """Return what breaks an invariant, or None where it holds."""
    rows = await db.fetch(invariant.query)
    if not rows:
        return None
    examples = [", ".join(f"{name}={value}" for name, value in row.items()) for row in rows[:_EXAMPLES]]
    return Broken(invariant, len(rows), examples)


class LastCheck(Struct, frozen=True):
    """What was found of an invariant, and when."""

    name: str
    broken_rows: int
    checked_at: datetime


async def last_checks(db: Queryable) -> Sequence[LastCheck]:
    """Return what `watch` found last of each invariant that there is."""
    rows = await db.fetch(
        "SELECT name, broken_rows, checked_at FROM invariant_checks WHERE name = ANY ($1) ORDER BY name",
        [invariant.name for invariant in INVARIANTS],
    )
    return [LastCheck(*row) for row in rows]


async def watch(db: Database) -> None:
    """Check every invariant, log what is broken, and keep what was found for `/metrics`."""
    for invariant in INVARIANTS:
        broken = await check(db, invariant)
        await db.execute(
            """
            INSERT INTO invariant_checks (name, broken_rows) VALUES ($1, $2)
            ON CONFLICT (name) DO UPDATE SET broken_rows = $2, checked_at = clock_timestamp()
            """,
            invariant.name,
            broken.count if broken else 0,
        )
        if broken:
            _log.error(
                "invariant.broken",
                name=invariant.name,
                promise=invariant.promise,
                rows=broken.count,
                examples=broken.examples,
            )
