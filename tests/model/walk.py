"""Asking the service, and holding its answers against what the model says."""

from collections import Counter
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

import httpx
from hypothesis.stateful import RuleBasedStateMachine
from msgspec import to_builtins

from tests.cast import refused
from tests.model.conftest import BEGINNING, World
from tests.model.model import Model, Refusal, User

T = TypeVar("T")


class Ticket(NamedTuple):
    """What a login gave: what proves who somebody is, and a refresh token."""

    header: str
    refresh: str = ""


class Walker(RuleBasedStateMachine):
    """Somebody who asks the service of a new program, which has one of staff; `seen` counts what is answered."""

    def __init__(self, world: World, seen: Counter[str]) -> None:
        super().__init__()
        self.world, self.seen = world, seen
        self.program = self.world.new_program()
        self.model = Model(now=BEGINNING, zone=self.program.zone)
        self.wait_until(BEGINNING)
        person = self.world.new_staff(self.program)
        staff = User(person.id, person.email, person.email, person.username, BEGINNING, is_staff=True)
        self.model.users[person.id] = staff
        self.boss = Ticket(f"Token {person.token}")
        self.model.begin(staff, self.boss.header)

    def user_id(self, number: int) -> int:
        """Return the id of one who ever signed up, or of nobody."""
        ids = list(self.model.users)
        return ids[number] if number < len(ids) else 2**40

    def wait_until(self, time: datetime) -> None:
        """Let time pass, if that is in the future."""
        self.model.now = max(self.model.now, time)
        self.world.set_time(self.model.now)

    def ask(self, method: str, path: str, who: Ticket | None = None, **sent: Any) -> httpx.Response:
        """Return the answer to a request to this program, of somebody or of nobody."""
        headers = {"Host": str(self.program.host)} | ({"Authorization": who.header} if who else {})
        return self.world.ask(method, path, headers=headers, **sent)

    def grants(self, answer: httpx.Response, due: T | Refusal) -> T | None:
        """Check that an answer is the refusal that is due, and return None; or is none, and return what is due."""
        asked = "/".join(part for part in answer.request.url.path.split("/")[:4] if not part.isdecimal())
        told = [due.code, *due.fields] if isinstance(due, Refusal) else ["done"]
        self.seen[f"{answer.request.method} {asked.rstrip('/')}: {' '.join(told)}"] += 1
        if isinstance(due, Refusal):
            refused(answer, due.status, due.code, **due.fields)
            return None
        assert answer.is_success, answer.text
        return due

    def answers(self, answer: httpx.Response, due: Any) -> None:
        """Check that an answer is the refusal that is due, or has the content that is."""
        if self.grants(answer, due) is not None:
            assert answer.json() == to_builtins(due)
