"""Requests that make an account."""

from tests.djoser.requests import Case, Request, form, get, multipart, post, raw

USERS = "/auth/users/"
NEW = {"email": "{name}@example.com", "username": "{name}", "password": "a walrus in the attic"}
TOKEN = "Token {token}"
TWICE = "username={name}&username={name}2&password=a+walrus+in+the+attic&email={name}%40example.com"
TWINS = '{"email": "{name}@example.com", "username": "{name}1", "username": "{name}2", "password": "a walrus"}'
LIKE_ALICE = {**NEW, "username": "marguerite"}


def _without(field: str) -> dict[str, str]:
    return {name: value for name, value in NEW.items() if name != field}


BODIES = [
    Case("JSON", post(USERS, NEW)),
    Case("a form", form(USERS, NEW)),
    Case("a multipart form", multipart(USERS, NEW)),
    Case("a form without a username", form(USERS, _without("username"))),
    Case("a form with a blank password", form(USERS, {**NEW, "password": ""})),
    Case("no slash at the end", post("/auth/users", NEW), differs="slashes: 301 / 201"),
    Case("no body", post(USERS), differs="email-required: +email"),
    Case("an empty object", post(USERS, {}), differs="email-required: +email"),
    Case("an empty JSON body", raw("POST", USERS, ""), differs="email-required: +email"),
    Case("an empty form", form(USERS, {}), differs="email-required: +email"),
    Case("broken JSON", raw("POST", USERS, '{"email": '), differs="texts: detail"),
    Case("an array", raw("POST", USERS, "[]"), differs="texts: non_field_errors"),
    Case("a string", raw("POST", USERS, '"alice"'), differs="texts: non_field_errors"),
    Case("null", raw("POST", USERS, "null"), differs="texts: non_field_errors"),
    Case("a number that is none", raw("POST", USERS, '{"email": NaN}'), differs="texts: detail"),
    Case("plain text", raw("POST", USERS, "hello", headers={"Content-Type": "text/plain"}), differs="texts: detail"),
    Case("XML", raw("POST", USERS, "<a/>", headers={"Content-Type": "application/xml"}), differs="texts: detail"),
    Case("Accept: */*", post(USERS, NEW, headers={"Accept": "*/*"})),
    Case(
        "a refusal with Accept: application/json",
        post(USERS, _without("password"), headers={"Accept": "application/json"}),
    ),
]

FORM_TYPE = {"Content-Type": "application/x-www-form-urlencoded"}
PART = 'Content-Disposition: form-data; name="username"'
FILE = {"Content-Type": "multipart/form-data; boundary=b"}

ODD = [
    Case("a mark of byte order", raw("POST", USERS, "\ufeff{}"), differs="texts: detail"),
    Case("JSON that is called a form", raw("POST", USERS, "{}", headers=FORM_TYPE), differs="email-required: +email"),
    Case("a form's field twice", raw("POST", USERS, TWICE, headers=FORM_TYPE), differs="twins: 201 / 400 +username"),
    Case(
        "a form that goes on in JSON",
        raw("POST", USERS, "username=a&{", headers=FORM_TYPE),
        differs="email-required: +email",
    ),
    Case(
        "a file in the place of a username",
        raw("POST", USERS, f'--b\r\n{PART}; filename="a"\r\n\r\na\r\n--b--\r\n', headers=FILE),
        differs="files: -password username",
    ),
    Case(
        "a multipart form that is cut off",
        raw("POST", USERS, f"--b\r\n{PART}\r\n\r\na", headers=FILE),
        differs="broken-forms: -password",
    ),
    Case(
        "a multipart form without a boundary",
        raw("POST", USERS, "x", headers={"Content-Type": "multipart/form-data"}),
        differs="texts: detail",
    ),
    Case(
        "Accept: application/problem+json",
        post(USERS, _without("username"), headers={"Accept": "application/problem+json"}),
        differs="accept: 406 / 400 application/json / application/problem+json detail +username",
    ),
    Case("Accept: text/csv", post(USERS, NEW, headers={"Accept": "text/csv"}), differs="accept: 406 / 201 -detail"),
]

FIELDS = [
    Case("no username", post(USERS, _without("username"))),
    Case("no password", post(USERS, _without("password"))),
    Case("no e-mail", post(USERS, _without("email")), differs="email-required: 201 / 400 +email"),
    Case("a blank e-mail", post(USERS, {**NEW, "email": ""}), differs="email-required: 201 / 400 +email"),
    *(
        Case(f"{field} is {said}", post(USERS, {**NEW, field: value}))
        for field in ("username", "password")
        for said, value in (("blank", ""), ("null", None), ("spaces", "   "))
    ),
    Case("the e-mail is null", post(USERS, {**NEW, "email": None})),
    *(
        Case(f"{field} is {value!r}", post(USERS, {**NEW, field: value}), differs=f"texts: {field}")
        for field in ("email", "username", "password")
        for value in (True, ["a"], {"a": "b"})
    ),
    Case(
        "the username is a number", post(USERS, {**NEW, "username": 4711}), differs="no-coercion: 201 / 400 +username"
    ),
    Case("the password is a number", post(USERS, {**NEW, "password": 83746501}), differs="no-coercion: password"),
    Case("not an e-mail", post(USERS, {**NEW, "email": "nobody"})),
    Case("everything is wrong", post(USERS, {"email": "nobody", "username": "a b", "password": ""})),
    Case("e-mail and username are wrong", post(USERS, {**NEW, "email": "nobody", "username": "a b"})),
    Case("a username with a space", post(USERS, {**NEW, "username": "a b"})),
    Case("a username of 150", post(USERS, {**NEW, "username": "{name}".ljust(150, "a")})),
    Case("a username of 151", post(USERS, {**NEW, "username": "a" * 151})),
    Case("an e-mail of 255", post(USERS, {**NEW, "email": "a" * 243 + "@example.com"})),
    Case("a taken username", post(USERS, {**NEW, "username": "{username}"})),
    Case(
        "a taken username in capitals", post(USERS, {**NEW, "username": "ME-{name}"}), before=[get(USERS, auth=TOKEN)]
    ),
    Case(
        "a taken e-mail",
        post(USERS, {**NEW, "username": "{name}2"}),
        before=[post(USERS, NEW)],
        differs="one-address: 201 / 400 +email",
    ),
    Case(
        "a taken e-mail where it is the login",
        post(USERS, {**NEW, "username": "{name}2"}),
        before=[post(USERS, NEW)],
        site="email",
        differs="texts: email",
    ),
    Case("a taken e-mail and username", post(USERS, NEW), before=[post(USERS, NEW)], differs="one-address: +email"),
    Case("an e-mail with capitals", post(USERS, {**NEW, "email": "{name}.Q@EXAMPLE.com"}), differs="as-typed: email"),
    Case(
        "re_password that differs",
        post(USERS, {**NEW, "re_password": "other"}),
        differs="retyped: 201 / 400 +non_field_errors",
    ),
    Case("re_password that is the same", post(USERS, {**NEW, "re_password": NEW["password"]})),
    Case("unknown fields", post(USERS, {**NEW, "first_name": "Alice", "remember": True})),
    Case("an unknown field in a form", form(USERS, {**NEW, "first_name": "Alice"})),
    Case("is_staff", post(USERS, {**NEW, "is_staff": True})),
    Case("an id", post(USERS, {**NEW, "id": 5})),
    Case("spaces around everything", post(USERS, {key: f" {value} " for key, value in NEW.items()})),
    Case("a line's end behind the username", post(USERS, {**NEW, "username": "{name}\n"})),
    Case(
        "an accent as two characters",
        post(USERS, {**NEW, "username": "{name}e\u0301"}),
        differs="accents: 400 / 201 -username",
    ),
    Case("a null character", post(USERS, {**NEW, "username": "a\0b"}), differs="texts: username"),
    Case("the same field twice", raw("POST", USERS, TWINS), differs="twins: 201 / 400 +username"),
]

PASSWORDS = [
    *(
        Case(
            f"the password {password}", post(USERS, {**NEW, "password": password}), differs="password-advice: password"
        )
        for password in (
            *("short", "password", "12345678", "12345678901234567"),
            *("123456789012", "aaaaaaaa", "abcdefgh", "letmein123"),
        )
    ),
    Case("the password 8374650192", post(USERS, {**NEW, "password": "8374650192"})),
    Case(
        "a password like the username",
        post(USERS, {**LIKE_ALICE, "password": "marguerite1"}),
        differs="password-advice: password",
    ),
]

_ODD_ADDRESSES = (
    *("{name}+tag@example.com", "{name}@sub.example.co.uk", "a..b@example.com", "a@b@example.com"),
    *("{name}@ex ample.com", "@example.com", "{name}@"),
)
ADDRESSES = [
    *(Case(f"the address {address}", post(USERS, {**NEW, "email": address})) for address in _ODD_ADDRESSES),
    Case("an address in another script", post(USERS, {**NEW, "email": "{name}@b\u00fccher.de"})),
    Case(
        "an address with an accent",
        post(USERS, {**NEW, "email": "{name}\u00e9@example.com"}),
        differs="odd-addresses: 400 / 201 -email",
    ),
    Case("an address with a quoted part", post(USERS, {**NEW, "email": '"{name} b"@example.com'})),
    Case(
        "an address with an IP address",
        post(USERS, {**NEW, "email": "{name}@[127.0.0.1]"}),
        differs="odd-addresses: 201 / 400 +email",
    ),
    Case("the address {name}@example", post(USERS, {**NEW, "email": "{name}@example"}), differs="texts: email"),
    *(
        Case(f"the address {address}", post(USERS, {**NEW, "email": address}), differs="addresses: 201 / 400 +email")
        for address in ("{name}@corp.local", "{name}@localhost", "{name}@example.test")
    ),
]

WHO = [
    Case("with a token", post(USERS, NEW, auth=TOKEN)),
    Case("with Basic credentials", post(USERS, NEW, auth="Basic c3RhZ2luZzpwYXNzd29yZA==")),
    Case("with a scheme nobody knows", post(USERS, NEW, auth="Digest username=a")),
    Case(
        "with a dead token",
        post(USERS, NEW, auth="Token 9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b"),
        differs="texts: detail",
    ),
    Case("with a scheme alone", post(USERS, NEW, auth="Token"), differs="texts: detail"),
    Case("with an expired access token", post(USERS, NEW, auth="JWT {expired}"), differs="texts: detail"),
    *(
        Case(f"{method} by nobody", Request(method, USERS), differs="texts: detail")
        for method in ("PUT", "PATCH", "DELETE")
    ),
    *(
        Case(f"{method} by somebody", Request(method, USERS, auth=TOKEN), differs="texts: detail")
        for method in ("PUT", "PATCH", "DELETE")
    ),
    Case("the list by nobody", get(USERS), differs="texts: detail"),
]

MISSED_CODES = [
    Case(
        f"a code as {name}",
        post(USERS, {**NEW, name: "7K3M9XQ2AB"}),
        differs="missed-codes: 201 / 400 +referral_code",
    )
    for name in ("referralCode", "referal_code", "ref", "code")
]

CASES = [*BODIES, *ODD, *FIELDS, *PASSWORDS, *ADDRESSES, *WHO, *MISSED_CODES]
