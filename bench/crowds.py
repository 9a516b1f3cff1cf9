"""The people of a benchmark as the load knows them: those that were copied into a database, or signed up elsewhere."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx

from bench.data import PASSWORD, STAR, Sizes, access_token_of, code_of, email_of, token_of
from bench.load import LoadError
from bench.paths import Crowd, Person
from invitree.kit.secrets.keys import Keyring
from invitree.kit.web.paging import LARGEST_ID

_DEPTH = 190_000


async def crowd_in(url: str, sizes: Sizes, *, keys: Keyring) -> Crowd:
    """Return the crowd that `bench.data` has written into a database."""
    connection = await asyncpg.connect(url)
    deep = await connection.fetchval(
        "SELECT id FROM referrals WHERE program_id = 1 AND referrer_id = $1 ORDER BY id DESC OFFSET $2 LIMIT 1",
        STAR,
        min(_DEPTH, sizes.of_the_star * 19 // 20),
    )
    await connection.close()
    numbers = range(1, sizes.people + 1)
    return Crowd(
        callers=[Person(number, token_of(number)) for number in sizes.callers],
        codeless=[Person(number, token_of(number)) for number in sizes.codeless],
        emails=[email_of(number) for number in numbers],
        codes=[code_of(number) for number in numbers],
        star=STAR,
        deep=deep,
        access=lambda person: access_token_of(person.id, keys),
    )


def crowd_at(url: str, *, people: int, advance: Callable[[], None]) -> Crowd:
    """Sign people up with a server and return them: half with codes, half brought by the first. Raises LoadError.

    The server must not limit how many may sign up.
    """
    with httpx.Client(base_url=url, timeout=30) as client:
        run = f"{datetime.now(UTC):%m%d%H%M%S}"
        emails = [f"b{run}x{number}@example.com" for number in range(people)]
        first = _sign_up(client, emails[0])
        codes = [_mint(client, first)]
        persons = [first]
        for number, email in enumerate(emails[1:], start=1):
            persons.append(_sign_up(client, email, **({"referral_code": codes[0]} if number % 2 else {})))
            if number % 2 == 0:
                codes.append(_mint(client, persons[-1]))
            advance()
    return Crowd(
        callers=persons[0::2],
        codeless=persons[1::2],
        emails=emails[0::2],
        codes=codes,
        star=first.id,
        deep=LARGEST_ID,
        access=None,
    )


def _sign_up(client: httpx.Client, email: str, **more: str) -> Person:
    name = email.partition("@")[0]
    _ask(client, "/auth/users/", email=email, username=name, password=PASSWORD, **more)
    token = _ask(client, "/auth/token/login/", email=email, password=PASSWORD)["auth_token"]
    me = client.get("/auth/users/me/", headers={"Authorization": f"Token {token}"})
    return Person(me.json()["id"], token)


def _mint(client: httpx.Client, person: Person) -> str:
    last_day = datetime.now(UTC).date() + timedelta(days=30)
    body = _ask(client, "/api/referral_codes/create/", token=person.token, expiration_date=str(last_day))
    return body["code"]


def _ask(client: httpx.Client, path: str, *, token: str = "", **body: str) -> dict[str, str]:
    answer = client.post(path, json=body, headers={"Authorization": f"Token {token}"} if token else {})
    if answer.is_error:
        raise LoadError(f"POST {path}: {answer.status_code} {answer.text[:200]}")
    answered: dict[str, str] = answer.json()
    return answered
