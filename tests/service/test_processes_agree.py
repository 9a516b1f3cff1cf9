"""Two processes on one database: what one deletes, the other shows no more."""

import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from tests.cast import PASSWORD, in_days
from tests.process import Service, run, service

CODES = "/api/referral_codes"


@pytest.fixture(scope="module")
def pair(database_url: str) -> Iterator[tuple[Service, Service]]:
    """Two services of one web process each, so that a test knows which process it asks, and nobody else listens."""
    environment = {"INVITREE_DATABASE_URL": database_url, "INVITREE_SECRET_KEY": "the same for both of them of course"}
    alone = ("--workers", "1", "--no-worker")
    with service(*alone, env=environment) as one, service(*alone, env=environment) as two:
        yield one, two


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Any]:
    """A connection of the test's own, which announces nothing."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


class Alice:
    """A user with a live code, as each process sees her."""

    def __init__(self, pair: tuple[Service, Service], name: str) -> None:
        self.email = f"{name}@example.com"
        body = {"email": self.email, "username": name, "password": PASSWORD}
        assert httpx.post(f"{pair[0].url}/auth/users/", json=body).status_code == 201
        login = httpx.post(f"{pair[1].url}/auth/token/login/", json={"email": self.email, "password": PASSWORD})
        self.headers = {"Authorization": f"Token {login.json()['auth_token']}"}

    def create(self, service: Service, *, replace: bool = False) -> str:
        """Mint a code at one process."""
        answer = httpx.post(
            f"{service.url}{CODES}/",
            json={"expiration_date": in_days(9)},
            params={"replace": replace},
            headers=self.headers,
        )
        code: str = answer.json()["code"]
        return code

    def shown(self, service: Service) -> str | None:
        """Return the code that a process shows under her address."""
        answer = httpx.get(f"{service.url}{CODES}/get/{self.email}/", headers=self.headers)
        assert answer.status_code in (200, 404)
        code: str | None = answer.json().get("code") if answer.status_code == 200 else None
        return code

    def comes_to_show(self, service: Service, code: str | None) -> bool:
        """Return whether a process shows this before long. What is promised is a second; the machine may be slow."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self.shown(service) == code:
                return True
            time.sleep(0.01)
        return False


def test_a_delete_and_a_replacement_reach_the_other_process(pair: tuple[Service, Service]) -> None:
    one, two = pair
    alice = Alice(pair, "agreeing")
    first = alice.create(one)
    assert alice.comes_to_show(two, first)
    second = alice.create(one, replace=True)
    assert alice.comes_to_show(two, second)
    assert alice.shown(one) == second
    assert httpx.delete(f"{one.url}{CODES}/", headers=alice.headers).status_code == 204
    assert alice.shown(one) is None, "the process that deleted it knows at once"
    assert alice.comes_to_show(two, None)


async def test_a_created_code_comes_to_be_in_the_memory_of_both(pair: tuple[Service, Service], db: Any) -> None:
    one, two = pair
    alice = Alice(pair, "cached")
    code = alice.create(one)
    assert alice.comes_to_show(two, code)
    # The process that made it may have heard of it before it was told so itself, and then it asks once.
    assert alice.comes_to_show(one, code)
    # Behind the services' back: what they go on showing can only come from memory.
    await db.execute("UPDATE codes SET revoked_at = clock_timestamp() WHERE code = $1", code)
    assert alice.shown(one) == code
    assert alice.shown(two) == code


async def test_a_process_that_lost_its_listener_forgets_and_comes_back(pair: tuple[Service, Service], db: Any) -> None:
    one, two = pair
    alice = Alice(pair, "forgetful")
    code = alice.create(one)
    assert alice.comes_to_show(two, code)
    await db.execute("UPDATE codes SET revoked_at = clock_timestamp() WHERE code = $1", code)
    ended = await db.fetch(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name = 'invitree listener' AND datname = current_database()
        """
    )
    assert len(ended) == 2
    assert alice.comes_to_show(one, None)
    assert alice.comes_to_show(two, None)
    after = alice.create(two)
    assert alice.comes_to_show(one, after)


async def test_news_that_cannot_be_read_make_a_process_forget(pair: tuple[Service, Service], db: Any) -> None:
    one, two = pair
    alice = Alice(pair, "puzzled")
    code = alice.create(one)
    assert alice.comes_to_show(two, code)
    await db.execute("UPDATE codes SET revoked_at = clock_timestamp() WHERE code = $1", code)
    await db.execute("SELECT pg_notify('invitree_codes', 'of another version')")
    assert alice.comes_to_show(one, None)
    assert alice.comes_to_show(two, None)
    after = alice.create(two)
    assert alice.comes_to_show(one, after)


async def test_the_whole_pool_cut_off_is_at_worst_a_503_that_says_when_to_retry(
    pair: tuple[Service, Service], db: Any
) -> None:
    one, _ = pair
    alice = Alice(pair, "patient")
    for _ in range(5):
        await db.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()
            """
        )
        answer = httpx.get(f"{one.url}/auth/users/me/", headers=alice.headers)
        assert answer.status_code in (200, 503)
        if answer.status_code == 503:
            assert answer.headers["retry-after"] == "1"
            assert answer.json()["code"] == "unavailable"
    deadline = time.monotonic() + 10
    while httpx.get(f"{one.url}/auth/users/me/", headers=alice.headers).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_policy_change_reaches_running_services(pair: tuple[Service, Service], database_url: str) -> None:
    alice = Alice(pair, "following")
    for _ in range(2):
        assert len(alice.create(pair[1], replace=True)) == 10  # it knows the program by heart now
    changed = run("program", "set", "--code-length", "16", env={"INVITREE_DATABASE_URL": database_url})
    assert changed.returncode == 0
    deadline = time.monotonic() + 10
    while len(alice.create(pair[1], replace=True)) != 16:
        assert time.monotonic() < deadline
        time.sleep(0.05)
