"""The people in the tests: members, staff, strangers of another program, and nobody."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from invitree.base.emails import parse_email
from invitree.identity.audit.store import OPERATOR
from invitree.identity.auth.actions import TokenPair, open_jwt_session, open_token_session
from invitree.identity.programs.store import Program, find_program_by_slug
from invitree.identity.users.actions import NewUser, add_user
from invitree.identity.users.store import User
from invitree.intake.closure.actions import deactivate_account, delete_account
from invitree.intake.signup import actions as signup
from invitree.kit.client_info import ClientInfo
from invitree.kit.context import AppContext
from tests.databases import table_names

PASSWORD = "correct horse battery staple"
NOWHERE = ClientInfo()
_numbers = itertools.count(1)
_ALWAYS = {"type", "title", "status", "code", "detail", "error"}
_USUAL = _ALWAYS | {"trace_id", "messages"}


def in_days(days: int) -> str:
    """Return the date that many days from today, in UTC, as it is sent."""
    return (datetime.now(UTC).date() + timedelta(days=days)).isoformat()


def refused(answer: httpx.Response, status: int, code: str, **fields: list[str]) -> dict[str, Any]:
    """Check that an answer is exactly this problem, with these lists under these fields and no others; return it.

    `unauthenticated` is `token_not_valid` where the request had an access token.
    """
    scheme = answer.request.headers.get("authorization", "").partition(" ")[0].lower()
    if code == "unauthenticated" and scheme in ("jwt", "bearer"):
        code = "token_not_valid"
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body.get("status"), body.get("code")) == (status, status, code), answer.text
    is_plain = answer.request.url.path.startswith(("/auth", "/api"))
    assert answer.headers["content-type"] == ("application/json" if is_plain else "application/problem+json")
    assert body["type"] == "https://invitree.dev/problems/" + code.replace("_", "-")
    assert body["title"]
    assert body["detail"] == body["error"] != ""
    assert {name: texts for name, texts in body.items() if name not in _ALWAYS | {"trace_id", "messages"}} == fields, (
        answer.text
    )
    assert body.get("trace_id", answer.headers["x-request-id"]) == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    assert ("www-authenticate" in answer.headers) == (status == 401)
    return body


async def sign_up(ctx: AppContext, *, program: Program, new_user: NewUser, referral_code: str | None) -> User:
    """Sign somebody up in a transaction of their own."""
    async with ctx.db.transaction() as tx:
        return await signup.sign_up(
            tx, ctx.keys, program=program, new_user=new_user, referral_code=referral_code, origin=NOWHERE
        )


def new_user() -> NewUser:
    """Return somebody new, with a password nobody will use: hashing 64 of them would take longer than the race."""
    name = f"applicant{next(_numbers)}"
    address = parse_email(f"{name}@example.com")
    assert address is not None
    return NewUser(email=address, username=name, password_hash="!")


@dataclass(frozen=True)
class Person:
    """Somebody with an account and a session."""

    id: int
    program_id: int
    email: str
    username: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """What this person sends with a request."""
        return {"Authorization": f"Token {self.token}"}


class Cast:
    """Makes people, each new, so that tests do not meet each other's."""

    def __init__(self, client: httpx.AsyncClient, ctx: AppContext) -> None:
        self._client, self.ctx = client, ctx
        self._hash = ""

    async def member(
        self,
        *,
        staff: bool = False,
        program: Program | None = None,
        referral_code: str | None = None,
        email: str | None = None,
        username: str | None = None,
    ) -> Person:
        """Return a new user of the default program or of another; with a code, signed up through the public door."""
        found = program or await find_program_by_slug(self.ctx.db, slug="default")
        assert found is not None
        name = username or f"person{next(_numbers)}"
        email = email or f"{name}@example.com"
        if referral_code is None:
            user_id = await self._write(found.id, email, name, staff=staff)
        else:
            body = {"email": email, "username": name, "password": PASSWORD, "referral_code": referral_code}
            answer = await self._client.post("/auth/users/", json=body)
            assert answer.status_code == 201, answer.text
            user_id = answer.json()["id"]
        token = await open_token_session(self.ctx.db, self.ctx, program_id=found.id, user_id=user_id, origin=NOWHERE)
        assert token is not None
        return Person(id=user_id, program_id=found.id, email=email, username=name, token=token)

    async def staff(self) -> Person:
        """Return a new staff member of the default program."""
        return await self.member(staff=True)

    async def stranger(self, *, staff: bool = False) -> Person:
        """Return a new user of another program."""
        slug = f"other-{next(_numbers)}"
        await self.ctx.db.execute("INSERT INTO programs (slug) VALUES ($1)", slug)
        return await self.member(staff=staff, program=await find_program_by_slug(self.ctx.db, slug=slug))

    async def code(self, person: Person, *, expiration_date: str | None = None, replace: bool = False) -> str:
        """Return a new code of a person."""
        answer = await self._client.post(
            "/api/referral_codes/create/",
            json={"expiration_date": expiration_date or in_days(200)},
            params={"replace": replace},
            headers=person.headers,
        )
        assert answer.status_code == 201, answer.text
        code: str = answer.json()["code"]
        return code

    async def delete_code(self, person: Person) -> None:
        """Delete a person's live code."""
        answer = await self._client.delete("/api/referral_codes/delete/", headers=person.headers)
        assert answer.status_code == 204, answer.text

    async def pair(self, person: Person) -> TokenPair:
        """Return the tokens of a new session that lives by refresh tokens."""
        pair = await open_jwt_session(
            self.ctx.db, self.ctx, program_id=person.program_id, user_id=person.id, origin=NOWHERE
        )
        assert pair is not None
        return pair

    async def deactivate(self, person: Person) -> None:
        """Deactivate a person, as the operator does."""
        done = await deactivate_account(self.ctx.db, program_id=person.program_id, user_id=person.id, actor=OPERATOR)
        assert done

    async def delete(self, person: Person) -> None:
        """Delete a person's account."""
        await delete_account(self.ctx, program_id=person.program_id, user_id=person.id, actor=OPERATOR)

    async def contents(self) -> Mapping[str, str]:
        """Return a digest of every table, to compare with a later one."""
        # In one statement and without sorting: it is asked for around every refusal.
        digest = """
            SELECT '{0}' AS name, count(*) || ' ' || coalesce(sum(hashtextextended(t::text, 0)), 0) AS digest FROM {0} t
        """
        rows = await self.ctx.db.fetch(
            " UNION ALL ".join(digest.format(name) for name in await table_names(self.ctx.db))
        )
        return {row["name"]: row["digest"] for row in rows}

    async def expire_code(self, person: Person) -> None:
        """Move a person's live code a second past its end. The cache forgets it: only a test can move time."""
        await self.ctx.db.execute(
            """
            UPDATE codes SET created_at = created_at - (expires_at - clock_timestamp()) - interval '1 second',
                             expires_at = clock_timestamp() - interval '1 second'
            WHERE program_id = $1 AND user_id = $2 AND revoked_at IS NULL
            """,
            person.program_id,
            person.id,
        )
        self._forget()

    async def _write(self, program_id: int, email: str, name: str, *, staff: bool) -> int:
        # One hash for all: it is slow on purpose, and the tests of passwords make their own users.
        self._hash = self._hash or await self.ctx.hasher.hash(PASSWORD)
        address = parse_email(email)
        assert address is not None
        new_user = NewUser(email=address, username=name, password_hash=self._hash)
        user = await add_user(self.ctx.db, program_id=program_id, new_user=new_user, actor=OPERATOR, is_staff=staff)
        return user.id

    def _forget(self) -> None:
        for cache in self.ctx.caches.values():
            cache.close()
            cache.open()
