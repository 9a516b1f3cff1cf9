"""Who is calling is remembered for seconds, and forgotten at once where it is no longer so."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext

import httpx
import pytest

from invitree.app import open_resources
from invitree.identity.auth.actions import TOPIC
from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, in_days, refused
from tests.conftest import client_for
from tests.postbox import Postbox
from tests.steps import ANOTHER, ME, REFRESH, at, bearer, change_link, done, link_for, news_withheld


@pytest.fixture(scope="module")
async def other(ctx: AppContext) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another process on the same database."""
    async with open_resources(ctx.settings) as opened, client_for(opened) as client:
        yield client


class Story:
    """What happens to a person's account."""

    def __init__(self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox, person: Person) -> None:
        self.client, self.cast, self.postbox, self.person = client, cast, postbox, person

    async def logs_out(self) -> None:
        """The session ends."""
        done(await self.client.post("/auth/token/logout/", headers=self.person.headers))

    async def logs_out_everywhere(self) -> None:
        """Every session ends."""
        done(await self.client.post("/auth/token/logout/?all=true", headers=self.person.headers))

    async def ends_the_session_from_another(self) -> None:
        """A device is logged out."""
        sessions = (await self.client.get("/auth/token/sessions/", headers=self.person.headers)).json()
        current = next(one["id"] for one in sessions if one["is_current"])
        pair = await self.cast.pair(self.person)
        done(await self.client.delete(f"/auth/token/sessions/{current}/", headers=bearer(pair.access)))

    async def changes_the_password_in_another_session(self) -> None:
        """Every other session ends."""
        pair = await self.cast.pair(self.person)
        body = {"current_password": PASSWORD, "new_password": ANOTHER}
        done(await self.client.post(at("set_password"), json=body, headers=bearer(pair.access)))

    async def resets_the_password(self) -> None:
        """Every session ends."""
        link = await link_for(self.client, self.postbox, self.person, "reset_password")
        done(await self.client.post(at("reset_password_confirm"), json={**link.body, "new_password": ANOTHER}))

    async def leaves(self) -> None:
        """The account is deleted."""
        body = {"current_password": PASSWORD}
        done(await self.client.request("DELETE", ME, json=body, headers=self.person.headers))

    async def is_kept_out(self) -> None:
        """The operator deactivates the account."""
        await self.cast.deactivate(self.person)

    async def takes_another_name(self) -> None:
        """The user is another."""
        answer = await self.client.patch(ME, json={"username": f"{self.person.username}x"}, headers=self.person.headers)
        assert answer.status_code == 200

    async def is_renamed_by_staff(self) -> None:
        """The user is another."""
        staff = await self.cast.staff()
        body = {"username": f"{self.person.username}x"}
        answer = await self.client.put(f"/auth/users/{self.person.id}/", json=body, headers=staff.headers)
        assert answer.status_code == 200

    async def resets_the_name(self) -> None:
        """The user is another."""
        link = await link_for(self.client, self.postbox, self.person, "reset_username")
        body = {**link.body, "new_username": f"{self.person.username}x"}
        done(await self.client.post(at("reset_username_confirm"), json=body))

    async def takes_another_address(self) -> None:
        """The user is another."""
        link = await change_link(self.client, self.postbox, self.person, f"x{self.person.email}")
        done(await self.client.post(at("set_email_confirm"), json=link.body))


ENDINGS = [
    Story.logs_out,
    Story.logs_out_everywhere,
    Story.ends_the_session_from_another,
    Story.changes_the_password_in_another_session,
    Story.resets_the_password,
    Story.leaves,
    Story.is_kept_out,
]
CHANGES = [Story.takes_another_name, Story.is_renamed_by_staff, Story.resets_the_name, Story.takes_another_address]
SLOW = [Story.resets_the_password, Story.resets_the_name, Story.takes_another_address]  # a mail is waited for

Happening = Callable[[Story], Awaitable[None]]


def name_of(happening: Happening) -> str:
    """Return what a case is called."""
    return str(getattr(happening, "__name__", happening))


async def soon(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds, for a second."""
    for _ in range(50):
        if await holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("not within a second")


@pytest.mark.parametrize("ends", ENDINGS, ids=name_of)
async def test_an_ended_session_opens_nothing_here_and_soon_nothing_anywhere(
    client: httpx.AsyncClient,
    other: httpx.AsyncClient,
    cast: Cast,
    postbox: Postbox,
    ctx: AppContext,
    ends: Happening,
) -> None:
    person = await cast.member()
    for process in (client, other):
        assert (await process.get(ME, headers=person.headers)).status_code == 200
    async with nullcontext() if ends in SLOW else news_withheld(ctx):
        await ends(Story(client, cast, postbox, person))
        refused(await client.get(ME, headers=person.headers), 401, "unauthenticated")
        # Whatever the other process remembers, it lets nothing be written.
        body = {"expiration_date": in_days(3)}
        refused(await other.post("/api/referral_codes/", json=body, headers=person.headers), 401, "unauthenticated")

    async def is_refused() -> bool:
        return (await other.get(ME, headers=person.headers)).status_code == 401

    await soon(is_refused)


@pytest.mark.parametrize("changes", CHANGES, ids=name_of)
async def test_a_changed_user_is_shown_as_changed_here_and_soon_everywhere(
    client: httpx.AsyncClient,
    other: httpx.AsyncClient,
    cast: Cast,
    postbox: Postbox,
    ctx: AppContext,
    changes: Happening,
) -> None:
    person = await cast.member()
    before = (await client.get(ME, headers=person.headers)).json()
    assert (await other.get(ME, headers=person.headers)).json() == before
    async with nullcontext() if changes in SLOW else news_withheld(ctx):
        await changes(Story(client, cast, postbox, person))
        after = (await client.get(ME, headers=person.headers)).json()
    assert after != before

    async def is_shown() -> bool:
        return bool((await other.get(ME, headers=person.headers)).json() == after)

    await soon(is_shown)


async def test_an_access_token_is_dead_when_its_session_is(
    client: httpx.AsyncClient, other: httpx.AsyncClient, cast: Cast
) -> None:
    person = await cast.member()
    pair = await cast.pair(person)
    headers = bearer(pair.access)
    for process in (client, other):
        assert (await process.get(ME, headers=headers)).status_code == 200
    done(await client.post("/auth/jwt/logout/", json={"refresh": pair.refresh}))
    refused(await client.get(ME, headers=headers), 401, "unauthenticated")

    async def is_refused() -> bool:
        return (await other.get(ME, headers=headers)).status_code == 401

    await soon(is_refused)


async def test_a_stolen_familys_access_token_is_dead(client: httpx.AsyncClient, ctx: AppContext, cast: Cast) -> None:
    person = await cast.member()
    first = await cast.pair(person)
    second = (await client.post(REFRESH, json={"refresh": first.refresh})).json()
    headers = bearer(second["access"])
    assert (await client.get(ME, headers=headers)).status_code == 200
    await ctx.db.execute("UPDATE refresh_tokens SET used_at = used_at - interval '1 hour' WHERE used_at IS NOT NULL")
    async with news_withheld(ctx):
        refused(await client.post(REFRESH, json={"refresh": first.refresh}), 401, "token_not_valid")
        refused(await client.get(ME, headers=headers), 401, "unauthenticated")


async def test_cached_callers_expire_after_ten_seconds_and_with_their_token(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, ahead = float(int(ctx.clock.seconds())), 0.0
    monkeypatch.setattr(type(ctx.clock), "seconds", lambda _clock: began + ahead)
    person = await cast.member()
    access = (await cast.pair(person)).access
    asked = 0
    find = ctx.db.fetchrow

    async def counted(query: str, *args: object) -> object:
        nonlocal asked
        asked += "FROM sessions" in query
        return await find(query, *args)

    monkeypatch.setattr(ctx.db, "fetchrow", counted)
    seen = []
    for ahead in (0.0, 9.5, 10.5, 19.0, 21.0, 299.0):  # noqa: B007  the clock reads it
        ctx.caches[TOPIC].trust(until=math.inf)  # as if the database had just been heard
        await client.get(ME, headers=bearer(access))
        seen.append(asked)
    assert seen == [1, 1, 2, 2, 3, 4]
    ahead = 301.0  # the token is over, though it was seen two seconds ago
    refused(await client.get(ME, headers=bearer(access)), 401, "unauthenticated")


async def test_tokens_without_a_program_are_not_cached(client: httpx.AsyncClient, ctx: AppContext, cast: Cast) -> None:
    """One of the Django service's may be of any program, by the host that is asked."""
    person = await cast.member()
    old = "0123456789abcdef" * 2 + "01234567"
    await ctx.db.execute(
        "UPDATE sessions SET token_hash = $2 WHERE user_id = $1 AND token_hash IS NOT NULL",
        person.id,
        ctx.keys.hash(old),
    )
    stranger = await cast.stranger()
    slug = await ctx.db.fetchval("SELECT slug FROM programs WHERE id = $1", stranger.program_id)
    headers = {"Authorization": f"Token {old}"}
    for _ in range(2):
        assert (await client.get(ME, headers=headers)).status_code == 200
        refused(await client.get(ME, headers={**headers, "X-Program": slug}), 401, "unauthenticated")
