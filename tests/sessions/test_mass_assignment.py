"""Mass assignment: no column of any table can be written by naming it in a body."""

import httpx
import pytest

from invitree.kit.resources import Resources
from tests.cast import Cast, refused
from tests.operations import BODIES, Operation, address, filled

# What a body has under the name of a column, besides what the body of the test has.
TAKEN = {
    "/auth/token/login/": {"email", "username"},
    "/auth/jwt/create/": {"email", "username"},
    "/api/referral_codes/create/": {"expires_at"},
}


@pytest.mark.parametrize("route", BODIES, ids=str)
async def test_no_column_can_be_written_by_name(
    client: httpx.AsyncClient, cast: Cast, here: Resources, route: Operation
) -> None:
    alice = await cast.member()
    rows = await here.db.fetch(
        "SELECT DISTINCT column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    columns = {row["column_name"] for row in rows} - TAKEN.get(route.path, set()) - set(route.body)
    assert {"id", "program_id", "user_id", "is_staff", "is_active", "password_hash", "confirmed_at"} <= columns
    body, headers = await filled(cast, alice, route), alice.headers if route.needs_token else {}
    before = await cast.contents()
    for column in columns:
        for value in (1, "x", True, None):
            answer = await client.request(
                route.method, address(alice, route), json={**body, column: value}, headers=headers
            )
            problem = answer.json()
            lists = {} if column in ("code", "status") else {column: ["This field is not known here."]}
            assert (answer.status_code, problem["code"]) == (400, "invalid_input"), column
            refused(answer, 400, "invalid_input", **lists)
    assert await cast.contents() == before
