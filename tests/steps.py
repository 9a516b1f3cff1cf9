"""What the tests of accounts do again and again: log in, follow a link, look for traces."""

import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from urllib.parse import quote

import httpx

from invitree.identity.email.rules import encode_uid
from invitree.identity.programs.actions import set_policy
from invitree.identity.programs.store import Program, find_program_by_slug
from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, refused
from tests.postbox import Link, Postbox

ME, LOGIN, REFRESH = "/auth/users/me/", "/auth/token/login/", "/auth/jwt/refresh/"
ANOTHER = "quite another battery horse"
REQUIRED = "This field is required."
WRONG_TYPE, NULL = "This has the wrong type.", "Null characters are not allowed."
IS_NULL, BLANK = "This field may not be null.", "This field may not be blank."
BAD_TOKEN, BAD_UID = "Invalid token for given user.", "Invalid user id or user doesn't exist."
BAD_PASSWORD = "Invalid password."
BAD_EMAIL, EMAIL_TAKEN = "Enter a valid email address.", "A user with that email already exists."
BAD_NAME = "Enter a valid username. This value may contain only letters, numbers, and @/./+/-/_ characters."
NAME_TAKEN = "A user with that username already exists."
PASSWORDS_DIFFER = "The two password fields didn't match."
NAMES_DIFFER = "The two username fields didn't match."
_DEFAULT_PROGRAM_ID = 1  # the first that the migrations make
_names = count(1)


def at(route: str) -> str:
    """Return the path of one of djoser's routes."""
    return f"/auth/users/{route}/"


def lookup(email: str) -> str:
    """Return the path that finds a code by its owner's address."""
    return f"/api/referral_codes/get/{quote(email, safe='@')}/"


def bearer(access: str) -> dict[str, str]:
    """Return what is sent with an access token."""
    return {"Authorization": f"Bearer {access}"}


def done(answer: httpx.Response) -> None:
    """Check that an answer is a 204 with nothing in it."""
    assert (answer.status_code, answer.content) == (204, b""), answer.text
    assert answer.headers["cache-control"] == "no-store"


async def opens(client: httpx.AsyncClient, headers: Mapping[str, str]) -> bool:
    """Return whether somebody is let in with these headers."""
    answer = await client.get(ME, headers=headers)
    if answer.status_code != 200:
        refused(answer, 401, "unauthenticated")
    return answer.status_code == 200


async def refreshes(client: httpx.AsyncClient, refresh: str) -> bool:
    """Return whether a refresh token gets a successor."""
    answer = await client.post(REFRESH, json={"refresh": refresh})
    if answer.status_code != 200:
        refused(answer, 401, "token_not_valid")
    return answer.status_code == 200


async def logs_in(client: httpx.AsyncClient, password: str = PASSWORD, **actor: str) -> bool:
    """Return whether somebody of this address or name logs in with this password."""
    answer = await client.post(LOGIN, json={**actor, "password": password})
    assert answer.status_code in (200, 400), answer.text
    return answer.status_code == 200


async def default_program(ctx: AppContext) -> Program:
    """Return the default program."""
    program = await find_program_by_slug(ctx.db, slug="default")
    assert program is not None
    return program


async def require_activation(ctx: AppContext) -> None:
    """Have the default program ask for confirmed addresses, for this process from now on."""
    await set_policy(ctx.db, program_id=(await default_program(ctx)).id, activation="required")
    ctx.caches["programs"].clear()


async def sign_up(client: httpx.AsyncClient, **changes: Any) -> Person:
    """Return somebody who signed up through the public door, and has no session."""
    name = f"newcomer{next(_names)}"
    body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD, **changes}
    answer = await client.post("/auth/users/", json=body)
    assert answer.status_code == 201, answer.text
    user = answer.json()
    return Person(
        id=user["id"], program_id=_DEFAULT_PROGRAM_ID, email=user["email"], username=user["username"], token=""
    )


async def link_for(client: httpx.AsyncClient, postbox: Postbox, person: Person, route: str) -> Link:
    """Ask for a link by a person's address, and return it from the mail."""
    done(await client.post(at(route), json={"email": person.email}))
    return await postbox.link(person.email)


async def change_link(client: httpx.AsyncClient, postbox: Postbox, person: Person, new_email: str) -> Link:
    """Ask for another address, and return the link from the mail that goes there."""
    body = {"new_email": new_email, "current_password": PASSWORD}
    done(await client.post(at("set_email"), json=body, headers=person.headers))
    return await postbox.link(new_email)


async def expire_links(ctx: AppContext, person: Person) -> None:
    """Move the end of a person's links into the past."""
    status = await ctx.db.execute(
        "UPDATE one_time_tokens SET expires_at = clock_timestamp() WHERE user_id = $1 AND used_at IS NULL", person.id
    )
    assert status != "UPDATE 0"


async def traces(ctx: AppContext, *texts: str) -> list[tuple[str, str]]:
    """Return in which tables any of these texts is, as text in any case or as bytes, and which."""
    found = []
    for (table,) in await ctx.db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        rows = [row.lower() for (row,) in await ctx.db.fetch(f"SELECT t::text FROM {table} t")]
        for text in texts:
            wanted = (text.lower(), text.encode().hex(), text.lower().encode().hex())
            if any(one in row for row in rows for one in wanted):
                found.append((table, text))
    return found


@asynccontextmanager
async def news_withheld(ctx: AppContext) -> AsyncIterator[None]:
    """Keep the news of commits from every process for the length of a block: less than listeners have patience for."""
    rows = await ctx.db.fetch(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'invitree listener' AND datname = current_database()"
    )
    for row in rows:
        os.kill(row["pid"], signal.SIGSTOP)
    try:
        yield
    finally:
        for row in rows:
            os.kill(row["pid"], signal.SIGCONT)


async def contents_but(cast: Cast, *tables: str) -> dict[str, str]:
    """Return a digest of every table but these."""
    return {name: digest for name, digest in (await cast.contents()).items() if name not in tables}


async def events_of(ctx: AppContext, user_id: int | None) -> list[tuple[str, str, int | None]]:
    """Return what is recorded of an account, oldest first: what, who, and by which id."""
    rows = await ctx.db.fetch(
        "SELECT kind, actor, actor_id FROM audit WHERE user_id IS NOT DISTINCT FROM $1 ORDER BY id", user_id
    )
    return [(row["kind"], row["actor"], row["actor_id"]) for row in rows]


def uid_of(person: Person) -> dict[str, str]:
    """Return a person's id as bodies have it."""
    return {"uid": encode_uid(person.id)}
