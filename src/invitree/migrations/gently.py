"""What a migration does beside a service that runs, before the one transaction that is the rest of it.

Until that transaction has noted that the migration is done, what came before it is run anew at every attempt: each
statement must be such as can be repeated.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import op


@contextmanager
def one_by_one() -> Iterator[None]:
    """Let each statement of the block be a transaction of its own.

    For changes to tables that are in use. Who holds one table and waits for another is soon waited for in a circle.
    """
    with op.get_context().autocommit_block():
        yield


@contextmanager
def unhurried() -> Iterator[None]:
    """Let each statement of the block be a transaction of its own and take long. It must keep nobody from writing."""
    with one_by_one():
        op.execute("SET lock_timeout = '1min'")  # for whom this waits, nobody else has to wait
        op.execute("SET statement_timeout = '6h'")
        yield
        op.execute("RESET lock_timeout")
        op.execute("RESET statement_timeout")


def build_index(name: str, *, on: str, unique: bool = False) -> None:
    """Build an index if it is missing, or was left half built by an attempt that came to no end."""
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
