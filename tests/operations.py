"""Every operation that takes a body, with a body that it would take."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from invitree.identity.email.rules import encode_uid
from tests.cast import PASSWORD, Cast, Person, in_days

NEW_PASSWORD = "staple battery horse correct"


class Operation(NamedTuple):
    """A method, an address and a body; `{email}`, `{refresh}`, `{uid}` and `{id}` stand for the person's own."""

    method: str
    path: str
    body: Mapping[str, Any]
    needs_token: bool = True

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


_FOLLOWED = {"uid": "{uid}", "token": "1.unknown"}
BODIES: Sequence[Operation] = [
    Operation(
        "POST", "/auth/users/", {"email": "new@example.com", "username": "new", "password": PASSWORD}, needs_token=False
    ),
    Operation("PUT", "/auth/users/me/", {"username": "renamed{id}"}),
    Operation("PATCH", "/auth/users/me/", {"username": "renamed{id}"}),
    Operation("DELETE", "/auth/users/me/", {"current_password": PASSWORD}),
    Operation("PUT", "/auth/users/{id}/", {"username": "renamed{id}"}),
    Operation("PATCH", "/auth/users/{id}/", {"username": "renamed{id}"}),
    Operation("DELETE", "/auth/users/{id}/", {"current_password": PASSWORD}),
    Operation("POST", "/auth/users/activation/", _FOLLOWED, needs_token=False),
    Operation("POST", "/auth/users/resend_activation/", {"email": "{email}"}, needs_token=False),
    Operation("POST", "/auth/users/set_password/", {"current_password": PASSWORD, "new_password": NEW_PASSWORD}),
    Operation("POST", "/auth/users/reset_password/", {"email": "{email}"}, needs_token=False),
    Operation(
        "POST", "/auth/users/reset_password_confirm/", {**_FOLLOWED, "new_password": NEW_PASSWORD}, needs_token=False
    ),
    Operation("POST", "/auth/users/set_username/", {"current_password": PASSWORD, "new_username": "named{id}"}),
    Operation("POST", "/auth/users/reset_username/", {"email": "{email}"}, needs_token=False),
    Operation(
        "POST", "/auth/users/reset_username_confirm/", {**_FOLLOWED, "new_username": "named{id}"}, needs_token=False
    ),
    Operation("POST", "/auth/users/set_email/", {"current_password": PASSWORD, "new_email": "moved{id}@example.com"}),
    Operation("POST", "/auth/users/set_email_confirm/", _FOLLOWED, needs_token=False),
    Operation("POST", "/auth/token/login/", {"email": "{email}", "password": PASSWORD}, needs_token=False),
    Operation("POST", "/auth/jwt/create/", {"email": "{email}", "password": PASSWORD}, needs_token=False),
    Operation("POST", "/auth/jwt/refresh/", {"refresh": "{refresh}"}, needs_token=False),
    Operation("POST", "/auth/jwt/verify/", {"token": "{refresh}"}, needs_token=False),
    Operation("POST", "/auth/jwt/logout/", {"refresh": "{refresh}"}, needs_token=False),
    Operation("POST", "/api/referral_codes/create/", {"expiration_date": in_days(5)}),
    Operation("POST", "/api/referral_codes/", {"expires_at": f"{in_days(5)}T00:00:00Z"}),
]


async def filled(cast: Cast, person: Person, operation: Operation) -> dict[str, Any]:
    """Return the body with what is the person's own, so that only what a test does to it can be wrong."""
    own = {"{email}": person.email, "{uid}": encode_uid(person.id)}
    if "{refresh}" in operation.body.values():
        own["{refresh}"] = (await cast.pair(person)).refresh
    return {name: own.get(value, value).replace("{id}", str(person.id)) for name, value in operation.body.items()}


def address(person: Person, operation: Operation) -> str:
    """Return the path with the person's own id."""
    return operation.path.replace("{id}", str(person.id))
