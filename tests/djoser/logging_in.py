"""Requests that begin, go on with and end sessions."""

from tests.djoser.requests import Case, Request, form, get, multipart, post, raw

LOGIN, LOGOUT = "/auth/token/login/", "/auth/token/logout/"
CREATE, REFRESH, VERIFY = "/auth/jwt/create/", "/auth/jwt/refresh/", "/auth/jwt/verify/"
ME = "/auth/users/me/"
BY_NAME = {"username": "{username}", "password": "{password}"}
BY_EMAIL = {"email": "{email}", "password": "{password}"}
PAIR = "opaque-refresh: +access_expires_at refresh +refresh_expires_at"
NOBODY = {"username": "nobody-at-all", "password": "{password}"}

TOKENS = [
    Case("JSON", post(LOGIN, BY_NAME)),
    Case("a form", form(LOGIN, BY_NAME)),
    Case("a multipart form", multipart(LOGIN, BY_NAME)),
    Case("by e-mail", post(LOGIN, BY_EMAIL), site="email"),
    Case("by e-mail in a form", form(LOGIN, BY_EMAIL), site="email"),
    Case(
        "by the e-mail in capitals",
        post(LOGIN, {**BY_EMAIL, "email": "me-{name}@EXAMPLE.COM"}),
        before=[get(ME, auth="Token {token}")],
        site="email",
        differs="any-case: 400 / 200 -non_field_errors",
    ),
    Case("by username and e-mail", post(LOGIN, {**BY_NAME, **BY_EMAIL})),
    Case("by username and e-mail where e-mail is the login", post(LOGIN, {**BY_NAME, **BY_EMAIL}), site="email"),
    Case("a wrong password", post(LOGIN, {**BY_NAME, "password": "wrong"})),
    Case("a wrong password in a form", form(LOGIN, {**BY_NAME, "password": "wrong"})),
    Case("nobody's name", post(LOGIN, NOBODY)),
    Case("somebody deactivated", post(LOGIN, BY_NAME), before=[get("/auth/users/{id}/")], is_active=False),
    Case("no body", post(LOGIN)),
    Case("an empty object", post(LOGIN, {})),
    Case("an empty JSON body", raw("POST", LOGIN, "")),
    Case("no password", post(LOGIN, {"username": "{username}"})),
    Case("no name", post(LOGIN, {"password": "{password}"})),
    Case("a blank password", post(LOGIN, {**BY_NAME, "password": ""})),
    Case("a blank name", post(LOGIN, {**BY_NAME, "username": ""})),
    Case("a password that is null", post(LOGIN, {**BY_NAME, "password": None})),
    Case("a name that is null", post(LOGIN, {**BY_NAME, "username": None})),
    Case("a name that is a list", post(LOGIN, {**BY_NAME, "username": ["a"]}), differs="texts: username"),
    Case(
        "a name that is a number",
        post(LOGIN, {**BY_NAME, "username": 7}),
        differs="no-coercion: -non_field_errors +username",
    ),
    Case("broken JSON", raw("POST", LOGIN, "{"), differs="texts: detail"),
    Case("spaces around the password", post(LOGIN, {**BY_NAME, "password": " {password} "})),
    Case("a space behind the username", post(LOGIN, {**BY_NAME, "username": "{username} "})),
    Case("a space behind the e-mail", post(LOGIN, {**BY_EMAIL, "email": "{email} "}), site="email"),
    Case("unknown fields", post(LOGIN, {**BY_NAME, "remember": True})),
    Case("with Basic credentials", post(LOGIN, BY_NAME, auth="Basic c3RhZ2luZzpwYXNzd29yZA==")),
    Case(
        "with a dead token",
        post(LOGIN, BY_NAME, auth="Token 9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b"),
        differs="stale-login: 401 / 200 -detail",
    ),
    Case("GET by nobody", get(LOGIN), differs="texts: detail"),
    Case("no slash at the end", post("/auth/token/login", BY_NAME)),
    Case("logging out", post(LOGOUT, auth="Token {token}")),
    Case("logging out with a body", post(LOGOUT, {}, auth="Token {token}")),
    Case("logging out with a form", form(LOGOUT, {"a": "b"}, auth="Token {token}")),
    Case("logging out as nobody", post(LOGOUT), differs="texts: detail"),
    Case(
        "a token after logging out",
        get(ME, auth="Token {token}"),
        before=[post(LOGOUT, auth="Token {token}")],
        differs="texts: detail",
    ),
    Case("GET of logging out", get(LOGOUT, auth="Token {token}"), differs="texts: detail"),
]

JWTS = [
    Case("a pair by JSON", post(CREATE, BY_NAME), differs=PAIR),
    Case("a pair by a form", form(CREATE, BY_NAME), differs=PAIR),
    Case("a pair by a multipart form", multipart(CREATE, BY_NAME), differs=PAIR),
    Case("a pair by e-mail", post(CREATE, BY_EMAIL), site="email", differs=PAIR),
    Case("a pair by username and e-mail", post(CREATE, {**BY_NAME, **BY_EMAIL}), differs=PAIR),
    Case("a pair for a trimmed password", post(CREATE, {**BY_NAME, "password": " {password} "}), differs=PAIR),
    Case("a pair with unknown fields", post(CREATE, {**BY_NAME, "remember": True}), differs=PAIR),
    Case("no pair for a wrong password", post(CREATE, {**BY_NAME, "password": "wrong"})),
    Case("no pair for nobody", post(CREATE, NOBODY)),
    Case("no pair for somebody deactivated", post(CREATE, BY_NAME), before=[get("/auth/users/{id}/")], is_active=False),
    *(
        Case(f"no pair where {field} is {said}", post(CREATE, {**BY_NAME, field: value}))
        for field in ("username", "password")
        for said, value in (("blank", ""), ("null", None))
    ),
    Case("no pair without a password", post(CREATE, {"username": "{username}"})),
    Case("no pair without a name", post(CREATE, {"password": "{password}"}), differs="login-field: +email -username"),
    Case("no pair without a name where e-mail is the login", post(CREATE, {"password": "{password}"}), site="email"),
    Case("no pair for no body", post(CREATE), differs="login-field: +email -username"),
    Case("no pair for an empty object", post(CREATE, {}), differs="login-field: +email -username"),
    Case("no pair for an empty form", form(CREATE, {}), differs="login-field: +email -username"),
    Case(
        "refreshing",
        post(REFRESH, {"refresh": "{refresh}"}),
        differs="rotation: +access_expires_at +refresh +refresh_expires_at",
    ),
    Case(
        "refreshing by a form",
        form(REFRESH, {"refresh": "{refresh}"}),
        differs="rotation: +access_expires_at +refresh +refresh_expires_at",
    ),
    Case(
        "refreshing with an expired access token",
        post(REFRESH, {"refresh": "{refresh}"}, auth="JWT {expired}"),
        differs="rotation: +access_expires_at +refresh +refresh_expires_at",
    ),
    Case("refreshing with rubbish", post(REFRESH, {"refresh": "rubbish"}), differs="texts: detail"),
    Case("refreshing with an access token", post(REFRESH, {"refresh": "{access}"}), differs="texts: detail"),
    Case("refreshing with nothing", post(REFRESH)),
    Case("refreshing with an empty object", post(REFRESH, {})),
    Case("refreshing with a blank", post(REFRESH, {"refresh": ""})),
    Case("refreshing with null", post(REFRESH, {"refresh": None})),
    Case(
        "refreshing with a number", post(REFRESH, {"refresh": 5}), differs="no-coercion: 401 / 400 code detail +refresh"
    ),
    Case(
        "refreshing with an unknown field",
        post(REFRESH, {"refresh": "{refresh}", "a": "b"}),
        differs="rotation: +access_expires_at +refresh +refresh_expires_at",
    ),
    Case("verifying an access token", post(VERIFY, {"token": "{access}"})),
    Case("verifying a refresh token", post(VERIFY, {"token": "{refresh}"})),
    Case("verifying by a form", form(VERIFY, {"token": "{access}"})),
    Case("verifying an expired token", post(VERIFY, {"token": "{expired}"}), differs="texts: detail"),
    Case("verifying rubbish", post(VERIFY, {"token": "rubbish"}), differs="texts: detail"),
    Case("verifying nothing", post(VERIFY, {})),
    Case("verifying a blank", post(VERIFY, {"token": ""})),
    Case("verifying a number", post(VERIFY, {"token": 5}), differs="no-coercion: 401 / 400 code detail +token"),
    *(Case(f"GET {path}", get(path), differs="texts: detail") for path in (CREATE, REFRESH, VERIFY)),
]

WHO = [
    *(Case(f"me by {scheme}", get(ME, auth=scheme)) for scheme in ("Token {token}", "JWT {access}", "Bearer {access}")),
    Case("me by nobody", get(ME), differs="texts: detail"),
    Case("me by an expired access token", get(ME, auth="JWT {expired}"), differs="texts: detail"),
    Case("me by rubbish as JWT", get(ME, auth="JWT rubbish"), differs="texts: detail"),
    Case("me by rubbish as Bearer", get(ME, auth="Bearer a.b.c"), differs="texts: detail"),
    Case(
        "writing by an expired access token", Request("PATCH", ME, {}, auth="Bearer {expired}"), differs="texts: detail"
    ),
    Case("an unknown token", get(ME, auth="Token 9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b"), differs="texts: detail"),
    Case("Basic credentials", get(ME, auth="Basic c3RhZ2luZzpwYXNzd29yZA=="), differs="texts: detail"),
    Case("a scheme alone", get(ME, auth="Token"), differs="texts: detail"),
    Case("a token in two parts", get(ME, auth="Token a b"), differs="texts: detail"),
    Case("a token behind a tab", get(ME, auth="Token\t{token}"), differs="tab: 200 / 401"),
    Case("token in lower case", get(ME, auth="token {token}")),
    Case("bearer in lower case", get(ME, auth="bearer {access}"), differs="schemes: 401 / 200 -detail"),
    Case("me after being deactivated", get(ME, auth="Token {token}"), is_active=False, differs="texts: detail"),
    Case(
        "me with a JWT after being deactivated",
        get(ME, auth="JWT {access}"),
        before=[post(VERIFY, {"token": "{access}"})],
    ),
]

CASES = [*TOKENS, *JWTS, *WHO]
