"""Every operation of the OpenAPI document that takes a body, with a body that it would take."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from invitree.app import create_app
from invitree.base.settings import Settings
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


# What a field holds wherever a body has it. A new route with these fields needs no row of its own.
_FIELDS: Mapping[str, Any] = {
    "email": "{email}",
    "uid": "{uid}",
    "token": "1.unknown",
    "refresh": "{refresh}",
    "current_password": PASSWORD,
    "new_password": NEW_PASSWORD,
    "new_username": "named{id}",
    "new_email": "moved{id}@example.com",
}
# Bodies of which the document requires no field, or one of several, or means something else by its name.
_LOGIN, _RENAMING = {"email": "{email}", "password": PASSWORD}, {"username": "renamed{id}"}
_OWN: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("POST", "/auth/users/"): {"email": "new@example.com", "username": "new", "password": PASSWORD},
    ("PUT", "/auth/users/me/"): _RENAMING,
    ("PATCH", "/auth/users/me/"): _RENAMING,
    ("PUT", "/auth/users/{id}/"): _RENAMING,
    ("PATCH", "/auth/users/{id}/"): _RENAMING,
    ("POST", "/auth/token/login/"): _LOGIN,
    ("POST", "/auth/jwt/create/"): _LOGIN,
    ("POST", "/auth/jwt/verify/"): {"token": "{refresh}"},
    ("POST", "/api/referral_codes/create/"): {"expiration_date": in_days(5)},
    ("POST", "/api/referral_codes/"): {"expires_at": f"{in_days(5)}T00:00:00Z"},
}


def _with_bodies(document: Mapping[str, Any]) -> Iterator[Operation]:
    for path, item in document["paths"].items():
        for verb, described in item.items():
            if "requestBody" in described:
                method, address = verb.upper(), path.replace("{user_id}", "{id}") + "/"
                body = _OWN.get((method, address)) or {name: _FIELDS[name] for name in _required(document, described)}
                yield Operation(method, address, body, needs_token={} not in described["security"])


def _required(document: Mapping[str, Any], described: Mapping[str, Any]) -> Sequence[str]:
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    name = schema["$ref"].rpartition("/")[2]
    required: Sequence[str] = document["components"]["schemas"][name]["required"]
    return required


BODIES: Sequence[Operation] = list(_with_bodies(create_app(Settings()).openapi_schema.to_schema()))
assert all(operation.body for operation in BODIES)


async def filled(cast: Cast, person: Person, operation: Operation) -> dict[str, Any]:
    """Return the body with what is the person's own, so that only what a test does to it can be wrong."""
    own = {"{email}": person.email, "{uid}": encode_uid(person.id)}
    if "{refresh}" in operation.body.values():
        own["{refresh}"] = (await cast.pair(person)).refresh
    return {name: own.get(value, value).replace("{id}", str(person.id)) for name, value in operation.body.items()}


def address(person: Person, operation: Operation) -> str:
    """Return the path with the person's own id."""
    return operation.path.replace("{id}", str(person.id))
