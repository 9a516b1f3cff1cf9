"""The people of the benchmark, made by COPY: who has codes, who was brought by whom, and who is logged in."""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice

import asyncpg
from msgspec import Struct, structs

from invitree.base.tokens import format_token
from invitree.identity.auth.rules import access_claims
from invitree.kit.clock import Clock
from invitree.kit.secrets.keys import Keyring
from invitree.kit.secrets.passwords import Hasher
from invitree.sharing.codes.rules import ALPHABET

PASSWORD = "correct horse battery staple"  # noqa: S105
CALLERS, CODELESS = 1_000, 10_000  # how many people are logged in, and how many of those whom they brought
STAR = 1  # the id of the one who brought a fifth of all
_PROGRAM = 1
_ROWS_AT_ONCE = 5_000
_LIFE_S = 300

Advance = Callable[[str, int, int], None]
"""Hears what goes on, by how much it has come further, and how much it will be: a table and its rows, for one."""


class Sizes(Struct, frozen=True):
    """How many have a code, and how many were brought by them; everybody is a user."""

    people: int
    referrals: int

    @property
    def callers(self) -> range:
        """The numbers of those with a code who are logged in."""
        return range(1, min(CALLERS, self.people) + 1)

    @property
    def codeless(self) -> range:
        """The numbers of those without a code who are logged in."""
        return range(self.people + 1, self.people + min(CODELESS, self.referrals) + 1)

    @property
    def of_the_star(self) -> int:
        """How many the one with the most has brought."""
        return (self.referrals + 4) // 5


def email_of(number: int) -> str:
    """Return the address of a person, who is numbered from 1."""
    return f"p{number}@example.com"


def code_of(number: int) -> str:
    """Return the code of a person: scattered as random ones are, and never twice the same."""
    scattered = number * 0x9E3779B97F4A7C15 % 32**10
    return "".join(ALPHABET[scattered >> 5 * place & 31] for place in range(10))


def token_of(number: int) -> str:
    """Return the session token of a caller."""
    return format_token(program_id=_PROGRAM, secret=f"{number:043d}")


def access_token_of(number: int, keys: Keyring) -> str:
    """Return a fresh access token of a caller, good for five minutes."""
    claims = access_claims(
        program_id=_PROGRAM, user_id=number, session_id=number, nonce="benchmarking", now=Clock().now()
    )
    return keys.sign(structs.asdict(claims))


async def fill(url: str, sizes: Sizes, *, keys: Keyring, advance: Advance) -> None:
    """Write everybody into an empty, migrated database. `url` is a superuser's, for whom keys need no checks."""
    hasher = Hasher(threads=1)
    password_hash = await hasher.hash(PASSWORD)
    hasher.close()
    connection = await asyncpg.connect(url, command_timeout=3600)
    try:
        await connection.execute("SET session_replication_role = replica")
        for table, columns, count, rows in _tables(sizes, keys, password_hash):
            await _copy(connection, table, columns, count, rows, advance)
            await connection.execute("SELECT setval($1, $2)", f"{table}_id_seq", max(1, count))
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


def _tables(
    sizes: Sizes, keys: Keyring, password_hash: str
) -> Iterator[tuple[str, Sequence[str], int, Iterator[Sequence[object]]]]:
    everybody = sizes.people + sizes.referrals
    yield (
        "users",
        ("program_id", "id", "email", "email_key", "email_identity", "username", "password_hash"),
        everybody,
        ((_PROGRAM, n, *3 * (email_of(n),), f"p{n}", password_hash) for n in range(1, everybody + 1)),
    )
    yield (
        "codes",
        ("program_id", "id", "user_id", "code", "created_at", "expires_at"),
        sizes.people,
        (
            (_PROGRAM, n, n, code_of(n), "2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z")
            for n in range(1, sizes.people + 1)
        ),
    )
    yield (
        "referrals",
        ("program_id", "id", "referrer_id", "referee_id", "code_id", "created_at"),
        sizes.referrals,
        (
            (_PROGRAM, n + 1, who := _referrer(n, sizes.people), sizes.people + n + 1, who, "2026-01-02T00:00:00Z")
            for n in range(sizes.referrals)
        ),
    )
    logged_in = (*sizes.callers, *sizes.codeless)
    yield (
        "sessions",
        ("program_id", "id", "user_id", "token_hash", "device"),
        len(logged_in),
        (
            (_PROGRAM, number, who, rf"\\x{keys.hash(token_of(who)).hex()}", "bench")
            for number, who in enumerate(logged_in, start=1)
        ),
    )


def _referrer(number: int, people: int) -> int:
    return STAR if number % 5 == 0 or people == 1 else 2 + number % (people - 1)


async def _copy(
    connection: "asyncpg.Connection[asyncpg.Record]",
    table: str,
    columns: Sequence[str],
    count: int,
    rows: Iterator[Sequence[object]],
    advance: Advance,
) -> None:
    async def text() -> AsyncIterator[bytes]:
        while some := list(islice(rows, _ROWS_AT_ONCE)):
            yield "".join("\t".join(map(str, row)) + "\n" for row in some).encode()
            advance(table, len(some), count)

    await connection.copy_to_table(table, source=text(), columns=columns)
