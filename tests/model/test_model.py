"""Whatever people do, in whatever order and at whatever time: the service answers as the model says.

`make test` goes the same 200 ways of 30 steps each time; `make model` goes new ones, more of them and longer.
"""

import os
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, consumes, initialize, multiple, rule, run_state_machine_as_test
from msgspec import to_builtins

from tests.cast import PASSWORD
from tests.model.conftest import World
from tests.model.model import BAD_LOGIN, BAD_TOKEN, NO_ACCOUNT, WRONG_PASSWORD, Refusal, User
from tests.model.walk import Ticket, Walker

EXAMPLES, STEPS = int(os.environ.get("EXAMPLES", "200")), int(os.environ.get("STEPS", "30"))
FIRST_SEED = int(os.environ.get("SEED", "0"))
A_ROUND = 10  # After ten, Hypothesis goes mostly where it has been, with a step or two changed.
ROUNDS = -(-EXAMPLES // A_ROUND)
SETTINGS = settings(
    max_examples=A_ROUND,
    stateful_step_count=STEPS,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)

Spell = Callable[[str], str]
Tickets = Ticket | MultipleResults[Ticket]
NAMES = st.sampled_from(["ann", "bob", "cyd", "dee"])
NUMBERS = st.integers(0, 5)
# An address is one key however it is spelled: as it is, in capitals, with letters of full width.
ADDRESSES = st.sampled_from([str, str.upper, lambda address: address.replace("@", "\uff20").replace(".", "\uff0e")])
ZONES = st.sampled_from(["UTC", "America/New_York", "Asia/Kathmandu"])
SPELLINGS = st.sampled_from(
    [
        str.upper,
        str.lower,
        lambda code: code.replace("0", "o").replace("1", "L"),
        lambda code: f"\u00ab{code[:5]}-{code[5:].lower()}\u00bb.",
    ]
)
UNKNOWN = st.sampled_from(["another program's", "0000000000", "no code", "Ж" * 10])
DAYS = st.sampled_from([-1, 0, 1, 2, 40, 366, 367])
LIVES = st.sampled_from([-1, 0, 1, 20, 300, 90_000, 366 * 86_400, 366 * 86_400 + 1]).map(
    lambda seconds: timedelta(seconds=seconds)
)
PAUSES = st.sampled_from([1, 9, 10, 19, 20, 299, 300, 3600, 86_400, 30 * 86_400])


# What must be met at least now and then, for the rest to mean anything: a request and its answers, or what is tried.
PLACES = [
    f"{what}: {answer}"
    for what, answers in {
        "sign-up with a code": ["live", "expired", "deleted", "replaced", "left", "unknown"],
        "refresh": ["new", "repeated"],
        "POST /auth/users": ["done", *(f"invalid_input {field}" for field in ("email", "username", "referral_code"))],
        "POST /auth/token/login": ["done", "invalid_credentials non_field_errors"],
        "POST /auth/token/logout": ["done", "unauthenticated"],
        "POST /auth/jwt/create": ["done", "no_active_account"],
        "POST /auth/jwt/refresh": ["done", "token_not_valid"],
        "POST /auth/jwt/verify": ["done", "token_not_valid"],
        "POST /auth/jwt/logout": ["done"],
        "GET /auth/users/me": ["done", "unauthenticated"],
        "DELETE /auth/users/me": ["done", "invalid_input current_password", "unauthenticated"],
        "POST /api/referral_codes/create": [
            *("done", "code_active", "unauthenticated"),
            *("invalid_input expiration_date", "invalid_input expires_at"),
        ],
        "DELETE /api/referral_codes/delete": ["done", "code_not_found", "unauthenticated"],
        "GET /api/referral_codes": ["done", "code_not_found", "unauthenticated"],
        "GET /api/referral_codes/get": ["done", "code_not_found", "unauthenticated"],
        "GET /api/referral_codes/check": ["done"],
        "GET /api/users": ["done", "not_found", "unauthenticated"],
    }.items()
    for answer in answers
]


class Walk(Walker):
    """One program, from its first user on."""

    callers: Bundle[Ticket] = Bundle("callers")
    families: Bundle[Ticket] = Bundle("families")
    codes: Bundle[str] = Bundle("codes")

    def __init__(self, world: World, seen: Counter[str]) -> None:
        super().__init__(world, seen)
        self.sign_up("ann", "ann", str)
        self.first = self.log_in_for_a_pair("ann")
        assert isinstance(self.first, Ticket)
        self.code = self.mint_a_code_for_days(self.first, 40, False)
        assert isinstance(self.code, str)
        self.sign_up_with_a_code("bob", "bob", str, self.code, str)

    @initialize(target=codes)
    def ann_has_a_code(self) -> str | MultipleResults[str]:
        return self.code

    @initialize(targets=(callers, families))
    def ann_is_logged_in(self) -> Tickets:
        return self.first

    @initialize(target=callers)
    def bob_is_logged_in(self) -> Tickets:
        return self.log_in("bob", str)

    @rule(seconds=PAUSES)
    def time_passes(self, seconds: int) -> None:
        self.wait_until(self.model.now + timedelta(seconds=seconds))

    @rule(zone=ZONES, who=callers, name=NAMES)
    def the_program_moves(self, zone: str, who: Ticket, name: str) -> None:
        for _ in range(2):  # so that it is in memory, with the day as it was
            self.look_up_by_email(who, name, str)
        self.world.set_policy(self.program, time_zone=zone)
        self.model.zone = ZoneInfo(zone)
        for _ in range(2):
            self.look_up_by_email(who, name, str)

    @rule(code=codes, early=st.booleans())
    def a_code_expires_or_nearly(self, code: str, early: bool) -> None:
        self.wait_until(self.model.codes[code].expires_at - timedelta(seconds=early))

    @rule(name=NAMES, username=NAMES, address=ADDRESSES)
    def sign_up(self, name: str, username: str, address: Spell) -> None:
        self.enter(name, username, address)

    @rule(name=NAMES, username=NAMES, address=ADDRESSES, code=codes, spelling=SPELLINGS)
    def sign_up_with_a_code(self, name: str, username: str, address: Spell, code: str, spelling: Spell) -> None:
        self.seen[f"sign-up with a code: {self.model.state(code)}"] += 1
        self.enter(name, username, address, code=code, referral_code=spelling(code))

    @rule(name=NAMES, username=NAMES, address=ADDRESSES, code=UNKNOWN)
    def sign_up_with_an_unknown_code(self, name: str, username: str, address: Spell, code: str) -> None:
        self.seen["sign-up with a code: unknown"] += 1
        text = self.world.foreign_code if code == "another program's" else code
        self.enter(name, username, address, code=code, referral_code=text)

    def enter(self, name: str, username: str, address: Spell, *, code: str = "", **more: str) -> None:
        """Sign somebody up."""
        body = {"email": address(f"{name}@example.com"), "username": username, "password": PASSWORD, **more}
        answer = self.ask("POST", "/auth/users/", json=body)
        new = User(
            answer.json().get("id", 0), address(f"{name}@example.com"), f"{name}@example.com", username, self.model.now
        )
        assert new.id not in self.model.users
        due = self.model.sign_up(new, code=code)
        self.answers(answer, due.own() if isinstance(due, User) else due)

    @rule(target=callers, name=NAMES, address=ADDRESSES)
    def log_in(self, name: str, address: Spell) -> Tickets:
        body = {"email": address(f"{name}@example.com"), "password": PASSWORD}
        answer = self.ask("POST", "/auth/token/login/", json=body)
        if user := self.grants(answer, self.model.living(key=f"{name}@example.com") or BAD_LOGIN):
            return self.begins(user, f"Token {answer.json()['auth_token']}")
        return multiple()

    @rule(targets=(callers, families), name=NAMES)
    def log_in_for_a_pair(self, name: str) -> Tickets:
        answer = self.ask("POST", "/auth/jwt/create/", json={"username": name, "password": PASSWORD})
        if user := self.grants(answer, self.model.living(username=name) or NO_ACCOUNT):
            return self.begins(user, f"Bearer {answer.json()['access']}", refresh=answer.json()["refresh"])
        return multiple()

    @rule(name=NAMES)
    def guess(self, name: str) -> None:
        for path, due in (("/auth/token/login/", BAD_LOGIN), ("/auth/jwt/create/", NO_ACCOUNT)):
            self.answers(self.ask("POST", path, json={"username": name, "password": "a guess"}), due)

    def begins(self, user: User, header: str, *, refresh: str = "") -> Ticket:
        """Return the ticket of a new session."""
        self.model.begin(user, header, refresh=refresh)
        return Ticket(header, refresh)

    @rule(targets=(callers, families), held=families, seconds=PAUSES)
    def refresh_twice(self, held: Ticket, seconds: int) -> Tickets:
        self.refresh(held)
        self.time_passes(seconds)
        return self.refresh(held)

    @rule(targets=(callers, families), held=families)
    def refresh(self, held: Ticket) -> Tickets:
        due = self.model.refresh(held.refresh)
        answer = self.ask("POST", "/auth/jwt/refresh/", json={"refresh": held.refresh})
        if self.grants(answer, due) is None:
            return multiple()
        self.seen[f"refresh: {'repeated' if due else 'new'}"] += 1
        header, successor = f"JWT {answer.json()['access']}", answer.json()["refresh"]
        assert successor == due or (not due and successor not in self.model.refreshes)
        self.model.follow(held.refresh, successor, header)
        return Ticket(header, successor)

    @rule(held=families)
    def verify(self, held: Ticket) -> None:
        good = (self.model.is_unused(held.refresh), isinstance(self.model.caller(held.header), User))
        for token, is_good in zip((held.refresh, held.header.partition(" ")[2]), good, strict=True):
            self.answers(self.ask("POST", "/auth/jwt/verify/", json={"token": token}), {} if is_good else BAD_TOKEN)

    @rule(held=consumes(families))
    def log_out_with_a_refresh_token(self, held: Ticket) -> None:
        self.grants(self.ask("POST", "/auth/jwt/logout/", json={"refresh": held.refresh}), None)
        self.model.refreshes[held.refresh].session.is_over = True

    @rule(who=consumes(callers), everywhere=st.booleans())
    def log_out(self, who: Ticket, everywhere: bool) -> None:
        answer = self.ask("POST", "/auth/token/logout/", who, params={"all": everywhere})
        self.grants(answer, self.model.log_out(who.header, everywhere=everywhere))

    @rule(who=callers)
    def who_am_i(self, who: Ticket) -> None:
        user = self.model.caller(who.header)
        self.answers(self.ask("GET", "/auth/users/me/", who), user.own() if isinstance(user, User) else user)

    @rule(target=codes, who=callers, days=DAYS, replace=st.booleans())
    def mint_a_code_for_days(self, who: Ticket, days: int, replace: bool) -> str | MultipleResults[str]:
        last_day, ends = self.model.end_of_day(days)
        return self.mint(who, {"expiration_date": last_day.isoformat()}, ends, replace=replace)

    @rule(target=codes, who=callers, life=LIVES, replace=st.booleans())
    def mint_a_code_for_seconds(self, who: Ticket, life: timedelta, replace: bool) -> str | MultipleResults[str]:
        instant, ends = self.model.end_after(life)
        return self.mint(who, {"expires_at": instant.isoformat()}, ends, replace=replace)

    def mint(
        self, who: Ticket, body: dict[str, str], ends: datetime | Refusal, *, replace: bool
    ) -> str | MultipleResults[str]:
        """Mint a code that is to end then."""
        answer = self.ask("POST", "/api/referral_codes/create/", who, params={"replace": replace}, json=body)
        code = self.grants(answer, self.model.mint(who.header, ends, replace=replace))
        if code is None:
            return multiple()
        text: str = answer.json()["code"]
        assert text not in self.model.codes
        self.model.codes[text] = code
        assert answer.json() == to_builtins(self.model.shown(text))
        return text

    @rule(who=callers)
    def delete_a_code(self, who: Ticket) -> None:
        answer = self.ask("DELETE", "/api/referral_codes/delete/", who)
        self.grants(answer, self.model.delete_code(who.header))

    @rule(who=callers)
    def see_ones_own_code(self, who: Ticket) -> None:
        self.shows(self.ask("GET", "/api/referral_codes/", who), self.model.own_code(who.header))

    @rule(who=callers, name=NAMES, address=ADDRESSES)
    def look_up_by_email(self, who: Ticket, name: str, address: Spell) -> None:
        self.look_up(who, f"{name}@example.com", spelling=address)

    def look_up(self, who: Ticket, key: str, *, spelling: Spell = str) -> None:
        """Look up the code of whoever has this address."""
        answer = self.ask("GET", f"/api/referral_codes/get/{spelling(key)}/", who)
        self.shows(answer, self.model.look_up(who.header, key=key))

    def shows(self, answer: httpx.Response, due: str | Refusal) -> None:
        """Check that an answer shows this code."""
        self.answers(answer, self.model.shown(due) if isinstance(due, str) else due)

    @rule(code=codes, spelling=SPELLINGS)
    def check_a_code(self, code: str, spelling: Spell) -> None:
        is_live = self.model.state(code) == "live"
        due = {"valid": True, "expires_at": self.model.codes[code].expires_at} if is_live else {"valid": False}
        self.answers(self.ask("GET", f"/api/referral_codes/check/{spelling(code)}/"), due)

    @rule(code=UNKNOWN)
    def check_an_unknown_code(self, code: str) -> None:
        text = self.world.foreign_code if code == "another program's" else code
        self.answers(self.ask("GET", f"/api/referral_codes/check/{text}/"), {"valid": False})

    @rule(who=callers, number=NUMBERS, limit=st.sampled_from([1, 2, 100]))
    def list_referrals(self, who: Ticket, number: int, limit: int) -> None:
        user = self.user_id(number)
        due, found, url = self.model.brought(who.header, actor=user), [], httpx.URL(f"/api/users/{user}/?limit={limit}")
        while self.grants(answer := self.ask("GET", str(url), who), due) is not None:
            found += answer.json()
            if "next" not in answer.links:
                assert found == to_builtins(due)
                break
            assert len(answer.json()) == limit
            assert len(found) < len(due)
            url = url.join(answer.links["next"]["url"])

    @rule(who=callers, number=NUMBERS)
    def who_brought(self, who: Ticket, number: int) -> None:
        user = self.user_id(number)
        self.answers(self.ask("GET", f"/api/users/{user}/referrer/", who), self.model.referrer(who.header, of=user))

    @rule(who=consumes(callers))
    def leave(self, who: Ticket) -> None:
        answer = self.ask("DELETE", "/auth/users/me/", who, json={"current_password": PASSWORD})
        self.grants(answer, self.model.leave(who.header))

    @rule(who=callers)
    def leave_with_a_guess(self, who: Ticket) -> None:
        user = self.model.caller(who.header)
        answer = self.ask("DELETE", "/auth/users/me/", who, json={"current_password": "a guess"})
        self.answers(answer, user if isinstance(user, Refusal) else WRONG_PASSWORD)

    def teardown(self) -> None:
        """Try everything once more when the walk is over."""
        for number, code in enumerate(self.model.codes):
            self.sign_up_with_a_code(f"late{number}", f"late{number}", str, code, str)
        for header in self.model.proofs:
            self.who_am_i(Ticket(header))
        for number in range(len(self.model.users)):
            self.list_referrals(self.boss, number, 2)
            self.who_brought(self.boss, number)
        for code in self.model.codes:
            self.check_a_code(code, str.upper)
        for user in self.model.users.values():
            self.look_up(self.boss, user.key)
        query = "SELECT referee_id, referrer_id FROM referrals WHERE program_id = $1"
        found = {row["referee_id"]: row["referrer_id"] for row in self.world.fetch(query, self.program.id)}
        assert found == {user.id: user.referrer for user in self.model.users.values() if user.referrer}
        assert self.world.broken() == []


@pytest.fixture(scope="module")
def seen() -> Counter[str]:
    """What was answered on all walks of this process."""
    return Counter()


@pytest.mark.parametrize("number", range(ROUNDS))
def test_the_service_does_what_its_model_says(world: World, seen: Counter[str], number: int) -> None:
    if seen["begun"] > seen["ended"]:
        pytest.skip("it did not before, and to find the shortest way there takes minutes")
    seen["begun"] += 1
    walk = seed(1000 * FIRST_SEED + number)(lambda: Walk(world, seen))
    run_state_machine_as_test(walk, settings=SETTINGS)  # type: ignore[arg-type]  # whatever makes one will do
    seen["ended"] += 1


def test_the_walks_go_everywhere(seen: Counter[str]) -> None:
    if seen["ended"] < 20:
        pytest.skip("a few walks do not")
    assert {place: seen[place] for place in PLACES if seen[place] < 5} == {}
