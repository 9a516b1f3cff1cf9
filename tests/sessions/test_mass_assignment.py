"""Mass assignment: no column of any table can be written by naming it in a body."""

import httpx
import pytest

from invitree.kit.resources import Resources
from tests.cast import Cast, refused
from tests.sessions.test_bad_bodies import ROUTES, Route, good, headers_of

TAKEN = {
    "/auth/users/": {"email", "username"},
    "/auth/token/login/": {"email", "username"},
    "/auth/jwt/create/": {"email", "username"},
    "/api/referral_codes/create/": {"expires_at"},
    "/api/referral_codes/": {"expires_at"},
}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route[0])
async def test_no_column_can_be_written_by_name(
    client: httpx.AsyncClient, cast: Cast, here: Resources, route: Route
) -> None:
    alice = await cast.member()
    rows = await here.db.fetch(
        "SELECT DISTINCT column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    columns = {row["column_name"] for row in rows} - TAKEN.get(route[0], set())
    assert {"id", "program_id", "user_id", "is_staff", "is_active", "password_hash", "code"} <= columns
    body = await good(cast, alice, route)
    before = await cast.contents()
    for column in columns:
        for value in (1, "x", True, None):
            answer = await client.post(route[0], json={**body, column: value}, headers=headers_of(alice, route))
            problem = answer.json()
            lists = {} if column in ("code", "status") else {column: ["This field is not known here."]}
            assert (answer.status_code, problem["code"]) == (400, "invalid_input"), column
            refused(answer, 400, "invalid_input", **lists)
    assert await cast.contents() == before
