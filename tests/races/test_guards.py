"""Each race is won because of its guard: in one order it is won with the guard, and lost without it.

What is lost is noticed by the race's own assertions, and by an invariant where there is one for it. Where one guard
stands behind another, both are taken away.
"""

from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from _pytest.outcomes import Failed
from msgspec import structs

from invitree.base.settings import Settings
from tests.conftest import SECRET
from tests.databases import broken_invariants, database, execute
from tests.races import test_accounts, test_codes, test_idempotency, test_links, test_waiting
from tests.races.stage import Meeting, Order, Overtaking, Stage, run

RACERS = 8


class Guard(NamedTuple):
    """What keeps a race from being lost: a statement drops it, or the piece of SQL is left out for another."""

    name: str
    dropped_by: str = ""
    piece: str = ""
    instead: str = ""


class Twin(NamedTuple):
    """A race, the guards that are taken away, and what is noticed then."""

    race: Callable[..., Awaitable[None]]
    guards: Collection[Guard]
    noticed: str
    """What the race's assertion says, as a regular expression."""
    order: Callable[[], Order] = Order
    """Who waits for whom, with the guards and without."""
    broken: Collection[str] = ()
    """Invariants."""

    def __str__(self) -> str:
        return f"{self.race.__name__} without {' and '.join(guard.name for guard in self.guards)}"


def index(name: str) -> Guard:
    """Return an index as a guard."""
    return Guard(name, f"DROP INDEX {name}")


def constraint(name: str, *, of: str) -> Guard:
    """Return a constraint as a guard."""
    return Guard(name, f"ALTER TABLE {of} DROP CONSTRAINT {name}")


def sql(name: str, piece: str, instead: str) -> Guard:
    """Return a piece of SQL as a guard, with what leaves it out."""
    return Guard(name, piece=piece, instead=instead)


LOCK_OF_OWNER = sql("lock of owner", "is_active FOR NO KEY UPDATE", "is_active")
LOCK_OF_CODE = sql("lock of code", "FOR SHARE OF c", "")
LOCK_BEFORE_REVOKING = sql("lock before revoking", "clock_timestamp() FOR UPDATE", "clock_timestamp()")
LOCK_OF_FAMILY = sql("lock of family", "FOR UPDATE OF s", "")
LOCK_OF_ACCOUNT = sql("lock of account", "deleted_at IS NULL FOR NO KEY UPDATE", "deleted_at IS NULL")
LOCK_OF_KEY = sql(
    "lock of key",
    "SELECT pg_try_advisory_xact_lock(hashtextextended(encode($2, 'hex'), $1))",
    "SELECT $1::bigint IS NOT NULL AND $2::bytea IS NOT NULL",
)
KEPT_ONCE = sql(
    "key kept once", "WHERE kept.created_at <= clock_timestamp() - interval '24 hours' RETURNING", "RETURNING"
)
USED_ONCE = sql("used_at IS NULL", "AND id = $2 AND used_at IS NULL", "AND id = $2")
CONFIRMED_ONCE = sql("confirmed_at IS NULL", "AND confirmed_at IS NULL AND", "AND")
OLD_HASH = sql("old hash", "SET password_hash = $4 WHERE program_id = $1 AND id = $2 AND password_hash = $3",
               "SET password_hash = $4 WHERE program_id = $1 AND id = $2 AND $3 <> ''")  # fmt: skip
HELD_PASSWORD = sql("held password", "AND password_hash = $3 AND is_active FOR SHARE", "AND $3 <> ''")
TIME_AFTER_THE_LOCK = sql("time after the lock", "SELECT clock_timestamp()", "SELECT now()")
ONE_LIVE_CODE = index("codes_one_live")
ONE_ADDRESS = constraint("users_email_key_unique", of="users")
ONE_NAME = constraint("users_username_unique", of="users")
ONE_LIVE_TOKEN = index("refresh_tokens_one_live")
ONE_SUCCESSOR = constraint("refresh_tokens_one_successor", of="refresh_tokens")
ONE_HASH = constraint("refresh_tokens_token_hash_unique", of="refresh_tokens")

MADE_ROOM = partial(Meeting, "UPDATE codes SET revoked_at = clock_timestamp() WHERE program_id = $1 AND user_id")
FOUND_CODE = partial(Meeting, "SELECT id FROM codes")
FOUND_LINK = partial(Meeting, "used_at IS NOT NULL AS is_used")
FOUND_REFRESH_TOKEN = partial(Meeting, "AS successor_unused, clock_timestamp() AS now")
FOUND_HASH = partial(Meeting, "LEFT JOIN users u ON u.program_id = $1 AND u.id")
FOUND_ACCOUNT = partial(Meeting, "SELECT email, email_key, is_active")
FOUND_OWNER = partial(Meeting, "SELECT email_key, confirmed_at IS NOT NULL AS is_confirmed")
WROTE_USER = partial(Meeting, "INSERT INTO users")
REVOKED_AFTER_FOUND_ALIVE = partial(
    Overtaking,
    held="u.is_active AS owner_is_active",
    actor="SELECT id FROM codes",
    past="COMMIT",
)
LOGGED_OUT_AFTER_USED = partial(
    Overtaking, held="UPDATE refresh_tokens SET used_at", actor="DELETE FROM sessions s", past="DELETE FROM sessions s"
)

TWINS = (
    Twin(test_codes.test_one_of_64_creates_wins_and_the_others_are_told, [ONE_LIVE_CODE], "201: 8", MADE_ROOM, ["I1"]),
    # Who comes later finds the index, and is told that there is a code.
    Twin(
        test_codes.test_64_replacements_leave_one_live_code_which_everybody_is_shown,
        [LOCK_OF_OWNER],
        "400",
        MADE_ROOM,
    ),
    Twin(test_codes.test_a_code_is_deleted_once, [LOCK_OF_OWNER, LOCK_BEFORE_REVOKING], "204: 8", FOUND_CODE),
    *(
        Twin(race, [guard], r"all\(", REVOKED_AFTER_FOUND_ALIVE, ["I3"])
        for race in (
            test_codes.test_a_sign_up_counts_only_if_it_came_before_the_delete,
            test_links.test_a_sign_up_counts_only_if_it_came_before_its_referrer_left,
        )
        for guard in (LOCK_OF_CODE, LOCK_BEFORE_REVOKING)
    ),
    Twin(test_accounts.test_one_of_64_sign_ups_with_one_address_wins, [ONE_ADDRESS], "'won': 8"),
    Twin(test_accounts.test_the_public_door_lets_one_of_64_in, [ONE_ADDRESS], "201: 8"),
    # Three of four come to use what is used by then.
    Twin(
        test_accounts.test_32_refreshes_of_one_token_get_one_successor,
        [LOCK_OF_FAMILY],
        "401",
        FOUND_REFRESH_TOKEN,
    ),
    Twin(
        test_accounts.test_32_refreshes_of_one_token_get_one_successor,
        [LOCK_OF_FAMILY, USED_ONCE, ONE_LIVE_TOKEN, ONE_SUCCESSOR, ONE_HASH],
        "assert 4 == 1",
        FOUND_REFRESH_TOKEN,
        ["I4a", "I4b"],
    ),
    # One has the token and wants the session, the other the session and wants the token.
    Twin(
        test_accounts.test_nothing_is_alive_after_a_logout_among_32_refreshes,
        [LOCK_OF_FAMILY],
        "503",
        LOGGED_OUT_AFTER_USED,
    ),
    Twin(
        test_links.test_of_many_activations_with_one_link_one_works,
        [USED_ONCE, CONFIRMED_ONCE],
        "204: 8",
        FOUND_LINK,
    ),
    Twin(test_links.test_of_many_resets_with_one_link_one_works, [USED_ONCE], "204: 8", FOUND_LINK),
    Twin(test_links.test_of_many_changes_of_one_password_one_works, [OLD_HASH], "204: 8", FOUND_HASH),
    Twin(test_links.test_two_take_one_address_and_one_gets_it, [ONE_ADDRESS], "204: 2", FOUND_LINK),
    Twin(test_links.test_two_take_one_address_and_one_gets_it, [USED_ONCE], "204: 4", FOUND_LINK),
    Twin(
        test_links.test_of_many_deletions_of_one_account_one_works,
        [LOCK_OF_ACCOUNT, HELD_PASSWORD],
        "8 == 1",
        FOUND_ACCOUNT,
    ),
    Twin(
        test_idempotency.test_64_sign_ups_under_one_key_are_one,
        [LOCK_OF_KEY, KEPT_ONCE, ONE_ADDRESS, ONE_NAME],
        "Extra items in the left set",
        WROTE_USER,
    ),
    Twin(
        test_idempotency.test_64_codes_under_one_key_are_one,
        [LOCK_OF_KEY, KEPT_ONCE],
        "Extra items in the left set",
        FOUND_OWNER,
    ),
    Twin(
        test_waiting.test_a_sign_up_that_waits_for_a_delete_is_refused,
        [LOCK_OF_CODE],
        "DID NOT RAISE",
        broken=["I3"],
    ),
    Twin(
        test_waiting.test_a_delete_that_waits_for_a_sign_up_is_later_than_its_referral, [LOCK_BEFORE_REVOKING], ">="
    ),
    Twin(
        test_waiting.test_a_code_that_dies_while_a_sign_up_waits_for_it_is_refused,
        [TIME_AFTER_THE_LOCK],
        "DID NOT RAISE",
    ),
)  # fmt: skip


def test_every_race_has_a_twin() -> None:
    modules = (test_accounts, test_codes, test_idempotency, test_links, test_waiting)
    races = {thing for module in modules for name, thing in vars(module).items() if name.startswith("test_")}
    assert {twin.race for twin in TWINS} == races


@pytest.fixture
def small(unhurried: None, tmp_path: Path) -> Settings:
    """The settings of a process for a few racers."""
    return Settings(data_dir=str(tmp_path), secret_key=SECRET, workers=1, pool_size=2 * RACERS, throttle="off")


@pytest.mark.parametrize("twin", TWINS, ids=str)
async def test_a_race_is_won_with_its_guard_and_lost_without(twin: Twin, postgres: str, small: Settings) -> None:
    async with database(postgres, migrated=True) as url:
        settings = structs.replace(small, database_url=url)
        async with Stage(twin.order()).opened(settings) as given:
            await run(twin.race, racers=RACERS, round_number=0, **given)
        assert await broken_invariants(url) == []
        for guard in twin.guards:
            if guard.dropped_by:
                await execute(url, guard.dropped_by)
        stage = Stage(twin.order(), without={guard.piece: guard.instead for guard in twin.guards if guard.piece})
        async with stage.opened(settings) as given:
            with pytest.raises((AssertionError, Failed), match=twin.noticed):
                await run(twin.race, racers=RACERS, round_number=1, **given)
        assert stage.not_found == set()
        assert [broken.invariant.name for broken in await broken_invariants(url)] == list(twin.broken)
