"""Secrets and addresses, sent wherever they can be and to where things go wrong: nothing that is kept has them."""

import base64
from collections.abc import AsyncIterator, Iterator
from email import message_from_bytes, policy
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from invitree.kit.postgres.embedded import embedded_postgres
from tests.operations import BODIES
from tests.postbox import Link, link_in
from tests.process import Service, service
from tests.waiting import eventually

METRICS_TOKEN = "canary-of-the-metrics"
EMAIL, NEW_EMAIL, ALIAS = "canary@example.com", "canary-moved@example.com", "canary-moved+again@example.com"
PASSWORD, NEXT, THIRD = "canary horse battery staple", "canary staple battery horse", "canary battery horse staple"
WRONG, KEY, STRAY = "canary that was never right", "canary-of-a-key", "canary-gone-astray"
# What goes wrong in the database, and quotes the row that it goes wrong with.
REFUSE = """
    CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{}', DETAIL = NEW::text, HINT = NEW::text; END $$
"""
FAULTS = (
    "CREATE UNIQUE INDEX one_address_a_person ON users (program_id, email_identity)",
    REFUSE.format("P0001") + "; CREATE TRIGGER refuses BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION refuse()",
    REFUSE.format("22023"),
    "ALTER TABLE users RENAME COLUMN password_hash TO gone",
)


class Canaries:
    """A client that remembers what nobody may ever find."""

    def __init__(self, running: Service, folder: Path) -> None:
        self.client = httpx.AsyncClient(base_url=running.url, timeout=30)
        self.outbox, self.secrets = folder / "outbox", {PASSWORD, NEXT, THIRD, WRONG, KEY, STRAY, METRICS_TOKEN}
        self._read: set[Path] = set()
        self._keys, self._key = count(), ""

    async def post(self, path: str, expected: int, signed: str = "", again: bool = False, /, **body: str) -> Any:
        """Send a body under a key of its own, or `again` under the last one; remember every token in the answer."""
        self._key = self._key if again else f"{KEY}{next(self._keys)}"
        headers = {"Idempotency-Key": self._key} | ({"Authorization": signed} if signed else {})
        answer = await self.client.post(path, json=body, headers=headers)
        assert answer.status_code == expected, (path, answer.text)
        found: dict[str, Any] = answer.json() if answer.content else {}
        self.secrets |= {found[name] for name in ("auth_token", "refresh", "access") if name in found}
        return found

    async def link(self) -> Link:
        """Return the link in the next mail that has one."""
        links: list[Link] = []

        def has_come() -> bool:
            for path in sorted(set(self.outbox.glob("*.eml")) - self._read):
                self._read.add(path)
                letter: Any = message_from_bytes(path.read_bytes(), policy=policy.default)
                if "/account/#/" in str(letter):
                    links.append(link_in(letter))
            return bool(links)

        await eventually(has_come)
        self.secrets |= {links[0].token, links[0].token.partition(".")[2]}
        return links[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder."""
    folder = tmp_path_factory.mktemp("data")
    folder.chmod(0o711)
    return folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Service]:
    """A service with a database of its own, which logs every request."""
    environment = {
        "INVITREE_WORKERS": "1",
        "INVITREE_ACCESS_LOG": "true",
        "INVITREE_THROTTLE": "off",
        "INVITREE_METRICS_TOKEN": METRICS_TOKEN,
    }
    with service("--data-dir", str(folder), env=environment) as started:
        yield started


@pytest.fixture(scope="module")
async def db(running: Service, folder: Path) -> AsyncIterator[Any]:
    """A connection to its database, as superuser."""
    with embedded_postgres(folder) as url:
        connection = await asyncpg.connect(url.replace("://invitree@", "://postgres@"))
        yield connection
        await connection.close()


@pytest.fixture(scope="module")
async def canaries(running: Service, folder: Path) -> AsyncIterator[Canaries]:
    """Secrets."""
    made = Canaries(running, folder)
    yield made
    await made.client.aclose()


async def everything_goes_well(canaries: Canaries) -> None:
    """Go through the life of an account."""
    post, at = canaries.post, "/auth/users/{}/".format
    await post("/auth/users/", 201, email=EMAIL, username="canary", password=PASSWORD)
    for path in ("/auth/token/login/", "/auth/jwt/create/"):
        await post(path, 400 if "login" in path else 401, email=EMAIL, password=WRONG)
    token = f"Token {(await post('/auth/token/login/', 200, email=EMAIL, password=PASSWORD))['auth_token']}"
    pair = await post("/auth/jwt/create/", 200, email=EMAIL, password=PASSWORD)
    await post("/auth/jwt/verify/", 200, token=pair["access"])
    second = await post("/auth/jwt/refresh/", 200, refresh=pair["refresh"])
    await post("/auth/jwt/refresh/", 200, refresh=second["refresh"])
    await post("/auth/jwt/refresh/", 401, refresh=pair["refresh"])  # stolen, for all that anybody knows
    await post("/auth/jwt/verify/", 401, token=pair["access"])
    await post("/auth/jwt/logout/", 204, refresh=second["refresh"])
    await post(at("set_password"), 400, token, current_password=WRONG, new_password=NEXT)
    await post(at("set_password"), 204, token, current_password=PASSWORD, new_password=NEXT)
    await post(at("set_username"), 204, token, current_password=NEXT, new_username="canary2")
    await post(at("set_email"), 204, token, current_password=NEXT, new_email=NEW_EMAIL)
    await post(at("set_email_confirm"), 204, **(await canaries.link()).body)
    await post(at("reset_username"), 204, email=NEW_EMAIL)
    await post(at("reset_username_confirm"), 204, **(await canaries.link()).body, new_username="canary3")
    await post(at("reset_password"), 204, email=NEW_EMAIL)
    reset = (await canaries.link()).body
    await post(at("reset_password_confirm"), 400, **reset, new_password=NEXT, re_new_password=WRONG)
    await post(at("reset_password_confirm"), 204, **reset, new_password=THIRD)
    await post(at("reset_password_confirm"), 422, "", True, **reset, new_password=NEXT)


async def everything_is_in_the_wrong_place(canaries: Canaries) -> None:
    """Send secrets where they do not belong: in broken bodies, queries, paths, headers and as names."""
    client, stray = canaries.client, STRAY
    login = await canaries.post("/auth/token/login/", 200, email=NEW_EMAIL, password=THIRD)
    json = {"Content-Type": "application/json", "Authorization": f"Token {login['auth_token']}"}
    bodies = (f'{{"password":"{stray}', f'{{"{stray}":1}}', f'"{stray}"', f'{{"email":{{"{stray}":1}}}}')
    for route in BODIES:
        path = route.path.replace("{id}", "1")
        for body in bodies:
            await client.request(route.method, path, content=body, headers=json)
        await client.request(route.method, path, content=f"password={stray}")
        await client.request(route.method, f"{path}?password={stray}&token={quote(PASSWORD)}", json={"token": stray})
    for path in (f"/{stray}", f"/auth/users/activation/MQ/{stray}/", f"/api/referral_codes/get/{EMAIL}/",
                 f"/api/referral_codes/check/{stray}/", f"/api/users/{stray}/", f"/account/{stray}"):  # fmt: skip
        for headers in ({}, {"Authorization": f"Token {stray}"}, {"Authorization": f"Bearer {stray}.{stray}.{stray}"},
                        {"Authorization": f"Basic {stray}"}, {"X-Program": stray}, {"Cookie": f"session={stray}"},
                        {"Authorization": f"{stray} x"}, {"Idempotency-Key": stray * 20}, {"Host": stray}):  # fmt: skip
            for method in ("GET", "POST", stray.upper()):
                await client.request(method, path, headers=headers)


async def everything_goes_wrong(canaries: Canaries, db: Any, running: Service) -> None:
    """Come while the database refuses what it should take, while letters cannot be written, and while it is away."""
    post, client = canaries.post, canaries.client
    canaries.outbox.rename(canaries.outbox.with_name("full"))
    canaries.outbox.write_text("")
    await client.post("/auth/users/reset_password/", json={"email": NEW_EMAIL})
    await eventually(lambda: "cannot write into" in running.output)
    for fault in FAULTS:
        await db.execute(fault)
        await post("/auth/users/", 500, email=ALIAS, username="another", password=PASSWORD)
    await post("/auth/token/login/", 500, email=NEW_EMAIL, password=THIRD)
    name = await db.fetchval("SELECT current_database()")
    await db.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    await db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'invitree'")
    await post("/auth/token/login/", 503, email=NEW_EMAIL, password=THIRD)
    await post("/auth/users/", 503, email=ALIAS, username="another", password=PASSWORD)


def spellings(secret: str) -> set[str]:
    """Return how a secret may look where it is kept."""
    encoded = secret.encode()
    return {secret, quote(secret), secret.replace(" ", "+"), encoded.hex(), base64.b64encode(encoded).decode()[:-4]}


def found_in(text: str, secrets: set[str]) -> list[str]:
    """Return what of these is in a text."""
    return [secret for secret in secrets if any(one.lower() in text.lower() for one in spellings(secret))]


async def test_no_stored_data_or_log_holds_a_secret(
    running: Service, folder: Path, canaries: Canaries, db: Any
) -> None:
    await everything_goes_well(canaries)
    await everything_is_in_the_wrong_place(canaries)
    tables = await db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [row for (table,) in tables for (row,) in await db.fetch(f"SELECT t::text FROM {table} t")]
    metrics = await canaries.client.get("/metrics", headers={"Authorization": f"Bearer {METRICS_TOKEN}"})
    await everything_goes_wrong(canaries, db, running)
    assert running.stop() == 0

    postgres = (folder / "postgres.log").read_text(encoding="utf-8")
    logged = running.output
    # It was all there to be told.
    assert "one_address_a_person" in logged
    assert "one_address_a_person" in postgres
    assert logged.count('"event": "request.failed"') == 5
    assert "refresh_token.reused" in logged
    assert "database.unavailable" in logged
    assert "/auth/users/reset_password_confirm" in metrics.text
    assert found_in("\n".join(rows), canaries.secrets) == []
    assert found_in(logged + postgres + metrics.text, canaries.secrets | {EMAIL, NEW_EMAIL, ALIAS}) == []
