"""Passwords of other systems: they open, they are hashed anew, and the time of a failure does not tell of them."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import argon2
import bcrypt
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from invitree.identity.users.store import find_login_candidate_by_email, replace_hash
from invitree.kit.context import AppContext
from invitree.kit.data.db import Queryable
from invitree.kit.secrets.django_hashes import SCHEMES
from invitree.kit.secrets.passwords import Hasher, Match, is_verifiable
from tests.cast import PASSWORD, Cast, Person
from tests.hashes import busy, by_django, pbkdf2, phc

LOGIN = "/auth/token/login/"
OURS = "$argon2id$v=19$m=8,t=1,p=1$"  # as CHEAP makes them


@pytest.fixture
async def hasher() -> AsyncIterator[Hasher]:
    """A hasher with one thread."""
    opened = Hasher(threads=1)
    yield opened
    opened.close()


async def test_a_hash_that_django_made_opens(hasher: Hasher) -> None:
    # From Django 3.2's own test suite.
    known = "pbkdf2_sha256$260000$seasalt$YlZ2Vggtqdc61YjArZuoApoBh9JNGYoDRBUGu6tcJQo="
    assert await hasher.check(known, "lètmein") is Match.RIGHT_BUT_STALE
    assert pbkdf2("lètmein", iterations=260_000, salt="seasalt") == known
    for password in (PASSWORD, "пароль", "e\u0301", "", " x ", "\x00y"):
        for password_hash in (pbkdf2(password), "argon2" + phc(password), phc(password)):
            assert is_verifiable(password_hash)
            assert await hasher.check(password_hash, password) is Match.RIGHT_BUT_STALE
            assert await hasher.check(password_hash, password + "x") is Match.WRONG
    assert await hasher.check(pbkdf2("e\u0301"), "é") is Match.WRONG


async def test_only_what_we_made_is_fresh(hasher: Hasher) -> None:
    ours = await hasher.hash(PASSWORD)
    assert is_verifiable(ours)
    assert await hasher.check(ours, PASSWORD) is Match.RIGHT
    assert await hasher.check("argon2" + ours, PASSWORD) is Match.RIGHT_BUT_STALE
    assert await hasher.check(phc(PASSWORD, kib=19456, lanes=1, passes=3), PASSWORD) is Match.RIGHT_BUT_STALE
    assert await hasher.check(phc(PASSWORD), PASSWORD) is Match.RIGHT_BUT_STALE


GOOD = pbkdf2(PASSWORD)
GOOD_ARGON2 = phc(PASSWORD)
MALFORMED = [
    "",
    "!",
    "!x7Gk",
    "pbkdf2_sha256",
    "pbkdf2_sha256$",
    "pbkdf2_sha256$$$",
    "pbkdf2_sha1$1000$salt$" + GOOD[-44:],
    "pbkdf2_sha256$1000$salt$" + "A" * 27 + "=",
    "pbkdf2_sha256$1000$salt$" + "A" * 45,
    "pbkdf2_md5$1000$salt$" + GOOD[-44:],
    "scrypt$1000$salt$8$5$" + "A" * 86 + "==",
    "scrypt$1048576$salt$8$5$" + "A" * 86 + "==",
    "scrypt$16384$salt$8$99$" + "A" * 86 + "==",
    "scrypt$16384$salt$8$5$" + "A" * 43 + "=",
    "bcrypt_sha256$$2b$15$" + "x" * 53,
    "bcrypt_sha256$$2b$03$" + "x" * 53,
    "bcrypt_sha256$$2b$12$" + "x" * 52 + "$",
    GOOD.replace("$1000$", "$0$"),
    GOOD.replace("$1000$", "$-1000$"),
    GOOD.replace("$1000$", "$1e3$"),
    GOOD.replace("$1000$", "$01000$"),
    GOOD.replace("$1000$", "$5000001$"),
    GOOD.replace("$1000$", f"${'9' * 5000}$"),
    GOOD.replace("$1000$", "$١٠٠٠$"),
    GOOD[:-1],
    GOOD + "\n",
    GOOD + "$x",
    GOOD.replace("Salt", "\ud800"),
    "argon2",
    "argon2$",
    "argon2" + "argon2" + GOOD_ARGON2,
    GOOD_ARGON2.replace("m=1024", "m=999999999"),
    GOOD_ARGON2.replace("t=2", "t=99999"),
    GOOD_ARGON2.replace("p=8", "p=9999"),
    GOOD_ARGON2 + "é",
    GOOD_ARGON2 + "A" * 1000,
    "$argon2id$v=19$m=,t=,p=$$",
    "md5$salt$" + "0" * 32,
    PASSWORD,
]


@pytest.mark.parametrize("password_hash", MALFORMED, ids=range(len(MALFORMED)))
async def test_unverifiable_hashes_match_nothing(hasher: Hasher, password_hash: str) -> None:
    assert not is_verifiable(password_hash)
    assert await hasher.check(password_hash, PASSWORD) is Match.WRONG
    assert await hasher.check(None, PASSWORD, decoys=[password_hash]) is Match.WRONG


_parts = st.sampled_from(
    ["pbkdf2_sha256", "argon2", "argon2id", "v=19", "m=64,t=1,p=1", "$", "$", "1000", "salt", "=", GOOD[-44:], "é", ""]
)


@pytest.fixture(scope="module")
def lasting_hasher() -> Iterator[Hasher]:
    """A hasher for every example."""
    opened = Hasher(threads=1)
    yield opened
    opened.close()


@given(st.one_of(st.text(), st.lists(_parts).map("".join), st.lists(_parts).map("$".join)), st.text())
def test_no_hash_and_no_password_make_it_fail(lasting_hasher: Hasher, password_hash: str, password: str) -> None:
    if not is_verifiable(password_hash):
        found = asyncio.run(lasting_hasher.check(password_hash, password, decoys=[password_hash]))
        assert found is Match.WRONG


class Work:
    """What was computed, as the libraries were asked for it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.argon2s, self.iterations = 0, 0
        verify, derive = argon2.PasswordHasher.verify, hashlib.pbkdf2_hmac

        def verifying(ours: argon2.PasswordHasher, password_hash: str, password: bytes) -> bool:
            try:
                return verify(ours, password_hash, password)
            except argon2.exceptions.VerifyMismatchError:  # any other says that it never began
                self.argon2s += password_hash.startswith(OURS)
                raise

        def deriving(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
            self.iterations += iterations
            return derive(name, password, salt, iterations)

        monkeypatch.setattr(argon2.PasswordHasher, "verify", verifying)
        monkeypatch.setattr(hashlib, "pbkdf2_hmac", deriving)

    def done(self) -> tuple[int, int]:
        """Return the argon2s with our parameters and the iterations of pbkdf2 since it was last asked."""
        done, self.argon2s, self.iterations = (self.argon2s, self.iterations), 0, 0
        return done


@pytest.mark.parametrize("decoy", [None, 900, 2000])
async def test_every_failure_is_the_same_work(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch, decoy: int | None
) -> None:
    native = await hasher.hash("other")
    foreign, older = pbkdf2("other", iterations=900), pbkdf2("other", iterations=500)
    broken = OURS + "!" * 22 + "$" + "!" * 43
    work = Work(monkeypatch)
    for password_hash in (None, "", "!", native, broken, foreign, older, *MALFORMED):
        decoys = [pbkdf2(PASSWORD, iterations=decoy)] if decoy else []
        work.done()
        assert await hasher.check(password_hash, PASSWORD, decoys=decoys) is Match.WRONG
        # Without a decoy there are no such hashes in the program; were there one, it would cost itself.
        own = int(password_hash.split("$")[1]) if password_hash in (foreign, older) else 0
        assert work.done() == (1, max(decoy or 0, own)), password_hash


async def test_a_failure_takes_as_long_for_nobody_as_for_who_came_from_elsewhere(hasher: Hasher) -> None:
    decoy = pbkdf2("other", iterations=200_000)
    kinds = {"nobody": None, "native": await hasher.hash("other"), "foreign": pbkdf2("else", iterations=200_000)}
    took: dict[str, float] = {}
    for _ in range(5):
        for kind, password_hash in kinds.items():
            began = time.process_time()
            assert await hasher.check(password_hash, PASSWORD, decoys=[decoy]) is Match.WRONG
            took[kind] = min(took.get(kind, 9), time.process_time() - began)
    assert max(took.values()) < 1.5 * min(took.values()), took


async def _with_hash(ctx: AppContext, person: Person, password_hash: str) -> None:
    await ctx.db.execute(
        "UPDATE users SET password_hash = $3 WHERE program_id = $1 AND id = $2",
        person.program_id,
        person.id,
        password_hash,
    )


async def _hash_of(db: Queryable, person: Person) -> str:
    stored: str = await db.fetchval(
        "SELECT password_hash FROM users WHERE program_id = $1 AND id = $2", person.program_id, person.id
    )
    return stored


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_django_hashes_match_their_password_alone(hasher: Hasher, scheme: str) -> None:
    for password in (PASSWORD, "пароль", " x ", "p" * 100):
        password_hash = by_django(scheme, password)
        assert is_verifiable(password_hash)
        assert await hasher.check(password_hash, password) is Match.RIGHT_BUT_STALE
        assert await hasher.check(password_hash, password + "x") is Match.WRONG


async def test_a_failure_costs_one_of_each_scheme_that_the_program_has(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoys = [by_django(scheme, "other") for scheme in SCHEMES]
    done: list[str] = []
    for module, name in ((hashlib, "pbkdf2_hmac"), (hashlib, "scrypt"), (bcrypt, "hashpw")):
        work = getattr(module, name)

        def working(*args: Any, name: str = name, work: Any = work, **how: Any) -> Any:
            done.append(f"{name} {args[0]}" if name == "pbkdf2_hmac" else name)
            return work(*args, **how)

        monkeypatch.setattr(module, name, working)
    for password_hash in (None, await hasher.hash("other"), *(by_django(scheme, "else") for scheme in SCHEMES)):
        done.clear()
        assert await hasher.check(password_hash, PASSWORD, decoys=decoys) is Match.WRONG
        assert sorted(done) == ["hashpw", "pbkdf2_hmac sha1", "pbkdf2_hmac sha256", "scrypt"]


@pytest.mark.parametrize("scheme", [*SCHEMES, "argon2"])
@pytest.mark.parametrize("path", [LOGIN, "/auth/jwt/create/"])
async def test_a_password_from_django_logs_in_and_is_hashed_anew(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, scheme: str, path: str
) -> None:
    alice = await cast.member()
    password = "p1"  # shorter than a new one may be
    old = by_django(scheme, password)
    await _with_hash(ctx, alice, old)
    wrong = await client.post(path, json={"email": alice.email, "password": "p2"})
    assert wrong.status_code in (400, 401)
    assert await _hash_of(ctx.db, alice) == old
    assert (await client.post(path, json={"email": alice.email, "password": password})).status_code == 200
    new = await _hash_of(ctx.db, alice)
    assert new.startswith(OURS)
    assert (await client.post(path, json={"username": alice.username, "password": password})).status_code == 200
    assert await _hash_of(ctx.db, alice) == new
    assert (await client.post(path, json={"email": alice.email, "password": "p2"})).status_code == wrong.status_code


async def test_an_inactive_user_from_django_stays_outside_and_as_they_are(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice = await cast.member()
    old = pbkdf2(PASSWORD)
    await _with_hash(ctx, alice, old)
    await cast.deactivate(alice)
    answer = await client.post(LOGIN, json={"email": alice.email, "password": PASSWORD})
    assert answer.status_code == 400
    assert await _hash_of(ctx.db, alice) == old


@pytest.mark.parametrize("path", [LOGIN, "/auth/jwt/create/"])
async def test_every_failed_login_is_the_same_work_where_some_came_from_django(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    native, inactive, older, newest = [await cast.member() for _ in range(4)]
    await _with_hash(ctx, inactive, pbkdf2(PASSWORD, iterations=700))
    await _with_hash(ctx, older, pbkdf2("other", iterations=700))
    await _with_hash(ctx, newest, pbkdf2("other", iterations=800))
    await cast.deactivate(inactive)
    work = Work(monkeypatch)
    logins = [{"email": person.email} for person in (inactive, older, newest)]
    logins += [{"username": older.username}, {"username": "nobody"}, {"email": "nobody@example.com"}]
    for login in logins:
        assert (await client.post(path, json={**login, "password": PASSWORD})).status_code in (400, 401)
        assert work.done() == (1, 800), login
    assert (await client.post(path, json={"email": native.email, "password": "other"})).status_code in (400, 401)
    assert work.done() == (1, 800)


async def test_a_full_hasher_keeps_nobody_out_who_is_right(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await cast.member()
    old = pbkdf2(PASSWORD)
    await _with_hash(ctx, alice, old)
    derive, loop = hashlib.pbkdf2_hmac, asyncio.get_running_loop()
    async with AsyncExitStack() as others:

        def deriving(*args: object) -> bytes:  # others come while the password is being verified
            crowd = others.enter_async_context(busy(ctx.hasher, waiting=3))
            asyncio.run_coroutine_threadsafe(crowd, loop).result(timeout=10)
            monkeypatch.setattr(ctx.hasher, "_capacity", 1)
            return derive(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(hashlib, "pbkdf2_hmac", deriving)
        answer = await client.post(LOGIN, json={"email": alice.email, "password": PASSWORD})
    assert answer.status_code == 200
    assert await _hash_of(ctx.db, alice) == old


async def test_a_password_changed_while_it_is_hashed_anew_stays_changed(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice = await cast.member()
    await _with_hash(ctx, alice, pbkdf2(PASSWORD))
    changed = await ctx.hasher.hash("the new one")
    async with ctx.db.transaction() as tx:
        # The login reads the old hash; its own write then waits for this one.
        await tx.execute(
            "UPDATE users SET password_hash = $3 WHERE program_id = $1 AND id = $2",
            alice.program_id,
            alice.id,
            changed,
        )
        logging_in = asyncio.create_task(client.post(LOGIN, json={"email": alice.email, "password": PASSWORD}))
        waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        deadline = time.monotonic() + 1.5  # a statement gives up after 2 seconds of waiting
        while not await ctx.db.fetchval(waits) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await ctx.db.fetchval(waits)
    await logging_in
    assert await _hash_of(ctx.db, alice) == changed


async def test_a_hash_is_replaced_only_where_it_is_still_the_one(cast: Cast, ctx: AppContext) -> None:
    alice, bob, eve = await cast.member(), await cast.member(), await cast.stranger()
    for person in (alice, bob, eve):
        await _with_hash(ctx, person, "old")
    for program_id, old in ((alice.program_id, "older"), (eve.program_id, "old")):
        await replace_hash(ctx.db, program_id=program_id, user_id=alice.id, old_hash=old, new_hash="new")
    assert await _hash_of(ctx.db, alice) == "old"
    await replace_hash(ctx.db, program_id=alice.program_id, user_id=alice.id, old_hash="old", new_hash="new")
    assert [await _hash_of(ctx.db, person) for person in (alice, bob, eve)] == ["new", "old", "old"]


async def test_the_decoy_is_the_newest_of_the_program_and_found_by_its_index(cast: Cast, ctx: AppContext) -> None:
    eve, fay = await cast.stranger(), await cast.stranger()

    async def decoys_of(one: Person) -> Sequence[str]:
        claims = [
            await find_login_candidate_by_email(ctx.db, program_id=one.program_id, email_key=email)
            for email in (one.email, "")
        ]
        assert [claim.known and claim.known.user_id for claim in claims] == [one.id, None]
        assert claims[0].decoys == claims[1].decoys
        return claims[0].decoys

    assert await decoys_of(eve) == []
    older, newest = pbkdf2("older"), pbkdf2("newest")
    await ctx.db.execute(
        """
        WITH made AS (
            INSERT INTO users (program_id, email, email_key, email_identity, username, password_hash)
            SELECT $1, 'd' || n, 'd' || n, 'd' || n, 'd' || n,
                   CASE n WHEN 10 THEN $2 WHEN 20 THEN $3 WHEN 30 THEN $5 ELSE $4 END FROM generate_series(1, 5000) n
            RETURNING program_id, id
        )
        INSERT INTO audit (program_id, user_id, actor, kind)
        SELECT program_id, id, 'operator', 'account.created' FROM made
        """,
        eve.program_id,
        older,
        newest,
        "argon2" + phc("x"),
        scrypt := by_django("scrypt", "x"),
    )
    await ctx.db.execute("ANALYZE users")
    assert await decoys_of(eve) == [newest, scrypt]
    assert await decoys_of(fay) == []
    plans: list[str] = []

    class Explaining:
        """A database that is asked how it would answer."""

        async def fetchrow(self, query: str, *args: object) -> Sequence[None]:
            plans.extend(row[0] for row in await ctx.db.fetch(f"EXPLAIN {query}", *args))
            return [None] * 4

    await find_login_candidate_by_email(Explaining(), program_id=eve.program_id, email_key=eve.email)  # type: ignore[arg-type]
    assert any("users_by_django_hash" in line for line in plans), plans
    assert not any("Sort" in line or "Seq Scan" in line for line in plans), plans
