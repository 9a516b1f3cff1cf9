"""What is measured: each path's requests to the service, and to the floor."""

import random
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, Literal

import msgspec
from msgspec import Struct

from bench.data import PASSWORD
from bench.load import Request

FEW, MANY = 1_000, 100_000  # people who are asked for: so few stay in memory
_names = count(random.getrandbits(48))  # for those who sign up: new ones in each run


class Person(Struct, frozen=True):
    """Somebody who is logged in."""

    id: int
    token: str


class Crowd(Struct, frozen=True, kw_only=True):
    """Who is there to ask, and to be asked for.

    `star` brought the most; `deep` is the id of a referral far down that list.
    """

    callers: Sequence[Person]
    codeless: Sequence[Person]
    emails: Sequence[str]
    codes: Sequence[str]
    star: int
    deep: int
    access: Callable[[Person], str] | None
    """Makes an access token, where that can be done without logging in."""


class Turn(Struct, frozen=True, kw_only=True):
    """One of `of` measurements of a path, numbered from 0, over so many connections at most."""

    crowd: Crowd
    number: int
    of: int
    most_connections: int

    @property
    def few_connections(self) -> int:
        """So few that nobody has two requests under way if all take their turn."""
        return max(1, min(self.most_connections, len(self.own()) // 4))

    def some(self, whom: Sequence[str], size: int) -> Iterator[str]:
        """Yield some of `size` who are spread among all, for ever."""
        spread = whom[:: max(1, len(whom) // size)][:size]
        while True:
            yield from random.sample(spread, len(spread))

    def callers(self) -> Iterator[Person]:
        """Yield people who are logged in, for ever."""
        while True:
            yield from random.sample(self.crowd.callers, len(self.crowd.callers))

    def own(self) -> Sequence[Person]:
        """Return people without a code whom no other turn has."""
        size = len(self.crowd.codeless) // self.of
        return self.crowd.codeless[self.number * size :][:size]


Requests = Callable[[Turn], Iterator[Request]]
Kind = Literal["warm", "cold", "counted"]


class Path(Struct, frozen=True, kw_only=True):
    """A path: what is asked of the service, what of the floor, and the ratio that is wanted.

    The service has its memory of codes or, `cold`, has none, and no limits but, `counted`, has them. Without a floor it
    is measured beside the bare rate of hashing.
    """

    name: str
    kind: Kind
    requests: Requests
    floor: Requests | None
    goal: float | None
    is_all_reads: bool = True
    is_in_order: bool = False
    """Whether a person's requests must come one after the other."""


def _lookups(size: int) -> Requests:
    def requests(turn: Turn) -> Iterator[Request]:
        for email, caller in zip(turn.some(turn.crowd.emails, size), turn.callers(), strict=False):
            yield Request("GET", f"/api/referral_codes/get/{email}/", f"Token {caller.token}")

    return requests


def _checks(size: int) -> Requests:
    def requests(turn: Turn) -> Iterator[Request]:
        for code in turn.some(turn.crowd.codes, size):
            yield Request("GET", f"/api/referral_codes/check/{code}/")

    return requests


def _bare_lookups(turn: Turn) -> Iterator[Request]:
    for email in turn.some(turn.crowd.emails, MANY):
        yield Request("GET", f"/lookup/{email}")


def _bare_checks(turn: Turn) -> Iterator[Request]:
    for code in turn.some(turn.crowd.codes, MANY):
        yield Request("GET", f"/check/{code}")


def _me_by_token(turn: Turn) -> Iterator[Request]:
    for caller in turn.callers():
        yield Request("GET", "/auth/users/me/", f"Token {caller.token}")


def _me_by_jwt(turn: Turn) -> Iterator[Request]:
    tokens = [turn.crowd.access(caller) for caller in turn.crowd.callers if turn.crowd.access]
    for token in turn.some(tokens, len(tokens)):
        yield Request("GET", "/auth/users/me/", f"Bearer {token}")


def _pages(*, deep: bool) -> Requests:
    def requests(turn: Turn) -> Iterator[Request]:
        after = f"?after={turn.crowd.deep}" if deep else ""
        for caller in turn.callers():
            yield Request("GET", f"/api/users/{turn.crowd.star}/{after}", f"Token {caller.token}")

    return requests


def _bare_pages(*, deep: bool) -> Requests:
    def requests(turn: Turn) -> Iterator[Request]:
        while True:
            yield Request("GET", f"/referrals?after={turn.crowd.deep}" if deep else "/referrals")

    return requests


def create_and_delete(turn: Turn) -> Iterator[Request]:
    """Yield a code made and then deleted, by each of those who have none."""
    body = _json(expiration_date=datetime.now(UTC).date() + timedelta(days=30))
    people = turn.own()
    for one in people:
        yield Request("POST", "/api/referral_codes/create/", f"Token {one.token}", body)
    for one in people:
        yield Request("DELETE", "/api/referral_codes/delete/", f"Token {one.token}")


def _bare_create_and_delete(turn: Turn) -> Iterator[Request]:
    for method in ("POST", "DELETE"):
        for one in turn.own():
            yield Request(method, f"/code/{one.id}")


def log_ins(turn: Turn) -> Iterator[Request]:
    """Yield logins."""
    for email in turn.some(turn.crowd.emails, FEW):
        yield Request("POST", "/auth/token/login/", "", _json(email=email, password=PASSWORD))


def _sign_ups(turn: Turn) -> Iterator[Request]:
    for number, code in zip(_names, turn.some(turn.crowd.codes, FEW), strict=False):
        name = f"n{number}"
        body = _json(email=f"{name}@example.com", username=name, password=PASSWORD, referral_code=code)
        yield Request("POST", "/auth/users/", "", body)


def reads(turn: Turn) -> Iterator[Request]:
    """Yield what most requests are: lookups, checks and pages, as 90 to 5 to 4."""
    return _mixed(turn, (_lookups(FEW), 90), (_checks(FEW), 5), (_pages(deep=False), 4))


def _everything(turn: Turn) -> Iterator[Request]:
    return _mixed(turn, (_lookups(FEW), 90), (_checks(FEW), 5), (_pages(deep=False), 4), (_sign_ups, 1))


def _mixed(turn: Turn, *parts: tuple[Requests, int]) -> Iterator[Request]:
    sources, weights = [source(turn) for source, _ in parts], [weight for _, weight in parts]
    while True:
        yield next(*random.choices(sources, weights))  # noqa: S311


def _json(**fields: Any) -> str:
    return msgspec.json.encode(fields).decode()


PATHS = (
    Path(name="lookup-cold", kind="cold", requests=_lookups(MANY), floor=_bare_lookups, goal=0.6),
    Path(name="lookup-hot", kind="warm", requests=_lookups(FEW), floor=_bare_lookups, goal=1.6),
    Path(name="lookup-counted", kind="counted", requests=_lookups(FEW), floor=_bare_lookups, goal=None),
    Path(name="check-cold", kind="cold", requests=_checks(MANY), floor=_bare_checks, goal=None),
    Path(name="check-hot", kind="warm", requests=_checks(FEW), floor=_bare_checks, goal=1.6),
    Path(name="me-jwt", kind="warm", requests=_me_by_jwt, floor=_bare_lookups, goal=1.5),
    Path(name="me-token", kind="warm", requests=_me_by_token, floor=_bare_lookups, goal=0.6),
    Path(name="referrals-first", kind="warm", requests=_pages(deep=False), floor=_bare_pages(deep=False), goal=0.6),
    Path(name="referrals-deep", kind="warm", requests=_pages(deep=True), floor=_bare_pages(deep=True), goal=0.6),
    Path(
        name="create-delete",
        kind="warm",
        requests=create_and_delete,
        floor=_bare_create_and_delete,
        goal=None,
        is_in_order=True,
    ),
    Path(name="login", kind="warm", requests=log_ins, floor=None, goal=0.9, is_all_reads=False),
    Path(name="register", kind="warm", requests=_sign_ups, floor=None, goal=0.9, is_all_reads=False),
    Path(name="mixed", kind="warm", requests=_everything, floor=_bare_lookups, goal=None, is_all_reads=False),
)
