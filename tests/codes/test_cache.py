"""kit/cache.py, which lookups by e-mail are answered from."""

from datetime import UTC, datetime, timedelta

import pytest

from invitree.kit.cache import Cache

NOW = datetime(2026, 5, 1, tzinfo=UTC)
SOON = NOW + timedelta(seconds=1)


@pytest.fixture
def cache() -> Cache[str, int]:
    opened: Cache[str, int] = Cache(most=3)
    opened.open()
    return opened


def fill(cache: Cache[str, int], key: str, value: int, *, expires_at: datetime | None = None) -> None:
    cache.fill(key, value, ticket=cache.ticket(key), expires_at=expires_at)


def test_what_was_read_is_kept(cache: Cache[str, int]) -> None:
    fill(cache, "a", 1)
    assert cache.get("a", now=NOW) == 1
    assert cache.get("b", now=NOW) is None


@pytest.mark.parametrize(
    ("microseconds", "seen"), [(-1, 1), (0, None), (1, None)], ids=["before the end", "at the end", "after the end"]
)
def test_an_entry_dies_at_its_end(cache: Cache[str, int], microseconds: int, seen: int | None) -> None:
    fill(cache, "a", 1, expires_at=SOON)
    cache.change("b", 1, expires_at=SOON)
    now = SOON + timedelta(microseconds=microseconds)
    assert (cache.get("a", now=now), cache.get("b", now=now)) == (seen, seen)


def test_a_dead_entry_does_not_come_back_when_the_clock_is_set_back(cache: Cache[str, int]) -> None:
    fill(cache, "a", 1, expires_at=SOON)
    assert cache.get("a", now=SOON) is None
    assert cache.get("a", now=NOW) is None


def test_no_more_than_its_bound_is_kept_and_the_oldest_goes_first(cache: Cache[str, int]) -> None:
    for number, key in enumerate("abcd"):
        fill(cache, key, number)
    assert [cache.get(key, now=NOW) for key in "abcd"] == [None, 1, 2, 3]
    cache.change("e", 4)
    assert [cache.get(key, now=NOW) for key in "bcde"] == [None, 2, 3, 4]


def test_a_rewritten_entry_counts_as_new_and_takes_no_second_place(cache: Cache[str, int]) -> None:
    for key in "abca":
        fill(cache, key, 1)
    fill(cache, "d", 1)
    assert [cache.get(key, now=NOW) for key in "abcd"] == [1, None, 1, 1]


@pytest.mark.parametrize("change", ["drop", "replace", "close and open"])
def test_a_slow_reader_cannot_put_back_what_a_change_has_ended(cache: Cache[str, int], change: str) -> None:
    ticket = cache.ticket("a")
    match change:
        case "drop":
            cache.change("a", None)
        case "replace":
            cache.change("a", 2)
        case _:
            cache.close()
            cache.open()
    cache.fill("a", 1, ticket=ticket)
    assert cache.get("a", now=NOW) == (2 if change == "replace" else None)


def test_a_reader_that_began_after_a_change_may_fill(cache: Cache[str, int]) -> None:
    cache.change("a", None)
    fill(cache, "a", 3)
    assert cache.get("a", now=NOW) == 3


def test_a_change_ends_what_was_there(cache: Cache[str, int]) -> None:
    fill(cache, "a", 1)
    cache.change("a", 2)
    assert cache.get("a", now=NOW) == 2
    cache.change("a", None)
    assert cache.get("a", now=NOW) is None


def test_a_closed_cache_is_empty_and_keeps_nothing(cache: Cache[str, int]) -> None:
    fill(cache, "a", 1)
    cache.close()
    assert cache.get("a", now=NOW) is None
    fill(cache, "a", 1)
    cache.change("b", 1)
    assert (cache.get("a", now=NOW), cache.get("b", now=NOW)) == (None, None)
    cache.open()
    assert (cache.get("a", now=NOW), cache.get("b", now=NOW)) == (None, None)


def test_a_new_cache_is_closed() -> None:
    cache: Cache[str, int] = Cache(most=3)
    fill(cache, "a", 1)
    cache.change("a", 1)
    assert cache.get("a", now=NOW) is None


def test_a_reader_that_began_while_the_cache_was_closed_cannot_fill_it(cache: Cache[str, int]) -> None:
    cache.close()
    ticket = cache.ticket("a")  # it reads, and then a change is missed, for nobody hears
    cache.open()
    cache.fill("a", 1, ticket=ticket)
    assert cache.get("a", now=NOW) is None
