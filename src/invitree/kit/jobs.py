"""Jobs: rows that the worker takes up, written in the caller's transaction and so there exactly if it commits."""

from typing import Any

import msgspec

from invitree.kit.db import Queryable


async def enqueue(db: Queryable, *, job: str, payload: Any) -> None:
    """Have the worker do the job of this name, with a payload that JSON can hold and that has no secrets.

    Writes what PgQueuer's own `enqueue` writes (a test compares the two): importing it would take a web process 0.6 s
    and 20 MB for one statement.
    """
    await db.execute(
        """
        WITH added AS (
            INSERT INTO pgqueuer (priority, entrypoint, payload, headers, status)
            VALUES (0, $1, $2, 'null', 'queued')
            RETURNING id
        )
        INSERT INTO pgqueuer_log (job_id, status, entrypoint, priority) SELECT id, 'queued', $1, 0 FROM added
        """,
        job,
        msgspec.json.encode(payload),
    )
