"""What was answered under a key."""

from msgspec import Struct

from invitree.kit.data.db import Queryable, Transaction, unscoped


class Answer(Struct, frozen=True):
    """What was answered to a request, and what stands for that request."""

    fingerprint: bytes
    status: int
    body: bytes


async def find_answer(db: Queryable, *, program_id: int, key_hash: bytes) -> Answer | None:
    """Return what was answered under a key in the last 24 hours."""
    row = await db.fetchrow(
        """
        SELECT fingerprint, status, body FROM idempotency_keys
        WHERE program_id = $1 AND key_hash = $2 AND created_at > clock_timestamp() - interval '24 hours'
        """,
        program_id,
        key_hash,
    )
    return Answer(*row) if row else None


@unscoped("reads no rows: the program is part of what is locked")
async def lock_key(tx: Transaction, *, program_id: int, key_hash: bytes) -> bool:
    """Take a key until the transaction ends; return False where another transaction has it."""
    taken: bool = await tx.fetchval(
        "SELECT pg_try_advisory_xact_lock(hashtextextended(encode($2, 'hex'), $1))", program_id, key_hash
    )
    return taken


async def insert_answer(
    tx: Queryable, *, program_id: int, key_hash: bytes, user_id: int | None, answer: Answer
) -> bool:
    """Keep what is answered under a key, and whom it is about; return False where something is kept already."""
    kept = await tx.fetchval(
        """
        INSERT INTO idempotency_keys AS kept (program_id, key_hash, user_id, fingerprint, status, body)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (program_id, key_hash) DO UPDATE
            SET user_id = $3, fingerprint = $4, status = $5, body = $6, created_at = clock_timestamp()
            WHERE kept.created_at <= clock_timestamp() - interval '24 hours'
        RETURNING true
        """,
        program_id,
        key_hash,
        user_id,
        answer.fingerprint,
        answer.status,
        answer.body,
    )
    return kept is not None


async def delete_answers_about(tx: Queryable, *, program_id: int, user_id: int) -> None:
    """Forget what was answered about a user, or to one who was logged in."""
    await tx.execute("DELETE FROM idempotency_keys WHERE program_id = $1 AND user_id = $2", program_id, user_id)


async def delete_old_answers(db: Queryable, *, program_id: int, most: int) -> bool:
    """Delete answers that are never given again, the oldest first; return whether there may be more."""
    tag = await db.execute(
        """
        DELETE FROM idempotency_keys WHERE program_id = $1 AND key_hash = ANY (ARRAY(
            SELECT key_hash FROM idempotency_keys
            WHERE program_id = $1 AND created_at <= now() - interval '24 hours'
            ORDER BY created_at LIMIT $2
        ))
        """,
        program_id,
        most,
    )
    return tag == f"DELETE {most}"
