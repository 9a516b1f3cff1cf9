"""Requests that read, write and delete accounts, by those who are logged in."""

from collections.abc import Iterator, Mapping

from tests.djoser.requests import Case, Kind, Request, form, get, post, raw
from tests.djoser.signing_up import TOKEN

USERS, ME, MINE, THEIRS = "/auth/users/", "/auth/users/me/", "/auth/users/{id}/", "/auth/users/{other_id}/"
AS_LOADED = {"email": "{email}", "id": 0, "username": "{username}"}
PASSWORD = {"current_password": "{password}"}
SET_PASSWORD, SET_USERNAME, SET_EMAIL = (f"/auth/users/set_{what}/" for what in ("password", "username", "email"))
NEXT = {**PASSWORD, "new_password": "a walrus in the attic"}
RENAME = {**PASSWORD, "new_username": "{name}-2"}
MOVE = {**PASSWORD, "new_email": "{name}-2@example.com"}


def put(path: str, body: object = None, method: str = "PUT", **more: str) -> Request:
    """Return a PUT, or another method, by the person."""
    return Request(method, path, body, auth=TOKEN, **more)  # type: ignore[arg-type]


def delete(path: str, body: object = None, **more: str) -> Request:
    """Return a DELETE by the person."""
    return put(path, body, method="DELETE", **more)


READING = [
    Case("me", get(ME, auth=TOKEN)),
    Case("my id", get(MINE, auth=TOKEN)),
    Case("another's id", get(THEIRS, auth=TOKEN)),
    Case("nobody's id", get("/auth/users/999999999/", auth=TOKEN), differs="texts: detail"),
    Case("no id", get("/auth/users/abc/", auth=TOKEN)),
    Case("an id by nobody", get(MINE), differs="texts: detail"),
    Case("another's id as staff", get(THEIRS, auth=TOKEN), is_staff=True),
    Case("the list", get(USERS, auth=TOKEN)),
    Case("the list as staff", get(USERS, auth=TOKEN), before=[get(THEIRS, auth=TOKEN)], is_staff=True),
    *(
        Case(
            f"the list with ?limit={limit}",
            get(f"{USERS}?limit={limit}", auth=TOKEN),
            differs="limit: 200 / 400 +limit",
        )
        for limit in ("0", "-1", "abc", "100000")
    ),
    Case("the list with ?page=2", get(f"{USERS}?page=2", auth=TOKEN), differs="limit: 200 / 400 +page"),
    Case("the list with ?offset=2", get(f"{USERS}?offset=2", auth=TOKEN), differs="limit: 200 / 400 +offset"),
    Case("a parameter nobody knows", get(f"{ME}?a=b", auth=TOKEN)),
    Case(
        "as HTML",
        get(ME, auth=TOKEN, headers={"Accept": "text/html"}),
        differs="no-browsable-api: text/html / application/json",
    ),
    Case("with .json", get("/auth/users/me.json", auth=TOKEN), differs="suffix: 200 / 404"),
    Case("the list with .json", get("/auth/users.json", auth=TOKEN), differs="suffix: 200 / 404"),
    Case("?format=json", get(f"{ME}?format=json", auth=TOKEN)),
    Case("an id with leading zeros", get("/auth/users/00{id}/", auth=TOKEN), differs="suffix: 200 / 404"),
    Case("OPTIONS", Request("OPTIONS", MINE, auth=TOKEN), differs="options: 200 / 204"),
    Case("HEAD", Request("HEAD", MINE, auth=TOKEN)),
    Case("the index", get("/auth/")),
]

WRITING = [
    *(
        case
        for path in (ME, MINE)
        for method in ("PUT", "PATCH")
        for case in (
            Case(f"{method} {path} what GET returned", put(path, {**AS_LOADED, "id": "{id}"}, method)),
            Case(
                f"{method} {path} what GET returned, by e-mail",
                put(path, {**AS_LOADED, "id": "{id}"}, method),
                site="email",
            ),
            Case(f"{method} {path} nothing", put(path, {}, method)),
            Case(f"{method} {path} no body", put(path, None, method)),
            Case(
                f"{method} {path} nothing, by e-mail",
                put(path, {}, method),
                site="email",
                differs="put-empty: 400 / 200 -username" if method == "PUT" else "",
            ),
            Case(f"{method} {path} another username", put(path, {"username": "{name}-2"}, method), site="email"),
            Case(
                f"{method} {path} another username, login by it",
                put(path, {"username": "{name}-2"}, method),
                differs="put-username: username",
            ),
            Case(
                f"{method} {path} another e-mail",
                put(path, {"email": "{name}-2@example.com"}, method),
                differs="put-email: 200 / 400 +email",
            ),
            Case(f"{method} {path} null as username", put(path, {"username": None}, method), site="email"),
            Case(f"{method} {path} a blank username", put(path, {"username": ""}, method), site="email"),
            Case(f"{method} {path} a bad username", put(path, {"username": "a b"}, method), site="email"),
            Case(
                f"{method} {path} a taken username", put(path, {"username": "{other_username}"}, method), site="email"
            ),
            Case(f"{method} {path} unknown fields", put(path, {"username": "{username}", "first_name": "A"}, method)),
        )
    ),
    Case("PUT of a form", Request("PUT", ME, {"username": "{name}-2"}, "form", TOKEN), site="email"),
    Case("PUT of what GET returned, as a form", Request("PUT", ME, {**AS_LOADED, "id": "{id}"}, "form", TOKEN)),
    Case("PUT of the id as text", put(ME, {"id": " {id} "}), differs="no-coercion: 200 / 400 +id"),
    Case("PUT of another id", put(ME, {"id": 0}), differs="put-email: 200 / 400 +id"),
    Case("PUT by nobody", Request("PUT", ME, {}), differs="texts: detail"),
    Case("PUT of broken JSON by nobody", raw("PUT", ME, "{"), differs="texts: detail"),
    Case("PUT of another", put(THEIRS, {"username": "{name}-2"})),
    Case(
        "PUT of broken JSON to another", raw("PUT", THEIRS, "{", auth=TOKEN), differs="broken-first: 404 / 400 detail"
    ),
    Case("POST to me", post(ME, {}, auth=TOKEN), differs="texts: detail"),
    Case("POST to me by nobody", post(ME, {}), differs="texts: detail"),
]

DELETING = [
    *(
        case
        for path in (ME, MINE)
        for case in (
            Case(f"DELETE {path}", delete(path, PASSWORD)),
            Case(f"DELETE {path} with a form", delete(path, PASSWORD, sent_as="form")),
            Case(f"DELETE {path} with a wrong password", delete(path, {"current_password": "wrong"})),
            Case(f"DELETE {path} with a blank password", delete(path, {"current_password": ""})),
            Case(f"DELETE {path} with null", delete(path, {"current_password": None})),
            Case(f"DELETE {path} with an empty object", delete(path, {})),
            Case(f"DELETE {path} with no body", delete(path)),
        )
    ),
    Case("DELETE by nobody", Request("DELETE", ME, PASSWORD), differs="texts: detail"),
    Case("DELETE of another", delete(THEIRS, PASSWORD), differs="hidden: 403 / 404 detail"),
    Case("DELETE of another as staff", delete(THEIRS, PASSWORD), is_staff=True),
    Case("PUT of another as staff", put(THEIRS, {"username": "{name}-2"}), is_staff=True, site="email"),
    Case("a token after DELETE", get(ME, auth=TOKEN), before=[delete(ME, PASSWORD)], differs="texts: detail"),
    Case(
        "signing up again after DELETE",
        post(USERS, {"email": "{email}", "username": "{username}", "password": "{password}"}),
        before=[delete(ME, PASSWORD)],
    ),
]


def changing(path: str, good: Mapping[str, str], new: str, kind: Kind) -> Iterator[Case]:
    """Yield the requests that change what somebody logs in with."""

    def case(said: str, request: Request, differs: str = "") -> Case:
        return Case(f"{path} {said}", request, differs, site=kind)

    def changed(**fields: object) -> Request:
        return post(path, {**good, **fields}, auth=TOKEN)

    def both(value: object) -> Request:
        return changed(**{"current_password": value, new: value})

    yield case("with the password", changed())
    yield case("by a form", form(path, good, auth=TOKEN))
    yield case("with a JWT", post(path, good, auth="JWT {access}"))
    yield case("by nobody", post(path, good), "texts: detail")
    yield case("with a wrong password", changed(current_password="no"))
    yield case("with nothing", post(path, {}, auth=TOKEN))
    yield case("with no body", post(path, auth=TOKEN))
    yield case("with blanks", both(""))
    yield case("with nulls", both(None))
    yield case("with lists", both([]), f"texts: current_password {new}")
    yield case("retyped the same", changed(**{f"re_{new}": good[new]}))
    yield case("retyped otherwise", changed(**{f"re_{new}": "x"}), "retyped: 204 / 400 +non_field_errors")
    yield case("with an unknown field", changed(a="b"))
    yield case("with broken JSON by nobody", raw("POST", path, "{"), "texts: detail")
    yield case("by GET", get(path, auth=TOKEN), "texts: detail")


CHANGING = [
    *changing(SET_PASSWORD, NEXT, "new_password", "username"),
    *changing(SET_USERNAME, RENAME, "new_username", "username"),
    *changing(SET_EMAIL, MOVE, "new_email", "email"),
    *(
        Case(
            f"the new password {password}",
            post(SET_PASSWORD, {**PASSWORD, "new_password": password}, auth=TOKEN),
            differs="password-advice: new_password",
        )
        for password in ("short", "password", "aaaaaaaa", "12345678901234567")
    ),
    Case(
        "spaces around the current password",
        post(SET_PASSWORD, {**NEXT, "current_password": " {password} "}, auth=TOKEN),
    ),
    Case("a bad new username", post(SET_USERNAME, {**RENAME, "new_username": "a b"}, auth=TOKEN)),
    Case("a taken new username", post(SET_USERNAME, {**RENAME, "new_username": "{other_username}"}, auth=TOKEN)),
    Case(
        "my own username as the new one",
        post(SET_USERNAME, {**RENAME, "new_username": "{username}"}, auth=TOKEN),
        differs="same-username: 400 / 204 -new_username",
    ),
    Case("a bad new e-mail", post(SET_EMAIL, {**MOVE, "new_email": "nobody"}, auth=TOKEN), site="email"),
    Case(
        "a taken new e-mail",
        post(SET_EMAIL, {**MOVE, "new_email": "{other_email}"}, auth=TOKEN),
        site="email",
        differs="texts: new_email",
    ),
    Case("me after another password", get(ME, auth=TOKEN), before=[post(SET_PASSWORD, NEXT, auth=TOKEN)]),
    Case("me after another username", get(ME, auth=TOKEN), before=[post(SET_USERNAME, RENAME, auth=TOKEN)]),
    Case(
        "me after another e-mail",
        get(ME, auth=TOKEN),
        before=[post(SET_EMAIL, MOVE, auth=TOKEN)],
        site="email",
        differs="set-email: email",
    ),
    Case(
        "a login with the new password",
        post("/auth/token/login/", {"username": "{username}", "password": NEXT["new_password"]}),
        before=[post(SET_PASSWORD, NEXT, auth=TOKEN)],
    ),
    Case(
        "a login with the old password",
        post("/auth/token/login/", {"username": "{username}", "password": "{password}"}),
        before=[post(SET_PASSWORD, NEXT, auth=TOKEN)],
    ),
    Case(
        "a login trimmed at the change",
        post("/auth/token/login/", {"username": "{username}", "password": NEXT["new_password"]}),
        before=[post(SET_PASSWORD, {**NEXT, "new_password": f" {NEXT['new_password']} "}, auth=TOKEN)],
    ),
]

CASES = [*READING, *WRITING, *DELETING, *CHANGING]
