"""Which program a request means: its token's, the one in X-Program, the one that claims the host, the default one."""

import secrets
from typing import Any

import httpx
import pytest
from msgspec import structs

from invitree.app import create_app, open_resources
from invitree.base.settings import Settings
from invitree.identity.programs.actions import set_policy
from invitree.kit.context import AppContext
from invitree.kit.web.edge import Edge
from tests.cast import PASSWORD, Cast, Person, refused
from tests.conftest import SECRET
from tests.steps import opens, sign_up

ME, LOGIN, CREATE, USERS = "/auth/users/me/", "/auth/token/login/", "/auth/jwt/create/", "/auth/users/"
SLUGS = [
    *("nobody", "Default", "DEFAULT", "default,default", "1", "-", "a" * 64, "a" * 5000, "'; --", "../x", "*", "ü"),
    *("a\tb", "%00", "\\x00", "default\u00a0"),
]
UNKNOWN = "There is no program of the name in X-Program."


async def slug_of(ctx: AppContext, person: Person) -> str:
    slug: str = await ctx.db.fetchval("SELECT slug FROM programs WHERE id = $1", person.program_id)
    return slug


async def claim(ctx: AppContext, person: Person, host: str) -> None:
    """Have a person's program claim a host name, for this process from now on."""
    await set_policy(ctx.db, program_id=person.program_id, host=host)
    ctx.caches["programs"].clear()


def body_of(person: Person) -> dict[str, str]:
    return {"email": person.email, "password": PASSWORD}


class TestTheHeader:
    @pytest.mark.parametrize("path", [LOGIN, CREATE])
    async def test_the_header_chooses_the_program_of_a_login(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, path: str
    ) -> None:
        alice, eve = await cast.member(), await cast.stranger()
        there = {"X-Program": await slug_of(ctx, eve)}
        answer = await client.post(path, json=body_of(eve), headers=there)
        assert answer.status_code == 200, answer.text
        token = answer.json().get("auth_token")
        shown = {"Authorization": f"Token {token}" if token else f"JWT {answer.json()['access']}"}
        assert (await client.get(ME, headers=shown)).json()["id"] == eve.id
        assert (await client.post(path, json=body_of(eve))).status_code in (400, 401)
        assert (await client.post(path, json=body_of(alice), headers=there)).status_code in (400, 401)
        assert (await client.post(path, json=body_of(alice), headers={"X-Program": "default"})).status_code == 200

    async def test_the_header_chooses_the_program_of_a_sign_up(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        eve = await cast.stranger()
        code, there = await cast.code(eve), {"X-Program": await slug_of(ctx, eve)}
        form = {"email": "one@example.com", "username": "one", "password": PASSWORD}
        ids = []
        for headers in (there, {}):
            answer = await client.post(USERS, json=form, headers=headers)
            assert answer.status_code == 201, answer.text
            ids.append(answer.json()["id"])
        programs = [await ctx.db.fetchval("SELECT program_id FROM users WHERE id = $1", one) for one in ids]
        assert programs == [eve.program_id, 1]
        assert (await client.get(f"/api/referral_codes/check/{code}/", headers=there)).json()["valid"] is True
        assert (await client.get(f"/api/referral_codes/check/{code}/")).json() == {"valid": False}
        taken = ["A user with that email already exists."]
        again = {**form, "username": "two"}
        refused(await client.post(USERS, json=again, headers=there), 400, "invalid_input", email=taken)

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("POST", LOGIN, {"email": "a@b.co", "password": "x"}),
            ("POST", CREATE, {"email": "a@b.co", "password": "x"}),
            ("POST", USERS, {"email": "un@example.com", "username": "un", "password": PASSWORD}),
            ("POST", "/auth/users/reset_password/", {"email": "a@b.co"}),
            ("POST", "/auth/users/reset_username/", {"email": "a@b.co"}),
            ("POST", "/auth/users/resend_activation/", {"email": "a@b.co"}),
            ("GET", "/api/referral_codes/check/ABC/", None),
        ],
        ids=lambda value: str(value)[:30],
    )
    async def test_a_program_that_is_none_is_a_404(
        self, client: httpx.AsyncClient, cast: Cast, method: str, path: str, body: Any
    ) -> None:
        before = await cast.contents()
        for slug in SLUGS:
            answer = await client.request(method, path, json=body, headers={b"X-Program": slug.encode("latin-1")})
            assert refused(answer, 404, "unknown_program")["detail"] == UNKNOWN
        assert await cast.contents() == before

    async def test_an_empty_one_names_none(self, client: httpx.AsyncClient, cast: Cast) -> None:
        alice = await cast.member()
        answer = await client.post(LOGIN, json=body_of(alice), headers={"X-Program": ""})
        assert answer.status_code == 200

    async def test_a_token_always_means_its_own_program(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, eve = await cast.member(), await cast.stranger()
        pair, code = await cast.pair(alice), await cast.code(alice)
        for slug in (await slug_of(ctx, eve), "nobody", "ü' --", ""):
            header = {b"X-Program": slug.encode("latin-1")}
            for shown in (alice.headers, {"Authorization": f"JWT {pair.access}"}):
                headers = {**{name.encode(): value.encode() for name, value in shown.items()}, **header}
                assert (await client.get(ME, headers=headers)).json()["id"] == alice.id
                found = await client.get(f"/api/referral_codes/get/{alice.email}/", headers=headers)
                assert found.json()["code"] == code
                checked = await client.get(f"/api/referral_codes/check/{code}/", headers=headers)
                assert checked.json()["valid"] is True


class TestTheHost:
    @pytest.mark.parametrize("written", ["{}", "{}:8000", "{}.", "{}.:443", "{}:"], ids=str)
    async def test_a_program_is_found_by_the_host_that_it_claims(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, written: str
    ) -> None:
        alice, eve = await cast.member(), await cast.stranger()
        host = f"{await slug_of(ctx, eve)}.example.com"
        await claim(ctx, eve, host)
        for name in (host, host.upper()):
            headers = {"Host": written.format(name)}
            answer = await client.post(LOGIN, json=body_of(eve), headers=headers)
            assert answer.status_code == 200, answer.text
            assert (await client.post(LOGIN, json=body_of(alice), headers=headers)).status_code == 400

    async def test_any_other_host_means_the_default_program(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, eve = await cast.member(), await cast.stranger()
        await claim(ctx, eve, "claimed.example.com")
        for host in (
            "invitree.test",
            "xclaimed.example.com",
            "claimed.example.com.evil.example",
            "example.com",
            "127.0.0.1",
        ):
            headers = {"Host": host}
            assert (await client.post(LOGIN, json=body_of(alice), headers=headers)).status_code == 200
            assert (await client.post(LOGIN, json=body_of(eve), headers=headers)).status_code == 400

    async def test_x_forwarded_host_claims_nothing(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        eve = await cast.stranger()
        await claim(ctx, eve, "forwarded.example.com")
        for name in ("X-Forwarded-Host", "X-Host", "Forwarded"):
            value = f"host={'forwarded.example.com'}" if name == "Forwarded" else "forwarded.example.com"
            assert (await client.post(LOGIN, json=body_of(eve), headers={name: value})).status_code == 400

    async def test_the_header_goes_before_the_host_and_a_token_before_both(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice, eve, zoe = await cast.member(), await cast.stranger(), await cast.stranger()
        await claim(ctx, eve, "before.example.com")
        at_eves = {"Host": "before.example.com", "X-Program": await slug_of(ctx, zoe)}
        assert (await client.post(LOGIN, json=body_of(zoe), headers=at_eves)).status_code == 200
        assert (await client.post(LOGIN, json=body_of(eve), headers=at_eves)).status_code == 400
        answer = await client.get(ME, headers={**at_eves, **alice.headers})
        assert answer.json()["id"] == alice.id

    @pytest.mark.parametrize(
        "host",
        [
            "", " ", ":", "::", "[::1]", "[::1]:8000", "[", "]", "@", "a@b@c", "a/b", "a?b", "a#b", "a\\b", "a b", "..",
            ".", "*", "%00", "\xfc.example", "xn--", "'; --", "a,b", "localhost:99999", "0x7f.1", "a" * 300,
            "a." * 3000, "\x7f", "\t", "{}", "http://a/",
        ],
        ids=lambda value: ascii(value)[:20],
    )  # fmt: skip
    async def test_a_hostile_host_is_never_our_fault(self, client: httpx.AsyncClient, cast: Cast, host: str) -> None:
        alice = await cast.member()
        raw = host.encode("latin-1")
        answers = [
            await client.post(LOGIN, json=body_of(alice), headers={b"Host": raw}),
            await client.get("/api/referral_codes/check/ABC/", headers={b"Host": raw}),
            await client.post("/auth/users/reset_password/", json={"email": "a@b.co"}, headers={b"Host": raw}),
        ]
        for answer in answers:
            assert answer.status_code in (200, 204, 400), answer.text
            if answer.status_code == 400:
                refused(answer, 400, "invalid_input")


class TestTokensOfTheDjangoService:
    """40 hexadecimal digits, which name no program: the request's is asked."""

    async def has(self, ctx: AppContext, person: Person) -> tuple[str, dict[str, str]]:
        key = secrets.token_hex(20)
        await ctx.db.execute(
            "INSERT INTO sessions (program_id, user_id, token_hash, device) VALUES ($1, $2, $3, 'imported')",
            person.program_id,
            person.id,
            ctx.keys.hash(key),
        )
        return key, {"Authorization": f"Token {key}"}

    async def test_a_django_token_opens_under_its_own_scheme_alone(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        alice = await cast.member()
        key, headers = await self.has(ctx, alice)
        assert (await client.get(ME, headers=headers)).json()["id"] == alice.id
        for wrong in (f"Bearer {key}", f"JWT {key}", f"Token {key[:-1]}", f"Token {key}0", f"Token g{key[1:]}"):
            refused(await client.get(ME, headers={"Authorization": wrong}), 401, "unauthenticated")
        [session] = [
            one for one in (await client.get("/auth/token/sessions/", headers=headers)).json() if one["device"]
        ]
        assert (session["device"], session["is_current"]) == ("imported", True)
        assert (await client.post("/auth/token/logout/", headers=headers)).status_code == 204
        assert not await opens(client, headers)

    async def test_a_django_token_opens_in_its_own_program_alone(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext
    ) -> None:
        eve = await cast.stranger()
        _, headers = await self.has(ctx, eve)
        refused(await client.get(ME, headers=headers), 401, "unauthenticated")
        there = {**headers, "X-Program": await slug_of(ctx, eve)}
        assert (await client.get(ME, headers=there)).json()["id"] == eve.id
        await claim(ctx, eve, "imported.example.com")
        assert (await client.get(ME, headers={**headers, "Host": "imported.example.com"})).json()["id"] == eve.id
        refused(await client.get(ME, headers={**headers, "X-Program": "nobody"}), 404, "unknown_program")

    async def test_a_django_token_is_rehashed_under_a_new_secret(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, settings: Settings
    ) -> None:
        alice, new = await cast.member(), "n3w-5ecre7-of-the-te5t-suite-and-long-enough"
        _, headers = await self.has(ctx, alice)
        for secret_key, opened in ((f"{new},{SECRET}", True), (new, True), (SECRET, False)):
            changed = structs.replace(settings, secret_key=secret_key)
            async with open_resources(changed) as later:
                app = create_app(changed)
                app.state["context"] = later
                transport = httpx.ASGITransport(app=Edge(app, access_log=False))  # type: ignore[arg-type]
                async with httpx.AsyncClient(transport=transport, base_url="http://invitree.test") as there:
                    for shown in (headers, alice.headers):
                        assert await opens(there, shown) is opened

    async def test_use_of_a_django_token_is_noted(self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext) -> None:
        alice = await cast.member()
        _, headers = await self.has(ctx, alice)
        old = "UPDATE sessions SET last_seen_at = '2020-01-01' WHERE user_id = $1 AND device = 'imported'"
        await ctx.db.execute(old, alice.id)
        assert await opens(client, headers)
        seen = "SELECT count(*) FROM sessions WHERE user_id = $1 AND last_seen_at < '2021-01-01'"
        assert await ctx.db.fetchval(seen, alice.id) == 0


async def test_a_newcomer_by_host_belongs_to_that_program(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    eve = await cast.stranger()
    await claim(ctx, eve, "door.example.com")
    form = {"email": "door@example.com", "username": "door", "password": PASSWORD}
    answer = await client.post(USERS, json=form, headers={"Host": "door.example.com"})
    assert answer.status_code == 201
    found = await ctx.db.fetchval("SELECT program_id FROM users WHERE id = $1", answer.json()["id"])
    assert found == eve.program_id
    bob = await sign_up(client, email="door@example.com", username="door")
    assert bob.id != answer.json()["id"]
