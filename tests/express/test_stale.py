"""What is remembered is never older than it may be: not by slow readers, late news, or a process that was held up."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest

from invitree.app import open_resources
from invitree.identity.auth.actions import cached_principal
from invitree.identity.programs.actions import cached_program, set_policy
from invitree.kit.context import AppContext
from invitree.kit.data.db import Database
from invitree.sharing.codes import actions as codes
from tests.cast import Cast, Person, in_days, refused
from tests.conftest import client_for
from tests.postbox import Postbox
from tests.steps import ME, change_link, default_program, done, news_withheld

LOOKUP, CHECK = "/api/referral_codes/get/", "/api/referral_codes/check/"


@pytest.fixture(scope="module")
async def elsewhere(ctx: AppContext) -> AsyncIterator[AppContext]:
    """What another process on the same database has open."""
    async with open_resources(ctx.settings) as opened:
        yield opened


@pytest.fixture(scope="module")
async def other(elsewhere: AppContext) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the other process."""
    async with client_for(elsewhere) as client:
        yield client


@asynccontextmanager
async def slow_reader(
    ctx: AppContext, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Awaitable[Any]], of: str
) -> AsyncIterator[None]:
    """Have somebody ask, and hold what the database says of this until the block has ended."""
    has_read, may_go_on = asyncio.Event(), asyncio.Event()

    def holding(find: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def held(db: Database, query: str, *args: object) -> Any:
            found = await find(db, query, *args)
            if db is ctx.db and of in query and not has_read.is_set():
                has_read.set()
                await may_go_on.wait()
            return found

        return held

    for question in ("fetch", "fetchrow"):
        monkeypatch.setattr(Database, question, holding(getattr(Database, question)))
    asking = asyncio.ensure_future(ask())
    await asyncio.wait_for(has_read.wait(), 20)
    yield
    may_go_on.set()
    await asking
    monkeypatch.undo()


async def has_heard(ctx: AppContext, topic: str, before: int, *, times: int = 1) -> None:
    """Return when a process has heard of so many changes."""
    async with asyncio.timeout(20):
        while ctx.caches[topic]._changes < before + times:  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0.01)


async def minted(cast: Cast, ctx: AppContext, person: Person, expiration_date: str | None = None) -> str:
    """Mint a code; return it when the process that did so has heard of it: from itself, and from the database."""
    before = ctx.caches[codes.TOPIC]._changes
    code = await cast.code(person, expiration_date=expiration_date)
    await has_heard(ctx, codes.TOPIC, before, times=2)
    return code


class Ending:
    """What ends a code, asked of one process."""

    def __init__(self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox, person: Person) -> None:
        self.client, self.cast, self.postbox, self.person = client, cast, postbox, person

    async def deletion(self) -> None:
        """It is deleted."""
        done(await self.client.delete("/api/referral_codes/", headers=self.person.headers))

    async def replacement(self) -> None:
        """There is another."""
        body, query = {"expiration_date": in_days(5)}, {"replace": True}
        answer = await self.client.post("/api/referral_codes/", json=body, params=query, headers=self.person.headers)
        assert answer.status_code == 201

    async def another_address(self) -> None:
        """Nobody has the address any more."""
        link = await change_link(self.client, self.postbox, self.person, f"moved-{self.person.email}")
        done(await self.client.post("/auth/users/set_email_confirm/", json=link.body))

    async def deactivation(self) -> None:
        """The owner is kept out."""
        await self.cast.deactivate(self.person)

    async def departure(self) -> None:
        """The owner leaves."""
        await self.cast.delete(self.person)


ENDINGS = [Ending.deletion, Ending.replacement, Ending.another_address, Ending.deactivation, Ending.departure]


async def shown(client: httpx.AsyncClient, asker: Person, email: str) -> str | None:
    """Return the code that is shown under an address."""
    answer = await client.get(f"{LOOKUP}{email}/", headers=asker.headers)
    assert answer.status_code in (200, 404)
    return str(answer.json()["code"]) if answer.status_code == 200 else None


async def is_valid(client: httpx.AsyncClient, code: str) -> bool:
    """Return whether a code is said to be good."""
    return bool((await client.get(f"{CHECK}{code}/")).json()["valid"])


@pytest.mark.parametrize("ends", ENDINGS, ids=lambda one: one.__name__)
@pytest.mark.parametrize("asked", ["by address", "by text"])
@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_slow_reader_does_not_bring_back_a_code_that_has_ended(
    client: httpx.AsyncClient,
    other: httpx.AsyncClient,
    ctx: AppContext,
    elsewhere: AppContext,
    cast: Cast,
    postbox: Postbox,
    monkeypatch: pytest.MonkeyPatch,
    ends: Callable[[Ending], Awaitable[None]],
    asked: str,
    where: str,
) -> None:
    owner, asker = await cast.member(), await cast.member()
    code = await minted(cast, ctx, owner)
    await client.get(ME, headers=asker.headers)
    ctx.caches[codes.TOPIC].clear()
    path = f"{LOOKUP}{owner.email}/" if asked == "by address" else f"{CHECK}{code}/"
    process, people = (client, cast) if where == "here" else (other, Cast(other, elsewhere))

    async def ask() -> None:
        await client.get(path, headers=asker.headers)

    async with slow_reader(ctx, monkeypatch, ask, of="JOIN"):
        before = ctx.caches[codes.TOPIC]._changes
        await ends(Ending(process, people, postbox, owner))
        await has_heard(ctx, codes.TOPIC, before)
    for _ in range(2):
        assert await shown(client, asker, owner.email) != code
        assert await is_valid(client, code) == (ends is Ending.another_address)


@pytest.mark.parametrize("where", ["here", "elsewhere"])
async def test_a_slow_reader_does_not_bring_back_a_caller_who_has_logged_out(
    client: httpx.AsyncClient,
    other: httpx.AsyncClient,
    ctx: AppContext,
    cast: Cast,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    person = await cast.member()

    async def ask() -> None:
        await client.get(ME, headers=person.headers)

    async with slow_reader(ctx, monkeypatch, ask, of="FROM sessions"):
        before = ctx.caches["users"]._changes
        done(await (client if where == "here" else other).post("/auth/token/logout/", headers=person.headers))
        await has_heard(ctx, "users", before)
    for _ in range(2):
        refused(await client.get(ME, headers=person.headers), 401, "unauthenticated")


@pytest.mark.parametrize("topic", ["codes", "users", "programs"])
async def test_a_slow_reader_fills_nothing_in_which_news_may_have_been_missed(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, monkeypatch: pytest.MonkeyPatch, topic: str
) -> None:
    owner = await cast.member()
    await minted(cast, ctx, owner)
    for cache in ctx.caches.values():
        cache.clear()

    async def ask() -> None:
        await client.get(f"{LOOKUP}{owner.email}/", headers=owner.headers)

    of = {"codes": "FROM users u JOIN codes", "users": "FROM sessions", "programs": "FROM programs"}[topic]
    async with slow_reader(ctx, monkeypatch, ask, of=of):
        ctx.caches[topic].close()
        ctx.caches[topic].open()
    assert len(ctx.caches[topic]) == 0


async def test_a_slow_reader_does_not_bring_back_a_programs_time_zone(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await cast.stranger()
    await minted(cast, ctx, owner, expiration_date=in_days(3))
    path = f"{LOOKUP}{owner.email}/"
    for cache in ctx.caches.values():
        cache.clear()

    async def ask() -> None:
        await client.get(path, headers=owner.headers)

    async with slow_reader(ctx, monkeypatch, ask, of="FROM programs"):
        await set_policy(ctx.db, program_id=owner.program_id, time_zone="Pacific/Kiritimati")
    for zone, day in (("Pacific/Kiritimati", in_days(4)), ("UTC", in_days(3)), ("Pacific/Kiritimati", in_days(4))):
        await set_policy(ctx.db, program_id=owner.program_id, time_zone=zone)
        for _ in range(2):
            assert (await client.get(path, headers=owner.headers)).json()["expiration_date"] == day


@asynccontextmanager
async def overheard(database_url: str) -> AsyncIterator[list[bytes]]:
    """Collect the news of codes."""
    heard: list[bytes] = []
    connection: Any = await asyncpg.connect(database_url)
    await connection.add_listener("invitree_codes", lambda *news: heard.append(news[3].encode()))
    yield heard
    await connection.close()


async def has_come(news: list[bytes]) -> None:
    """Return when there are news."""
    async with asyncio.timeout(20):
        while not news:  # noqa: ASYNC110  there is no event for it
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("ends", ENDINGS, ids=lambda one: one.__name__)
async def test_late_news_do_not_bring_back_what_this_process_has_ended(
    client: httpx.AsyncClient,
    ctx: AppContext,
    cast: Cast,
    postbox: Postbox,
    database_url: str,
    ends: Callable[[Ending], Awaitable[None]],
) -> None:
    """Those of its birth may arrive after its end was answered, while those of its end are on the way."""
    owner, asker = await cast.member(), await cast.member()
    async with overheard(database_url) as heard:
        code = await cast.code(owner)
        await has_come(heard)
    await ends(Ending(client, cast, postbox, owner))
    await asyncio.sleep(0.1)
    codes.apply_notification(ctx, heard[0])
    assert await shown(client, asker, owner.email) != code
    assert await is_valid(client, code) == (ends is Ending.another_address)


async def test_news_are_taken_over_where_nothing_later_is_known(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, database_url: str
) -> None:
    owner, asker = await cast.member(), await cast.member()
    async with overheard(database_url) as heard:
        code = await cast.code(owner)
        await has_come(heard)
    codes.apply_notification(ctx, heard[0])
    remembered = codes.cached_code(ctx, program_id=owner.program_id, email_key=owner.email)
    assert remembered is not None
    assert remembered.code.code == code
    assert await shown(client, asker, owner.email) == code


async def test_a_process_that_was_held_up_asks_the_database_before_it_has_heard(
    client: httpx.AsyncClient, ctx: AppContext, cast: Cast, database_url: str
) -> None:
    owner, asker, program = await cast.member(), await cast.member(), await default_program(ctx)
    code = await cast.code(owner)
    for _ in range(2):
        assert await shown(client, asker, owner.email) == code
        assert await is_valid(client, code)

    async def end_it() -> None:
        connection = await asyncpg.connect(database_url)
        await connection.execute("UPDATE codes SET revoked_at = clock_timestamp() WHERE code = $1", code)
        await connection.execute("DELETE FROM sessions WHERE user_id = $1", owner.id)
        await connection.close()

    ending = threading.Thread(target=lambda: asyncio.run(end_it()))
    ending.start()
    ending.join()
    time.sleep(1.1)  # as a machine that is moved to another does
    # As those are answered who asked while it was held up: before it hears anything.
    assert codes.cached_code_by_text(ctx, program_id=program.id, text=code) is None
    assert codes.cached_code(ctx, program_id=program.id, email_key=owner.email) is None
    assert cached_principal(ctx, owner.headers["Authorization"]) is None
    assert cached_program(ctx, program.id) is None


async def test_a_deaf_process_shows_nothing_from_memory(
    client: httpx.AsyncClient, other: httpx.AsyncClient, ctx: AppContext, cast: Cast
) -> None:
    owner, asker = await cast.member(), await cast.member()
    code = await cast.code(owner)
    for process in (client, other):
        assert await shown(process, asker, owner.email) == code
        assert await is_valid(process, code)
    async with news_withheld(ctx):
        done(await other.delete("/api/referral_codes/", headers=owner.headers))
        done(await other.post("/auth/token/logout/", headers=owner.headers))
        await asyncio.sleep(1)
        assert await shown(client, asker, owner.email) is None
        assert not await is_valid(client, code)
        refused(await client.get(ME, headers=owner.headers), 401, "unauthenticated")


async def test_no_answer_is_another_programs(client: httpx.AsyncClient, ctx: AppContext, cast: Cast) -> None:
    """Though the address, the text of the code and the name of the program's host are the same."""
    one, two = await cast.stranger(), await cast.stranger()
    await ctx.db.execute("UPDATE users SET email = $1, email_key = $1 WHERE id = ANY($2)", one.email, [one.id, two.id])
    texts = {person.id: await cast.code(person) for person in (one, two)}
    for person, stranger in ((one, two), (two, one)):
        await ctx.db.execute("UPDATE programs SET host = $2 WHERE id = $1", person.program_id, f"p{person.id}.test")
        for cache in ctx.caches.values():
            cache.clear()
        for _ in range(2):
            assert await shown(client, person, one.email) == texts[person.id]
            assert await shown(client, stranger, one.email) == texts[stranger.id]
            mine, foreign = texts[person.id], texts[stranger.id]
            for headers in (person.headers, {"Host": f"p{person.id}.test"}, {"Host": f"P{person.id}.test:80"}):
                for text, valid in ((mine, True), (foreign, False)):
                    answer = await client.get(f"{CHECK}{text}/", headers=headers)
                    assert answer.json()["valid"] is valid, (headers, text)
