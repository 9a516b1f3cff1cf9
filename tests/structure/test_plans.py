"""An index is behind every query of every store: what a request costs does not grow with the tables.

Each statement is planned in a full database both for its arguments and, as PostgreSQL does from the sixth execution of
a prepared statement on, for any; it is executed by either plan, and what that reads is counted.
"""

import inspect
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import asyncpg
import msgspec
import pytest

from invitree.kit.data import notifications as listen
from invitree.kit.limits.local_rate_limiter import LocalRateLimiter
from invitree.kit.limits.rate_limiter import RateLimiter
from invitree.kit.work import jobs
from tests.structure.crowd import fill
from tests.structure.questions import COUNTING, ROWS, USUAL
from tests.structure.test_house import store_functions

MOST_READ = 200
"""Rows, or blocks, that a node of a plan may read: a page of a hundred, and some."""

STEADY = {"programs", "alembic_version", "pgqueuer_schedules", "pg_database", "pg_authid"}
"""Tables that do not grow with use."""

LINEAR: Mapping[tuple[str, str], str] = {
    ("audit.occurred_within_hour", "audit"): "one user's history, looked through once a theft",
    (
        "email.delete_expired_tokens",
        "one_time_tokens",
    ): "the worker's: what was sent in a month, for it deletes the rest",
    ("email.erase_person", "pgqueuer"): "letters that wait or were given up; only the payload says whose they are",
    ("jobs.backlog", "pgqueuer"): "a scrape of the metrics: counts what waits",
    ("jobs.list_jobs", "pgqueuer"): "the operator's: lists every job",
    ("jobs.list_jobs", "pgqueuer_log"): "the operator's: lists every job",
    ("jobs.cap_future_times", "pgqueuer"): "the worker's: no index is by times that should not be",
    ("jobs.delete_given_up_jobs", "pgqueuer"): "the worker's: what was given up is few",
    ("jobs.prune_job_log", "pgqueuer"): "the worker's: compares what it deletes with all that waits",
    ("jobs.prune_job_log", "pgqueuer_statistics"): "the worker's: PgQueuer has no index on the time",
}
"""Who reads more of what, and why that may be."""

FOR_NO_QUERY: Mapping[str, str] = {}
"""Indexes that no query here uses and no constraint needs, and what they are for."""


def _functions() -> Mapping[str, Any]:
    """Return all that asks the database, by the names that rows have: of stores, jobs, news and limits."""
    found = dict(store_functions())
    for module in (jobs, listen):
        for name, function in inspect.getmembers(module, inspect.iscoroutinefunction):
            if function.__module__ == module.__name__:
                found[f"{module.__name__.rpartition('.')[2]}.{name}"] = function
    return {name: function for name, function in found.items() if "._" not in name}


FUNCTIONS = _functions()
LIMITS = {
    f"rate_limiter.{name}" for name, _ in inspect.getmembers(RateLimiter, inspect.iscoroutinefunction) if name[0] != "_"
}


class Step(NamedTuple):
    """A node of a plan that reads a table: how, by which index and condition, and how many rows or blocks of it."""

    query: str
    kind: str
    table: str
    actor: str
    condition: str
    read: int

    @property
    def is_found(self) -> bool:
        """Whether it goes to what it looks for. What a bitmap points to was found by the node below."""
        return self.read <= MOST_READ and (self.condition != "" or self.kind == "Bitmap Heap Scan")


class Explaining:
    """A Queryable that has each statement explained before it executes it."""

    def __init__(self, db: Any) -> None:
        self._db = db
        self.asked: list[str] = []
        self.steps: list[Step] = []
        self.notifications: list[Any] = []

    async def fetch(self, query: str, *args: Any) -> list[Any]:
        await self._explain(query, args)
        rows: list[Any] = await self._db.fetch(query, *args)
        return rows

    async def fetchrow(self, query: str, *args: Any) -> Any:
        await self._explain(query, args)
        return await self._db.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        await self._explain(query, args)
        return await self._db.fetchval(query, *args)

    async def execute(self, query: str, *args: Any) -> str:
        await self._explain(query, args)
        status: str = await self._db.execute(query, *args)
        return status

    async def _explain(self, query: str, args: Sequence[Any]) -> None:
        self.asked.append(query)
        arguments = await self._written(query, args)
        for mode in ("force_custom_plan", "force_generic_plan"):
            attempt = self._db.transaction()
            await attempt.start()
            await self._db.execute(f"SET LOCAL plan_cache_mode = {mode}")
            await self._db.execute(f"PREPARE it AS {query}")
            said = await self._db.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) EXECUTE it{arguments}")
            await self._db.execute("DEALLOCATE it")
            await attempt.rollback()
            self.steps += _steps(query, msgspec.json.decode(said)[0]["Plan"])

    async def _written(self, query: str, args: Sequence[Any]) -> str:
        """Return arguments as SQL: EXECUTE takes no parameters."""
        kinds = (await self._db.prepare(query)).get_parameters()
        texts = ", ".join(f"quote_nullable(${n}::{kind.name}::text)" for n, kind in enumerate(kinds, 1))
        return f"({', '.join(await self._db.fetchrow(f'SELECT {texts}', *args))})" if kinds else ""


def _steps(query: str, node: Mapping[str, Any], table: str = "") -> Iterator[Step]:
    table = node.get("Relation Name", table)  # the index of a bitmap is below its table
    table = re.sub(r"^audit_.+", "audit", table)
    if node["Node Type"].endswith(" Scan") and ("Relation Name" in node or "Index Name" in node):
        passed_over = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        rows = (node["Actual Rows"] + passed_over) * node["Actual Loops"]
        # What is read of an index without being a match is told by nothing else.
        blocks = node["Shared Hit Blocks"] + node["Shared Read Blocks"]
        condition = node.get("Index Cond", "")
        yield Step(query, node["Node Type"], table, node.get("Index Name", ""), condition, int(max(rows, blocks)))
    for child in node.get("Plans", ()):
        yield from _steps(query, child, table)


@pytest.fixture(scope="module")
async def db(database_url: str) -> AsyncIterator[Any]:
    """A connection to a full database."""
    connection = await asyncpg.connect(database_url)
    await fill(connection)
    yield connection
    await connection.close()


@pytest.fixture(scope="module")
async def explained(db: Any) -> Mapping[str, Explaining]:
    """What came of asking everything that there is a row for; nothing of it stays."""
    done: dict[str, Explaining] = {}
    for name in [*ROWS, *COUNTING]:
        done[name] = explaining = Explaining(db)
        transaction = db.transaction()
        await transaction.start()
        if name in COUNTING:
            await COUNTING[name](explaining)
        else:
            given = {**USUAL, **ROWS[name]}
            _, *parameters = inspect.signature(FUNCTIONS[name]).parameters
            await FUNCTIONS[name](explaining, **{parameter: given[parameter] for parameter in parameters})
        await transaction.rollback()
    return done


def test_everything_that_asks_the_database_has_a_row() -> None:
    assert set(ROWS) == set(FUNCTIONS)
    assert set(COUNTING) == {*LIMITS, "local_rate_limiter.sync"}


def test_rows_reach_every_statement_of_their_functions(explained: Mapping[str, Explaining]) -> None:
    missed = []
    for name, function in FUNCTIONS.items():
        statements = re.findall(r"\b(?:db|tx)\.(?:fetch|fetchrow|fetchval|execute)\(", inspect.getsource(function))
        if not len(explained[name].asked) >= len(statements) > 0:
            missed.append(name)
    assert missed == []


def test_limits_reach_every_statement_of_theirs(explained: Mapping[str, Explaining]) -> None:
    source = inspect.getsource(RateLimiter) + inspect.getsource(LocalRateLimiter)
    statements = re.findall(r"\b_db\.(?:fetch|fetchrow|fetchval|execute)\(", source)
    assert len({query for name in COUNTING for query in explained[name].asked}) == len(statements) > 0


def test_an_index_leads_to_all_that_is_read(explained: Mapping[str, Explaining]) -> None:
    steps = [(name, step) for name in [*ROWS, *COUNTING] for step in explained[name].steps]
    growing = [(name, step) for name, step in steps if step.table not in STEADY and (name, step.table) not in LINEAR]
    assert growing
    assert [(name, step) for name, step in growing if not step.is_found] == []


def test_no_exception_is_left_over(explained: Mapping[str, Explaining]) -> None:
    needed = {(name, step.table) for name, one in explained.items() for step in one.steps if not step.is_found}
    assert set(LINEAR) <= needed


async def test_every_index_of_ours_is_of_use(db: Any, explained: Mapping[str, Explaining]) -> None:
    """Unique ones promise something, and those of foreign keys are for deleting what is pointed at."""
    rows = await db.fetch(
        """
        SELECT i.indexrelid::regclass::text AS name FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
        WHERE t.relnamespace = 'public'::regnamespace AND t.relname !~ '^(pgqueuer|audit_[0-9])' AND t.relkind = 'r'
          AND NOT i.indisunique
          AND NOT EXISTS (
              SELECT FROM pg_constraint c WHERE c.contype = 'f' AND c.conrelid = i.indrelid
                AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey
          )
        """
    )
    used = {step.actor for one in explained.values() for step in one.steps}
    assert {row["name"] for row in rows} - used == set(FOR_NO_QUERY)
