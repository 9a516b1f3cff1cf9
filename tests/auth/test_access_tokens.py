"""Access tokens that are not quite ours: each gets the one 401, whichever way it is wrong."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey

from invitree.kit.context import AppContext
from invitree.kit.secrets.keys import _derive
from tests.cast import Cast, Person, refused
from tests.conftest import SECRET

SIGNER = SECRET.partition(",")[0]  # the suite's secret has a comma in it, and so is two
KEY = _derive(SIGNER, b"access token")
HEADER: dict[str, Any] = {"alg": "HS256", "typ": "JWT"}
Claims = dict[str, Any]


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def forge(claims: Claims | bytes, *, header: Any = HEADER, key: bytes = KEY, digest: Any = hashlib.sha256) -> str:
    """Return a token signed with our own key, so that nothing but what is forged about it can be why it is refused."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    signed = f"{b64(json.dumps(header, separators=(',', ':')).encode())}.{b64(payload)}"
    return f"{signed}.{b64(hmac.digest(key, signed.encode(), digest))}"


async def claims_of(ctx: AppContext, cast: Cast, person: Person) -> Claims:
    found = ctx.keys.verify((await cast.pair(person)).access)
    assert found is not None
    return dict(found)


async def ask(client: httpx.AsyncClient, token: str, scheme: str = "Bearer") -> httpx.Response:
    return await client.get("/auth/users/me/", headers={"Authorization": f"{scheme} {token}", "X-Request-Id": "same"})


async def test_a_token_is_one_to_other_libraries(ctx: AppContext, cast: Cast) -> None:
    access = (await cast.pair(await cast.member())).access
    elsewhere = jwt.decode(access, OctKey.import_key(KEY), algorithms=["HS256"])
    assert elsewhere.header == HEADER
    assert elsewhere.claims == ctx.keys.verify(access)


async def test_a_token_signed_here_opens(client: httpx.AsyncClient, cast: Cast, ctx: AppContext) -> None:
    """Or else the tests below would prove nothing."""
    claims = await claims_of(ctx, cast, await cast.member())
    assert (await ask(client, forge(claims))).status_code == 200


def without_signature(claims: Claims) -> str:
    return forge(claims).rpartition(".")[0] + "."


def with_claims_of_another_token(claims: Claims) -> str:
    header, _, signature = forge(claims).split(".")
    return f"{header}.{b64(json.dumps({**claims, 'sub': '1'}).encode())}.{signature}"


def with_two(name: str, value: Any) -> Callable[[Claims], str]:
    def forged(claims: Claims) -> str:
        text = json.dumps(claims)
        return forge(f'{text[:-1]}, "{name}": {json.dumps(value)}}}'.encode())

    return forged


def with_alg(alg: Any) -> Callable[[Claims], str]:
    return lambda claims: forge(claims, header={**HEADER, "alg": alg})


ALGORITHMS: list[Any] = [
    "none", "None", "NONE", "nOnE", "", "HS384", "RS256", "ES256", "dir", None, 1, ["HS256"], {}
]  # fmt: skip
FORGERIES: dict[str, Callable[[Claims], str]] = {
    **{f"alg {alg}": with_alg(alg) for alg in ALGORITHMS},
    "alg none, no signature": lambda c: forge(c, header={"alg": "none"}).rpartition(".")[0] + ".",
    "no alg": lambda c: forge(c, header={"typ": "JWT"}),
    "HS384 for real": lambda c: forge(c, header={**HEADER, "alg": "HS384"}, digest=hashlib.sha384),
    "HS512 for real": lambda c: forge(c, header={**HEADER, "alg": "HS512"}, digest=hashlib.sha512),
    "no signature": without_signature,
    "another key": lambda c: forge(c, key=b"k" * 32),
    "the bare secret": lambda c: forge(c, key=SIGNER.encode()),
    "the key of opaque tokens": lambda c: forge(c, key=_derive(SIGNER, b"opaque token")),
    "an empty key": lambda c: forge(c, key=b""),
    "claims changed": with_claims_of_another_token,
    "a key of its own": lambda c: forge(c, header={**HEADER, "jwk": {"kty": "oct", "k": "AAAA"}}, key=b"\0\0\0"),
    "crit": lambda c: forge(c, header={**HEADER, "crit": ["exp"]}),
    "kid": lambda c: forge(c, header={**HEADER, "kid": "../../dev/null"}, key=b""),
    "kid of SQL": lambda c: forge(c, header={**HEADER, "kid": "x' UNION SELECT 'k"}, key=b"k"),
    "jku": lambda c: forge(c, header={**HEADER, "jku": "https://evil.example/keys"}, key=b"k" * 32),
    "x5u": lambda c: forge(c, header={**HEADER, "x5u": "https://evil.example/cert"}, key=b"k" * 32),
    "x5c": lambda c: forge(c, header={**HEADER, "x5c": ["MIIB"]}, key=b"k" * 32),
    "unencoded payload": lambda c: forge(c, header={**HEADER, "b64": False, "crit": ["b64"]}),
    "encrypted, it says": lambda c: forge(c, header={"alg": "dir", "enc": "A256GCM"}),
    "two algs": lambda c: b64(b'{"alg":"none","alg":"HS256"}') + "." + b64(json.dumps(c).encode()) + ".",
    "spaces in the header": lambda c: b64(b'{"alg": "HS256", "typ": "JWT"}') + "." + forge(c).partition(".")[2],
    "another spelling of the signature": lambda c: forge(c) + "=",
    "another last letter": lambda c: forge(c)[:-1] + chr(ord(forge(c)[-1]) ^ 1),
    "four parts": lambda c: f"{forge(c)}.x",
    "two parts": lambda c: forge(c).rpartition(".")[0],
    "five parts": lambda c: "a.b.c.d.e",
    "100 KB": lambda c: forge({**c, "x": "x" * 100_000}),
    "deep claims": lambda c: forge(b'{"x":' + b"[" * 2000 + b"]" * 2000 + b"}"),
    "deep header": lambda c: b64(b"[" * 2000) + "." + forge(c).partition(".")[2],
    "claims that are a list": lambda c: forge(b"[]"),
    "claims that are null": lambda c: forge(b"null"),
    "claims that are not JSON": lambda c: forge(b"\xff\xfe"),
    "header that is a list": lambda c: forge(c, header=[]),
    "header that is null": lambda c: forge(c, header=None),
    "expired": lambda c: forge({**c, "exp": int(time.time()) - 1}),
    "expires now": lambda c: forge({**c, "exp": int(time.time())}),
    "exp float": lambda c: forge({**c, "exp": time.time() + 100.5}),
    "exp whole float": lambda c: forge({**c, "exp": float(int(time.time()) + 100)}),
    "exp text": lambda c: forge({**c, "exp": str(c["exp"])}),
    "exp NaN": lambda c: forge({**c, "exp": float("nan")}),
    "exp infinite": lambda c: forge({**c, "exp": float("inf")}),
    "exp huge": lambda c: forge({**c, "exp": 10**300}),
    "exp of many digits": lambda c: forge(json.dumps(c).replace(str(c["exp"]), "9" * 5000).encode()),
    "exp 2**63": lambda c: forge({**c, "exp": 2**63}),
    "exp in a year": lambda c: forge({**c, "exp": int(time.time()) + 366 * 86400}),
    "issued tomorrow": lambda c: forge({**c, "iat": int(time.time()) + 86400, "exp": int(time.time()) + 90000}),
    "two exps": with_two("exp", 2**40),
    "two subs": with_two("sub", "1"),
    "another user": lambda c: forge({**c, "sub": "1"}),
    "user 0": lambda c: forge({**c, "sub": "0"}),
    "user beyond 64 bits": lambda c: forge({**c, "sub": str(2**64)}),
    "user of 5,000 digits": lambda c: forge(json.dumps({**c, "sub": "9" * 1500}).encode()),
    "user as a number": lambda c: forge({**c, "sub": int(c["sub"])}),
    "another session": lambda c: forge({**c, "jti": "999999.x"}),
    "another program": lambda c: forge({**c, "pid": c["pid"] + 1}),
    "program as text": lambda c: forge({**c, "pid": str(c["pid"])}),
    "program true": lambda c: forge({**c, "pid": True}),
    "typ refresh": lambda c: forge({**c, "typ": "refresh"}),
    "another issuer": lambda c: forge({**c, "iss": "https://evil.example"}),
    "another audience": lambda c: forge({**c, "aud": "somebody"}),
    "audiences": lambda c: forge({**c, "aud": ["invitree"]}),
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGERIES.values(), ids=FORGERIES)
async def test_a_forged_token_gets_the_one_401(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, forged: Callable[[Claims], str]
) -> None:
    await cast.member()  # user 1, whom some forgeries name
    token = forged(await claims_of(ctx, cast, await cast.member()))
    for scheme in ("Bearer", "JWT", "Token"):
        answer, usual = await ask(client, token, scheme), await ask(client, "nonsense", scheme)
        refused(answer, 401, "unauthenticated")
        assert answer.content == usual.content
    verified = await client.post("/auth/jwt/verify/", json={"token": token[:8000]})
    refused(verified, 401, "token_not_valid")


async def test_a_refresh_token_opens_nothing(client: httpx.AsyncClient, cast: Cast) -> None:
    pair = await cast.pair(await cast.member())
    for scheme in ("Bearer", "JWT", "Token"):
        refused(await ask(client, pair.refresh, scheme), 401, "unauthenticated")


@pytest.mark.parametrize("end", ["deactivate", "delete"])
async def test_the_token_of_somebody_who_is_gone_opens_nothing(client: httpx.AsyncClient, cast: Cast, end: str) -> None:
    ann = await cast.member()
    pair = await cast.pair(ann)
    assert (await ask(client, pair.access)).status_code == 200
    await getattr(cast, end)(ann)
    refused(await ask(client, pair.access), 401, "unauthenticated")
    refused(await client.post("/auth/jwt/refresh/", json={"refresh": pair.refresh}), 401, "token_not_valid")


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp", "iat", "jti", "typ", "pid"])
async def test_a_token_without_a_claim_gets_the_one_401(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, name: str
) -> None:
    claims = await claims_of(ctx, cast, await cast.member())
    wrong_values: list[Any] = [None, "", [], {}, -1, 1.5, True]
    forged = [{key: value for key, value in claims.items() if key != name}]
    forged += [{**claims, name: value} for value in wrong_values]
    for wrong in forged:
        refused(await ask(client, forge(wrong)), 401, "unauthenticated")


async def test_the_second_secret_still_opens_and_the_first_signs() -> None:
    from invitree.kit.secrets.keys import Keyring

    old, both = Keyring([SECRET]), Keyring(["n" * 32, SECRET])
    assert both.verify(old.sign({"sub": "1"})) == {"sub": "1"}
    assert old.verify(both.sign({"sub": "1"})) is None
    assert old.hash("token") in both.hashes("token")
    assert both.hash("token") not in old.hashes("token")
