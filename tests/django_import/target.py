"""What an import has left in the program."""

from typing import Any

from invitree.identity.programs.store import Program
from invitree.imports.django.actions import Report
from invitree.imports.django.rules import Reason
from invitree.kit.context import AppContext
from tests.databases import broken_on


def refused(report: Report) -> list[tuple[str, int | None, Reason]]:
    """Return what stays behind."""
    return [(refusal.kind, refusal.old_id, refusal.reason) for refusal in report.skipped_rows]


async def rows(ctx: AppContext, program: Program, table: str) -> list[dict[str, Any]]:
    """Return the rows of a table that belong to a program."""
    order = "old_id" if table == "imported_users" else "id"
    found = await ctx.db.fetch(f"SELECT * FROM {table} WHERE program_id = $1 ORDER BY {order}", program.id)
    return [dict(row) for row in found]


async def by_name(ctx: AppContext, program: Program) -> dict[str, dict[str, Any]]:
    """Return the users of a program by their names."""
    return {user["username"]: user for user in await rows(ctx, program, "users")}


async def hold(ctx: AppContext) -> None:
    """Check every invariant."""
    assert await broken_on(ctx.db) == []
