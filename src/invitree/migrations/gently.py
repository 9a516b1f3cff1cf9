"""Helpers for online migrations: statements that run before the migration's main transaction, beside a live service.

They run again at every attempt until that transaction has recorded the migration, so each statement must be idempotent.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import op


@contextmanager
def one_by_one() -> Iterator[None]:
    """Run each statement of the block in its own transaction.

    For changes to tables in use: holding the lock of one table while waiting for another would cause deadlocks.
    """
    with op.get_context().autocommit_block():
        yield


@contextmanager
def unhurried() -> Iterator[None]:
    """Run each statement of the block in its own transaction and without short timeouts. It must not block writers."""
    with one_by_one():
        op.execute("SET lock_timeout = '1min'")  # nobody queues behind these statements
        op.execute("SET statement_timeout = '6h'")
        yield
        op.execute("RESET lock_timeout")
        op.execute("RESET statement_timeout")


def build_index(name: str, *, on: str, unique: bool = False) -> None:
    """Build an index concurrently, replacing an invalid one left by a failed attempt."""
    with one_by_one():
        op.execute(
            f"""
            DO $$ BEGIN
                IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('{name}') AND NOT indisvalid) THEN
                    DROP INDEX {name};
                END IF;
            END $$
            """
        )
    with unhurried():
        op.execute(f"CREATE {'UNIQUE ' if unique else ''}INDEX CONCURRENTLY IF NOT EXISTS {name} ON {on}")
