"""Requests that ask for mail and follow the links in it."""

from collections.abc import Iterator

from tests.djoser.requests import Case, Request, form, get, post
from tests.djoser.signing_up import NEW, USERS

ACTIVATE, RESEND = "/auth/users/activation/", "/auth/users/resend_activation/"
RESET, CONFIRM = "/auth/users/reset_password/", "/auth/users/reset_password_confirm/"
RESET_NAME, CONFIRM_NAME = "/auth/users/reset_username/", "/auth/users/reset_username_confirm/"
LINK = {"uid": "{uid}", "token": "{link}"}
MAIL = {"email": "{email}"}
FORGOT = post(RESET, MAIL)
ADVICE = "password-advice: new_password"
PASSWORD = {**LINK, "new_password": "a walrus in the attic"}
NAME = {**LINK, "new_username": "{name}-2"}
LOGIN = "/auth/token/login/"
SIGN_UP = post(USERS, NEW)
MINE = {"email": NEW["email"]}


def _active(name: str, request: Request, *before: Request, differs: str = "") -> Case:
    return Case(name, request, differs, [SIGN_UP, *before], "activation")


ACTIVATION = [
    _active("following the link", post(ACTIVATE, LINK)),
    _active("following the link by a form", form(ACTIVATE, LINK)),
    _active("following it twice", post(ACTIVATE, LINK), post(ACTIVATE, LINK)),
    _active("a bad token", post(ACTIVATE, {**LINK, "token": "bad"})),
    _active("a bad uid", post(ACTIVATE, {**LINK, "uid": "bad"})),
    _active("a padded uid", post(ACTIVATE, {**LINK, "uid": "{uid}=="})),
    _active("nothing", post(ACTIVATE, {})),
    _active("no body", post(ACTIVATE)),
    _active("blanks", post(ACTIVATE, {"uid": "", "token": ""})),
    _active("nulls", post(ACTIVATE, {"uid": None, "token": None})),
    _active("a login before", post(LOGIN, {"username": "{name}", "password": NEW["password"]})),
    _active("a login after", post(LOGIN, {"username": "{name}", "password": NEW["password"]}), post(ACTIVATE, LINK)),
    _active("a JWT before", post("/auth/jwt/create/", {"username": "{name}", "password": NEW["password"]})),
    _active("another link", post(RESEND, MINE)),
    _active("another link by a form", form(RESEND, MINE)),
    _active("another link when active", post(RESEND, MINE), post(ACTIVATE, LINK)),
    _active("another link for nobody", post(RESEND, {"email": "nobody@example.com"})),
    _active("another link for no address", post(RESEND, {"email": "nobody"})),
    _active("another link for nothing", post(RESEND, {})),
    _active("following the other link", post(ACTIVATE, LINK), post(RESEND, MINE)),
    _active("a reset of somebody who is not active", post(RESET, MINE)),
    Case("another link where activation is off", post(RESEND, MAIL), differs="resend-off: +non_field_errors"),
    Case("GET of following", get(ACTIVATE), differs="wrong-method: 401 / 405 detail"),
]

ASKING = [
    Case(f"{path} {said}", request, "texts: email" if said == "with an object" else "")
    for path in (RESET, RESET_NAME)
    for said, request in (
        ("for somebody", post(path, MAIL)),
        ("by a form", form(path, MAIL)),
        ("for nobody", post(path, {"email": "nobody@example.com"})),
        ("for no address", post(path, {"email": "nobody"})),
        ("with a space behind", post(path, {"email": "{email} "})),
        ("with a blank", post(path, {"email": ""})),
        ("with null", post(path, {"email": None})),
        ("with an object", post(path, {"email": {}})),
        ("with nothing", post(path, {})),
        ("with no body", post(path)),
        ("with an unknown field", post(path, {**MAIL, "a": "b"})),
        ("with a token", post(path, MAIL, auth="Token {token}")),
        ("with Basic credentials", post(path, MAIL, auth="Basic c3RhZ2luZzpwYXNzd29yZA==")),
    )
]


def following(path: str, asking: str, new: str, text: str, faults: str = "") -> Iterator[Case]:
    """Yield the requests that follow a link in order to change what somebody logs in with."""
    good = {**LINK, new: text}

    def case(said: str, request: Request, differs: str = "") -> Case:
        return Case(f"{path} {said}", request, differs, [post(asking, MAIL)])

    yield case("with the link", post(path, good))
    yield case("by a form", form(path, good))
    yield case("with a bad token", post(path, {**good, "token": "bad"}))
    yield case("with a bad uid", post(path, {**good, "uid": "bad"}))
    yield case("with a uid that is padded", post(path, {**good, "uid": "{uid}=="}))
    yield case("with nothing", post(path, {}), faults)
    yield case("with no body", post(path), faults)
    yield case("with blanks", post(path, dict.fromkeys(good, "")), faults)
    yield case("with nulls", post(path, dict.fromkeys(good)), faults)
    yield case("without the new", post(path, LINK))
    yield case("retyped the same", post(path, {**good, f"re_{new}": text}))
    yield case("retyped otherwise", post(path, {**good, f"re_{new}": "x"}), "retyped: 204 / 400 +non_field_errors")
    yield case("with an unknown field", post(path, {**good, "a": "b"}))
    yield case("with Basic credentials", post(path, good, auth="Basic c3RhZ2luZzpwYXNzd29yZA=="))


FOLLOWING = [
    *following(CONFIRM, RESET, "new_password", "a walrus in the attic"),
    *following(CONFIRM_NAME, RESET_NAME, "new_username", "{name}-2", "all-missing: +token +uid"),
    Case("a reset link twice", post(CONFIRM, PASSWORD), "", [FORGOT, post(CONFIRM, PASSWORD)]),
    Case("a reset link for a weak password", post(CONFIRM, {**PASSWORD, "new_password": "password"}), ADVICE, [FORGOT]),
    Case(
        "a reset link for an easy password", post(CONFIRM, {**PASSWORD, "new_password": "aaaaaaaa"}), ADVICE, [FORGOT]
    ),
    Case(
        "a token after a reset",
        get("/auth/users/me/", auth="Token {token}"),
        "reset-ends-sessions: 200 / 401",
        [get("/auth/users/me/", auth="Token {token}"), FORGOT, post(CONFIRM, PASSWORD)],
    ),
    Case(
        "a login after a reset",
        post(LOGIN, {"username": "{username}", "password": PASSWORD["new_password"]}),
        "",
        [FORGOT, post(CONFIRM, PASSWORD)],
    ),
    Case(
        "a name link for a bad name", post(CONFIRM_NAME, {**NAME, "new_username": "a b"}), "", [post(RESET_NAME, MAIL)]
    ),
    Case(
        "a name link for a taken name",
        post(CONFIRM_NAME, {**NAME, "new_username": "{other_username}"}),
        "",
        [post(RESET_NAME, MAIL)],
    ),
    Case(
        "a name link twice",
        post(CONFIRM_NAME, NAME),
        "links-once: -new_username +token",
        [post(RESET_NAME, MAIL), post(CONFIRM_NAME, NAME)],
    ),
]

CASES = [*ACTIVATION, *ASKING, *FOLLOWING]
