"""kit/data/cache.py, which lookups by e-mail are answered from."""

import math

import pytest

from invitree.kit.data.cache import Cache

NOW = 1_777_593_600.0
SOON = NOW + 1


@pytest.fixture
def cache() -> Cache[str, int]:
    opened: Cache[str, int] = Cache(max_size=3)
    opened.open()
    return opened


def fill(cache: Cache[str, int], key: str, value: int, *, expires_at: float = math.inf) -> None:
    cache.fill(key, value, ticket=cache.ticket(), expires_at=expires_at)


def test_the_cache_keeps_what_was_read(cache: Cache[str, int]) -> None:
    fill(cache, "a", 1)
    assert cache.get("a", now=NOW) == 1
    assert cache.get("b", now=NOW) is None


@pytest.mark.parametrize(
    ("microseconds", "seen"), [(-1, 1), (0, None), (1, None)], ids=["before the end", "at the end", "after the end"]
)
def test_an_entry_dies_at_its_end(cache: Cache[str, int], microseconds: int, seen: int | None) -> None:
    fill(cache, "a", 1, expires_at=SOON)
    cache.replace("b", 1, expires_at=SOON)
    now = SOON + microseconds * 1e-6
    assert (cache.get("a", now=now), cache.get("b", now=now)) == (seen, seen)


def test_a_dead_entry_does_not_come_back_when_the_clock_is_set_back(cache: Cache[str, int]) -> None:
    fill(cache, "a", 1, expires_at=SOON)
    assert cache.get("a", now=SOON) is None
    assert cache.get("a", now=NOW) is None


def test_no_more_than_its_bound_is_kept_and_the_oldest_goes_first(cache: Cache[str, int]) -> None:
    for number, key in enumerate("abcd"):
        fill(cache, key, number)
    assert [cache.get(key, now=NOW) for key in "abcd"] == [None, 1, 2, 3]
    cache.replace("e", 4)
    assert [cache.get(key, now=NOW) for key in "bcde"] == [None, 2, 3, 4]


def test_a_rewritten_entry_counts_as_new_and_takes_no_second_place(cache: Cache[str, int]) -> None:
    for key in "abca":
        fill(cache, key, 1)
    fill(cache, "d", 1)
    assert [cache.get(key, now=NOW) for key in "abcd"] == [1, None, 1, 1]


@pytest.mark.parametrize("change", ["drop", "replace", "close and open"])
def test_a_slow_reader_cannot_put_back_what_a_change_has_ended(cache: Cache[str, int], change: str) -> None:
    ticket = cache.ticket()
    match change:
        case "drop":
            cache.change("a")
        case "replace":
            cache.replace("a", 2)
        case _:
            cache.close()
            cache.open()
    cache.fill("a", 1, ticket=ticket)
    assert cache.get("a", now=NOW) == (2 if change == "replace" else None)


def test_a_reader_that_began_after_a_change_may_fill(cache: Cache[str, int]) -> None:
    cache.change("a")
    fill(cache, "a", 3)
    assert cache.get("a", now=NOW) == 3


def test_a_change_ends_what_was_there(cache: Cache[str, int]) -> None:
    fill(cache, "a", 1)
    cache.replace("a", 2)
    assert cache.get("a", now=NOW) == 2
    cache.change("a")
    assert cache.get("a", now=NOW) is None


def test_a_closed_cache_is_empty_and_keeps_nothing(cache: Cache[str, int]) -> None:
    fill(cache, "a", 1)
    cache.close()
    assert cache.get("a", now=NOW) is None
    fill(cache, "a", 1)
    cache.replace("b", 1)
    assert (cache.get("a", now=NOW), cache.get("b", now=NOW)) == (None, None)
    cache.open()
    assert (cache.get("a", now=NOW), cache.get("b", now=NOW)) == (None, None)


def test_a_new_cache_is_closed() -> None:
    cache: Cache[str, int] = Cache(max_size=3)
    fill(cache, "a", 1)
    cache.replace("a", 1)
    assert cache.get("a", now=NOW) is None


def test_a_reader_that_began_while_the_cache_was_closed_cannot_fill_it(cache: Cache[str, int]) -> None:
    cache.close()
    ticket = cache.ticket()  # it reads, and then a change is missed, for nobody hears
    cache.open()
    cache.fill("a", 1, ticket=ticket)
    assert cache.get("a", now=NOW) is None


class TestOwners:
    """Several keys depend on one owner, who is changed."""

    def test_a_change_of_the_owner_ends_all_that_depends_on_it(self, cache: Cache[str, int]) -> None:
        for key in ("a", "b"):
            cache.fill(key, 1, ticket=cache.ticket(), owner=7)
        cache.fill("c", 1, ticket=cache.ticket(), owner=8)
        cache.change(7)
        assert [cache.get(key, now=NOW) for key in "abc"] == [None, None, 1]

    def test_a_slow_reader_cannot_put_back_what_a_change_of_the_owner_has_ended(self, cache: Cache[str, int]) -> None:
        ticket = cache.ticket()
        cache.change(7)
        cache.fill("a", 1, ticket=ticket, owner=7)
        assert cache.get("a", now=NOW) is None
        cache.fill("a", 2, ticket=cache.ticket(), owner=7)
        assert cache.get("a", now=NOW) == 2

    def test_a_change_during_the_read_counts_even_if_another_came_after(self, cache: Cache[str, int]) -> None:
        ticket = cache.ticket()
        cache.change(7)
        cache.change(8)
        cache.fill("a", 1, ticket=ticket, owner=7)
        assert cache.get("a", now=NOW) is None

    def test_what_is_ended_leaves_its_place(self, cache: Cache[str, int]) -> None:
        cache.fill("a", 1, ticket=cache.ticket(), owner=7)
        cache.change(7)
        assert cache.get("a", now=NOW) is None
        assert len(cache) == 0

    def test_a_change_of_a_key_leaves_others_alone_that_fall_into_the_same_stripe(self) -> None:
        cache: Cache[int, int] = Cache(max_size=5000)
        cache.open()
        for key in range(5000):
            cache.fill(key, key, ticket=cache.ticket())
        cache.change(1)
        assert len([key for key in range(5000) if cache.get(key, now=NOW) is None]) == 1


def test_a_cache_for_nothing_keeps_nothing() -> None:
    cache: Cache[str, int] = Cache(max_size=0)
    cache.open()
    fill(cache, "a", 1)
    cache.replace("b", 1)
    assert (cache.get("a", now=NOW), cache.get("b", now=NOW), len(cache)) == (None, None, 0)
