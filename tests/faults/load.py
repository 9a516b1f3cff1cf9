"""Clients that write and read without a pause, and know what they were told."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
from msgspec import Struct

from tests.cast import PASSWORD, in_days
from tests.faults.journal import Entry, Journal, Outcome

NO_ANSWER, NOT_HEARD = 0, -1
PATIENCE_S = 60
_AGAIN = 20
_BREATH_S = 0.05  # after a refusal; far less than it asks for


class Answer(Struct, frozen=True):
    """What a client saw. The status is `NO_ANSWER`, or `NOT_HEARD` where nothing could be asked."""

    at: float
    took_s: float
    status: int
    body: dict[str, Any]


class Member(Struct, frozen=True):
    """Somebody with an account, and what they send with a request."""

    email: str
    headers: dict[str, str]


class Write(Struct, frozen=True):
    """A write that can be asked for again. `what` it makes is empty where its answer tells (`field`)."""

    whose: str
    what: str
    path: str
    body: dict[str, Any]
    headers: dict[str, str] = {}
    field: str = ""


class Load:
    """Members who replace their codes, newcomers whom one of them brings, and readers.

    A 503 is a refusal unless `forgives` says that the database may have gone away in the middle of a commit.
    """

    def __init__(self, url: str, journal: Journal, *, forgives: bool = False) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self.client = httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, limits=limits)
        self.journal, self.forgives = journal, forgives
        self.answers: list[Answer] = []
        self.strange: list[str] = []
        self.members: list[Member] = []
        self._unknown: dict[str, Write] = {}
        self._done: dict[str, Write] = {}
        self._numbers, self._is_over = itertools.count(1), False
        self._star, self._star_code = "nobody", ""

    async def prepare(self, *, members: int) -> None:
        """Sign up the members, and the one who brings the newcomers."""
        star, *self.members = [await self.new_member() for _ in range(members + 1)]
        made, *_ = [await self.act(code_of(one)) for one in (star, *self.members)]
        self._star, self._star_code = star.email, made.body["code"]
        self.answers.clear()

    async def new_member(self) -> Member:
        """Sign somebody up and log them in."""
        write = self.account()
        assert (await self.act(write)).status == 201
        login = await self.client.post("/auth/token/login/", json={"email": write.whose, "password": PASSWORD})
        return Member(write.whose, {"Authorization": f"Token {login.json()['auth_token']}"})

    def account(self) -> Write:
        """Return the sign-up of somebody new."""
        name = f"somebody{next(self._numbers)}"
        body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        body |= {"referral_code": self._star_code} if self._star_code else {}
        return Write(body["email"], f"account, brought by {self._star}", "/auth/users/", body)

    @asynccontextmanager
    async def going_on(self, *, newcomers: int = 2, readers: int = 2) -> AsyncIterator[None]:
        """Write and read for the length of a block."""
        self._is_over = False
        doing: list[Callable[[], Awaitable[Answer]]] = [partial(self._mint, member) for member in self.members]
        doing += [partial(self.read, member) for member in self.members[:readers]]
        doing += [self._sign_up] * newcomers
        tasks = [asyncio.create_task(self._repeat(do)) for do in doing]
        try:
            yield
        finally:
            self._is_over = True
            await asyncio.gather(*tasks)

    async def goes_on(self, more: int = 30) -> None:
        """Wait until so many more writes are done."""
        until = self.count(201) + more
        async with asyncio.timeout(PATIENCE_S):
            while self.count(201) < until:  # noqa: ASYNC110  there is no event for it
                await asyncio.sleep(_BREATH_S)

    async def settle(self) -> None:
        """Ask again for every write that was not answered, with its key, until it is, and for some that were."""
        async with asyncio.timeout(PATIENCE_S):
            while self._unknown:
                await asyncio.gather(*(self.act(write, key=key) for key, write in self._unknown.items()))
                await asyncio.sleep(_BREATH_S)
        await asyncio.gather(*(self.act(write, key=key) for key, write in list(self._done.items())[-_AGAIN:]))

    async def act(self, write: Write, *, key: str = "") -> Answer:
        """Ask for a write, the first time or again, and keep what became of it in the journal."""
        is_repeated, key = bool(key), key or str(uuid4())
        headers = {**write.headers, "Idempotency-Key": key}
        answer = await self._ask("POST", write.path, json=write.body, headers=headers)
        outcome = self._outcome(answer.status, is_repeated=is_repeated)
        what = write.what or (answer.body[write.field] if outcome == "done" else "")
        self.journal.note(Entry(outcome, key, write.whose, what))
        if outcome == "unknown":
            self._unknown[key] = write
        else:
            self._unknown.pop(key, None)
        if outcome == "done":
            self._done[key] = write
        return answer

    @asynccontextmanager
    async def abandoned(self, write: Write) -> AsyncIterator[tuple[Write, dict[str, str]]]:
        """Keep in the journal that nobody will know what became of a write; yield the headers to ask for it with."""
        key = str(uuid4())
        self._unknown[key] = write
        self.journal.note(Entry("unknown", key, write.whose, write.what))
        yield write, {**write.headers, "Idempotency-Key": key}

    async def read(self, member: Member) -> Answer:
        """Ask for a member's code."""
        return await self._ask("GET", "/api/referral_codes/", headers=member.headers)

    def count(self, status: int) -> int:
        """Return how often a status was seen."""
        return Counter(answer.status for answer in self.answers)[status]

    def _outcome(self, status: int, *, is_repeated: bool) -> Outcome:
        if status == 201:
            return "done"
        if status == NO_ANSWER or is_repeated or (status == 503 and self.forgives):
            return "unknown"
        return "refused"

    async def _ask(self, method: str, path: str, **what: Any) -> Answer:
        at = time.monotonic()
        status, body = NO_ANSWER, {}
        try:
            response = await self.client.request(method, path, **what)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            status = NOT_HEARD
        except httpx.TransportError:
            pass
        else:
            status, body = response.status_code, response.json()
            if not _is_foreseen(response):
                self.strange.append(f"{method} {path}: {status} {response.text}")
        self.answers.append(answer := Answer(at, time.monotonic() - at, status, body))
        return answer

    async def _mint(self, member: Member) -> Answer:
        return await self.act(code_of(member))

    async def _sign_up(self) -> Answer:
        return await self.act(self.account())

    async def _repeat(self, do: Callable[[], Awaitable[Answer]]) -> None:
        while not self._is_over:
            if (await do()).status not in (200, 201):
                await asyncio.sleep(_BREATH_S)


def code_of(member: Member) -> Write:
    """Return the replacement of a member's code."""
    body = {"expiration_date": in_days(9)}
    path = "/api/referral_codes/?replace=true"
    return Write(f"code of {member.email}", "", path, body, member.headers, field="code")


def _is_foreseen(response: httpx.Response) -> bool:
    match response.status_code:
        case 200 | 201:
            return True
        case 503:
            return "retry-after" in response.headers
        case 409:  # asked again while the first is still under way
            return bool(response.json()["code"] == "idempotency_key_in_use")
    return False
