"""Every table that there is has a bound, and docs/limits.md says which."""

import re
from pathlib import Path

from invitree.kit.context import AppContext
from tests.databases import table_names

PAGE = Path(__file__).parents[2] / "docs/limits.md"
# What the service itself, or its operator, writes.
NOT_OF_USERS = {"alembic_version", "invariant_checks", "programs"}


async def test_every_table_has_a_stated_bound(ctx: AppContext) -> None:
    tables = {name for name in await table_names(ctx.db) if not name.startswith("pgqueuer")}
    _, _, text = PAGE.read_text(encoding="utf-8").partition("## What has a bound")
    stated = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*) \|", text, flags=re.MULTILINE))))
    assert stated == tables - NOT_OF_USERS
