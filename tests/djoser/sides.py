"""The two services that are asked the same, each with people of the same names."""

import re
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import OctKey

from invitree.identity.auth.rules import access_claims
from invitree.identity.programs.store import find_program_by_slug
from tests.cast import PASSWORD, Cast, Person
from tests.djoser.requests import Request
from tests.djoser.site import SECRET
from tests.postbox import Postbox, link_in

CONFIRMING = "confirming"  # the program that asks for confirmed addresses


class Side(ABC):
    """One of the two during one case: the person whom the case is about, and how to fill in a request for them."""

    def __init__(self, http: httpx.AsyncClient, *, name: str, is_staff: bool, is_active: bool) -> None:
        self.http, self.name = http, name
        self.is_staff, self.is_active = is_staff, is_active
        self._known: dict[str, str] = {"name": name, "password": PASSWORD}

    async def ask(self, request: Request) -> httpx.Response:
        """Send a request, filled in."""
        values = {name: await self._value(name) for name in request.names()}
        filled = request.filled(values)
        return await self.http.send(self.http.build_request(filled.method, filled.path, **filled.sent(self.extra())))

    async def _value(self, name: str) -> str:
        """Return what stands for `{name}` in a request, made when it is first asked for."""
        if name not in self._known:
            if name in ("uid", "link"):
                self._known["uid"], self._known["link"] = await self.mail_link()
            else:
                maker = {"access": self.pair, "refresh": self.pair, "expired": self.expired}
                person = self.other if name.startswith("other_") else self.person
                self._known |= await maker.get(name, person)()
        return self._known[name]

    def extra(self) -> Mapping[str, str]:
        """Return headers that every request has."""
        return {}

    @abstractmethod
    async def person(self) -> dict[str, str]:
        """Make the person; return `email`, `username`, `id` and `token`."""

    @abstractmethod
    async def other(self) -> dict[str, str]:
        """Make somebody else; return `other_id`, `other_email` and `other_username`."""

    @abstractmethod
    async def pair(self) -> dict[str, str]:
        """Log the person in; return `access` and `refresh`."""

    @abstractmethod
    async def expired(self) -> dict[str, str]:
        """Return an `expired` access token of the person."""

    @abstractmethod
    async def mail_link(self) -> tuple[str, str]:
        """Return the uid and the token of the link in the last mail."""


class Djoser(Side):
    """Django with djoser."""

    def __init__(self, site: "Site", http: httpx.AsyncClient, **about: Any) -> None:
        super().__init__(http, **about)
        self._site = site

    async def person(self) -> dict[str, str]:
        made = await self._sign_up(f"me-{self.name}")
        login = await self._post("token/login", self._login(made))
        table = "people_user" if self._site.kind == "email" else "auth_user"
        with sqlite3.connect(self._site.folder / "db.sqlite3") as db:
            change = f"UPDATE {table} SET is_staff = ?, is_active = ? WHERE id = ?"
            db.execute(change, (self.is_staff, self.is_active, made["id"]))
        db.close()
        return {**made, "token": login["auth_token"]}

    async def other(self) -> dict[str, str]:
        return {f"other_{key}": value for key, value in (await self._sign_up(f"other-{self.name}")).items()}

    async def pair(self) -> dict[str, str]:
        await self._value("id")
        pair: dict[str, str] = await self._post("jwt/create", self._login(self._known))
        return pair

    async def expired(self) -> dict[str, str]:
        claims = {"token_type": "access", "exp": 1_700_000_000, "jti": "a" * 32, "user_id": await self._value("id")}
        return {"expired": jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(SECRET))}

    async def mail_link(self) -> tuple[str, str]:
        [*_, last] = sorted((self._site.folder / "mail").iterdir(), key=lambda path: path.stat().st_mtime_ns)
        match = re.search(r"/#/[a-z/]+/([\w-]+)/([\w-]+)", last.read_text())
        assert match is not None
        return match[1], match[2]

    async def _sign_up(self, name: str) -> dict[str, str]:
        body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        made = await self._post("users", body)
        with sqlite3.connect(self._site.folder / "db.sqlite3") as db:
            table = "people_user" if self._site.kind == "email" else "auth_user"
            db.execute(f"UPDATE {table} SET is_active = 1 WHERE id = ?", (made["id"],))
        db.close()
        return {key: str(value) for key, value in made.items()}

    def _login(self, made: Mapping[str, str]) -> dict[str, str]:
        field = "email" if self._site.kind == "email" else "username"
        return {field: made[field], "password": PASSWORD}

    async def _post(self, path: str, body: Mapping[str, str]) -> Any:
        answer = await self.http.post(f"/auth/{path}/", json=body)
        assert answer.status_code < 300, answer.text
        return answer.json()


class Invitree(Side):
    """Invitree."""

    def __init__(self, http: httpx.AsyncClient, cast: Cast, postbox: Postbox, *, kind: str, **about: Any) -> None:
        super().__init__(http, **about)
        self._cast, self._postbox, self._slug = cast, postbox, CONFIRMING if kind == "activation" else "default"
        self._made: Person | None = None

    def extra(self) -> Mapping[str, str]:
        return {} if self._slug == "default" else {"X-Program": self._slug}

    async def person(self) -> dict[str, str]:
        made = self._made = await self._member(f"me-{self.name}")
        if not self.is_active:
            await self._cast.deactivate(made)
        return {"id": str(made.id), "email": made.email, "username": made.username, "token": made.token}

    async def other(self) -> dict[str, str]:
        made = await self._member(f"other-{self.name}")
        return {"other_id": str(made.id), "other_email": made.email, "other_username": made.username}

    async def pair(self) -> dict[str, str]:
        await self._value("id")
        assert self._made is not None
        made = await self._cast.pair(self._made)
        return {"access": made.access, "refresh": made.refresh}

    async def expired(self) -> dict[str, str]:
        await self._value("id")
        assert self._made is not None
        return {"expired": expired_token(self._cast, self._made)}

    async def mail_link(self) -> tuple[str, str]:
        [*_, last] = await self._postbox.collect()
        link = link_in(last)
        return link.uid, link.token

    async def _member(self, name: str) -> Person:
        db = self._cast.ctx.db
        program = await find_program_by_slug(db, slug=self._slug)
        staff = self.is_staff and name.startswith("me-")
        return await self._cast.member(program=program, email=f"{name}@example.com", username=name, staff=staff)


def expired_token(cast: Cast, person: Person) -> str:
    """Return an access token of a person, rightly signed, that has expired."""
    an_hour_ago = cast.ctx.clock.now() - timedelta(hours=1)
    claims = access_claims(program_id=person.program_id, user_id=person.id, session_id=1, nonce="n", now=an_hour_ago)
    return cast.ctx.keys.sign(claims)


class Site:
    """A running Django service with a folder of its own."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        (folder / "mail").mkdir(parents=True)
        command = [sys.executable, "-m", "tests.djoser.site", str(folder), kind]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def url(self) -> str:
        """Return where it is, as soon as it says so."""
        assert self.process.stdout is not None
        return f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def sites(folder: Path, kinds: tuple[str, ...]) -> Iterator[Mapping[str, Site]]:
    """Run a Django service of each kind."""
    running: dict[str, Site] = {}
    try:
        for kind in kinds:
            running[kind] = Site(folder / kind, kind)
        yield running
    finally:
        for site in running.values():
            site.stop()
