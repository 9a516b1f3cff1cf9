"""Who may do what: every operation of the OpenAPI document, asked by everybody.

MATRIX is also the list of what the service promises to have: an operation without a row fails the test, and so does a
row without an operation.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import httpx
import pytest

from tests.cast import Cast, Person
from tests.operations import BODIES, filled
from tests.structure.test_openapi import operations

# Everybody else comes with a good token; these come without one, or with one that is dead.
NOBODY, DEACTIVATED, DELETED = "nobody", "deactivated", "deleted"
OWNER, MEMBER, STAFF, STRANGER = "owner", "other member", "staff", "staff of another program"
ROLES = (NOBODY, OWNER, MEMBER, STAFF, STRANGER, DEACTIVATED, DELETED)


class Row(NamedTuple):
    """The status that each role gets, all aiming at what is the owner's."""

    nobody: int
    owner: int
    member: int
    staff: int
    stranger: int
    dead: int

    def of(self, role: str) -> int:
        """Return what a role gets."""
        return dict(zip(ROLES, (*self, self.dead), strict=True))[role]


def everybody(status: int) -> Row:
    """Return the row of a door that does not look at tokens."""
    return Row(status, status, status, status, status, status)


def anybody(status: int) -> Row:
    """Return the row of a door that lets all through whose token is not dead."""
    return Row(status, status, status, status, status, 401)


def members(status: int) -> Row:
    """Return the row of a door for those who are signed in, each to what is their own."""
    return Row(401, status, status, status, status, 401)


MATRIX: Mapping[tuple[str, str], Row] = {
    ("GET", "/"): everybody(200),
    ("GET", "/auth"): everybody(200),
    ("GET", "/api"): everybody(200),
    ("POST", "/auth/users"): anybody(201),
    ("GET", "/auth/users"): members(200),
    ("GET", "/auth/users/me"): members(200),
    ("PUT", "/auth/users/me"): members(200),
    ("PATCH", "/auth/users/me"): members(200),
    ("DELETE", "/auth/users/me"): members(204),
    ("GET", "/auth/users/me/events"): members(200),
    ("GET", "/auth/users/{user_id}"): Row(401, 200, 404, 200, 404, 401),
    ("PUT", "/auth/users/{user_id}"): Row(401, 200, 404, 200, 404, 401),
    ("PATCH", "/auth/users/{user_id}"): Row(401, 200, 404, 200, 404, 401),
    ("DELETE", "/auth/users/{user_id}"): Row(401, 204, 404, 204, 404, 401),
    # Let in, and refused for what is in the body: the links and the policy have tests of their own.
    ("POST", "/auth/users/activation"): anybody(400),
    ("POST", "/auth/users/resend_activation"): anybody(400),
    ("POST", "/auth/users/reset_password"): anybody(204),
    ("POST", "/auth/users/reset_password_confirm"): anybody(400),
    ("POST", "/auth/users/reset_username"): anybody(204),
    ("POST", "/auth/users/reset_username_confirm"): anybody(400),
    ("POST", "/auth/users/set_email_confirm"): anybody(400),
    ("POST", "/auth/users/set_password"): members(204),
    ("POST", "/auth/users/set_username"): members(204),
    ("POST", "/auth/users/set_email"): members(204),
    ("POST", "/auth/token/login"): everybody(200),
    ("POST", "/auth/token/logout"): members(204),
    ("GET", "/auth/token/sessions"): members(200),
    ("DELETE", "/auth/token/sessions/{session_id}"): Row(401, 204, 404, 404, 404, 401),
    ("POST", "/auth/jwt/create"): everybody(200),
    ("POST", "/auth/jwt/refresh"): everybody(200),
    ("POST", "/auth/jwt/verify"): everybody(200),
    ("POST", "/auth/jwt/logout"): everybody(204),
    ("POST", "/api/referral_codes/create"): members(201),
    ("POST", "/api/referral_codes"): members(201),
    ("DELETE", "/api/referral_codes/delete"): Row(401, 204, 404, 404, 404, 401),
    ("DELETE", "/api/referral_codes"): Row(401, 204, 404, 404, 404, 401),
    ("GET", "/api/referral_codes"): Row(401, 200, 404, 404, 404, 401),
    ("GET", "/api/referral_codes/get/{email}"): Row(401, 200, 200, 200, 404, 401),
    ("GET", "/api/referral_codes/check/{code}"): anybody(200),
    ("GET", "/api/users/{referrer_id}"): Row(401, 200, 200, 200, 404, 401),
    ("GET", "/api/users/{referrer_id}/referrer"): Row(401, 200, 404, 200, 404, 401),
    ("GET", "/healthz"): everybody(200),
    ("GET", "/readyz"): everybody(200),
}
# Whose own things the body names, whoever asks: a login is with the owner's password, a refresh with the owner's token.
WITH_THE_OWNERS_PROOF = ("/auth/token/login", "/auth/jwt/")


def test_every_operation_has_a_row() -> None:
    assert {(method, path) for method, path, _ in operations()} == set(MATRIX)


async def _owner(cast: Cast) -> tuple[Person, dict[str, str]]:
    """Return somebody with a referrer and a code, and what of theirs a path can name."""
    referrer = await cast.member()
    await cast.code(referrer)
    owner = await cast.member()
    await cast.ctx.db.execute(
        "INSERT INTO referrals (program_id, referrer_id, referee_id, created_at) VALUES ($1, $2, $3, now())",
        owner.program_id,
        referrer.id,
        owner.id,
    )
    session_id = await cast.ctx.db.fetchval(
        "SELECT id FROM sessions WHERE program_id = $1 AND user_id = $2", owner.program_id, owner.id
    )
    return owner, {
        "user_id": str(owner.id),
        "referrer_id": str(owner.id),
        "session_id": str(session_id),
        "email": owner.email,
    }


async def _asker(cast: Cast, role: str, owner: Person) -> Person | None:
    makers: dict[str, Callable[[], Awaitable[Person | None]]] = {
        MEMBER: cast.member,
        STAFF: cast.staff,
        STRANGER: lambda: cast.stranger(staff=True),
    }
    if role in (DEACTIVATED, DELETED):
        person = await cast.member()
        await (cast.deactivate if role == DEACTIVATED else cast.delete)(person)
        return person
    return owner if role == OWNER else await makers[role]() if role in makers else None


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("method", "path"), MATRIX, ids=lambda value: str(value))
async def test_an_operation_lets_through_whom_it_should(
    client: httpx.AsyncClient, cast: Cast, method: str, path: str, role: str
) -> None:
    owner, names = await _owner(cast)
    if method != "POST" or "referral_codes" not in path:
        names["code"] = await cast.code(owner)
    asker = await _asker(cast, role, owner)
    subject = owner if path.startswith(WITH_THE_OWNERS_PROOF) or asker is None else asker
    body = next((one for one in BODIES if (one.method, _as_documented(one.path)) == (method, path)), None)
    sent: dict[str, Any] = {"json": await filled(cast, subject, body)} if body else {}
    if path == "/auth/users":
        sent = (
            {"json": {**sent["json"], "email": f"m{owner.id}@example.com", "username": f"m{owner.id}"}} if sent else {}
        )
    before = await cast.contents()
    answer = await client.request(
        method, path.format(**names).rstrip("/") + "/", headers=asker.headers if asker else {}, **sent
    )
    assert answer.status_code == MATRIX[method, path].of(role), answer.text
    if answer.status_code in (401, 404):
        assert await cast.contents() == before, "who is refused changes nothing"
        assert owner.email not in answer.text


def _as_documented(path: str) -> str:
    return path.rstrip("/").replace("{id}", "{user_id}")
