"""The front page of the API reference, and what the OpenAPI document says of everything."""

from litestar.openapi.spec import Components, SecurityScheme, Tag

import invitree
from invitree.kit.web.apidocs import api_docs

_DESCRIPTION = """
Invitree is the referral engine that companies run themselves. People sign up, mint a **referral code** that expires,
and share it; friends register with it; the company sees who brought whom.

## The main job

1. `POST /auth/users/`: Alice signs up.
2. `POST /auth/token/login/`: she gets a token for `Authorization: Token …`.
3. `POST /api/referral_codes/create/`: she mints a code, good through a day of her choice.
4. `GET /api/referral_codes/get/{email}/`: whoever is signed in and knows her address finds it.
5. `POST /auth/users/` with `referral_code`: a friend registers with it.
6. `GET /api/users/{referrer_id}/`: Alice sees whom she brought.

Trailing slashes are optional everywhere. Bodies are JSON or forms (`application/x-www-form-urlencoded`,
`multipart/form-data`), 64 KiB at most. Text is taken without the white space around it. Answers are never to be stored
(`Cache-Control: no-store`).

## Codes as people type them

Wherever a code is sent, it may be sent as it was typed or pasted: case and full-width letters do not matter; spaces,
hyphens, quotes and invisible characters are dropped, and so is punctuation around it. Where no code is spelled exactly
so, `O` counts as `0`, and `I` and `L` as `1`, if only one live code reads like that.

## Who is calling

| header | from | lives |
|---|---|---|
| `Authorization: Token <auth_token>` | `POST /auth/token/login/` | until it is logged out, or the password changes |
| `Authorization: Bearer <access>`, or `JWT <access>` | `POST /auth/jwt/create/` | 5 minutes; refresh it for 30 days |

A token means the program (the tenant) of its user. Without one, `X-Program: <name>` picks the program, then the host
name, if a program claims it; then it is the default one. What belongs to another program answers 404.

## Links in mails

A link reads `<public URL>/account/#/<task>/<uid>/<token>`; a front end sends its `uid` and `token` to the route of the
task: `activate` to `/auth/users/activation/`, `password/reset/confirm`, `username/reset/confirm` and
`email/change/confirm` to the `…_confirm/` routes. Each works once. Mails are written in the language of the request.

## Limits

Failed logins, sign-ups, mails asked for, lookups by e-mail and checks of codes are limited. Over the limit there is a
429 with `Retry-After`; `RateLimit-Policy` and `RateLimit` tell beforehand: `"login";r=7;t=90` means that seven more may
fail just now, and that all is forgotten in 90 seconds.

## Problems

Every refusal has one body (RFC 9457), as `application/json` here unless `Accept` names `application/problem+json`.
`code` is for programs; `detail` is for people, in English or Russian by `Accept-Language`. Where a field is wrong, its
name holds a list of complaints:

```json
{"type": "https://invitree.dev/problems/invalid-input", "title": "Invalid input", "status": 400,
 "code": "invalid_input", "detail": "expiration_date: It must be later than today.",
 "error": "expiration_date: It must be later than today.",
 "expiration_date": ["It must be later than today."], "trace_id": "9f3c1b7a2d4e5f60"}
```

`trace_id` is also in the header `X-Request-Id`; send your own there and it is taken over. A 503 carries `Retry-After`.
Any operation may answer 404 or 405 for an address or method that does not exist.
"""

MANUAL = api_docs(
    title="Invitree",
    version=invitree.__version__,
    description=_DESCRIPTION,
    tags=[
        Tag("Users", "Accounts: signing up, with or without a referral code, and who one is."),
        Tag("Credentials", "Confirming an address; changing a password, username or address, or having forgotten one."),
        Tag("Sessions", "Logging in and out. A session is one device, by an opaque token or by JWTs."),
        Tag("Referral codes", "Minting, replacing, deleting and finding codes. At most one live code a user."),
        Tag("Referrals", "Who brought whom. A referee has one referrer, for ever."),
        Tag("Operations", "Whether the service is alive and ready."),
    ],
    components=Components(
        security_schemes={
            "Token": SecurityScheme(
                type="apiKey",
                name="Authorization",
                security_scheme_in="header",
                description="`Token <auth_token>`, from `POST /auth/token/login/`",
            ),
            "Bearer": SecurityScheme(
                type="http", scheme="bearer", bearer_format="JWT", description="The access token of a pair"
            ),
            "JWT": SecurityScheme(
                type="apiKey",
                name="Authorization",
                security_scheme_in="header",
                description="`JWT <access>`: the same access token, as djoser's clients send it",
            ),
        }
    ),
)
