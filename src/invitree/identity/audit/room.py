"""The room of the audit log."""

from datetime import timedelta

import structlog

from invitree.identity.audit.invariants import REFERENCES
from invitree.kit.context import AppContext
from invitree.kit.data.partitions import keep_months
from invitree.kit.room import Room

_log = structlog.get_logger()


async def rotate_months(ctx: AppContext) -> None:
    """Add the months to come, and drop those that were kept for as long as INVITREE_RETENTION_DAYS says."""
    async with ctx.db.transaction() as tx:
        older_than = timedelta(days=ctx.settings.retention_days)
        if dropped := await keep_months(tx, table="audit", older_than=older_than):
            _log.info("events.forgotten", months=dropped)


ROOM = Room(periodic=[(3600.0, rotate_months)], references=REFERENCES)
