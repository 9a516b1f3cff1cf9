"""Mass assignment: no column of any table can be written by naming it in a body."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from litestar.routes import HTTPRoute

from invitree.app import create_app
from invitree.base.problems import InvalidInput
from invitree.base.settings import Settings
from invitree.intake.signup.api import SignUpIn
from invitree.intake.signup.rules import misnamed_code_errors
from invitree.kit.context import AppContext
from invitree.kit.web.body import build

SAMPLES = {"email": "a@example.com", "uid": "MQ", "id": 1, "expiration_date": "2030-01-01"}


def bodies() -> Iterator[type[Any]]:
    """Yield the struct of every route's body."""
    for route in create_app(Settings()).routes:
        if isinstance(route, HTTPRoute):
            for handler in route.route_handlers:
                if isinstance(handler.dto, type):
                    yield handler.dto.model_type


KINDS = dict(sorted((kind.__name__, kind) for kind in bodies()))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
async def test_columns_named_in_a_body_are_refused_or_ignored(ctx: AppContext, kind: type[Any]) -> None:
    rows = await ctx.db.fetch(
        "SELECT DISTINCT column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    columns = {row["column_name"] for row in rows} - set(kind.__struct_fields__)
    assert {"program_id", "user_id", "is_staff", "is_active", "password_hash", "confirmed_at"} <= columns
    body = {name: SAMPLES.get(name, "correct horse battery") for name in kind.__struct_fields__ if name != "expires_at"}
    meant = build(kind, body)
    for column in columns:
        for value in (1, "x", True, None):
            if kind.__struct_config__.forbid_unknown_fields:
                with pytest.raises(InvalidInput):
                    build(kind, {**body, column: value})
            else:
                refused = list(misnamed_code_errors([column])) if kind is SignUpIn and value else []
                with pytest.raises(InvalidInput) if refused else nullcontext():
                    assert build(kind, {**body, column: value}) == meant
