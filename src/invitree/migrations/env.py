"""Alembic's environment: one transaction per migration, one process at a time, and short lock timeouts."""

import asyncio
import time

import asyncpg
from alembic import context
from sqlalchemy import Connection, pool, text
from sqlalchemy.ext.asyncio import create_async_engine

from invitree.kit.data.connections import connect
from invitree.migrations import LOCK, SESSION, upgrade

_POLL_S = 0.2


def _migrate(connection: Connection) -> None:
    _await_turn(connection)
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def _await_turn(connection: Connection) -> None:
    """Wait until no other process migrates. Polls, because an index build would wait for a query that is blocked."""
    deadline = time.monotonic() + upgrade.TURN_S
    while not connection.scalar(text(f"SELECT pg_try_advisory_lock({LOCK})")):
        connection.rollback()
        if time.monotonic() > deadline:
            raise upgrade.SchemaBusy(
                f"another process has been changing the schema for {upgrade.TURN_S / 60:.0f} minutes"
            )
        time.sleep(_POLL_S)
    connection.commit()


async def _main(url: str) -> None:
    async def creator() -> "asyncpg.Connection[asyncpg.Record]":
        connection: asyncpg.Connection[asyncpg.Record] = await connect(url, timeout=5, server_settings=SESSION)
        return connection

    engine = create_async_engine("postgresql+asyncpg://", poolclass=pool.NullPool, async_creator=creator)
    async with engine.connect() as opened:
        await opened.run_sync(_migrate)
    await engine.dispose()


asyncio.run(_main(context.config.attributes["url"]))
