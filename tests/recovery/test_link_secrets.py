"""Links in mails: where they lead, and that nothing but the mail itself holds what opens an account."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from structlog.testing import capture_logs

from invitree.app import create_app, open_resources
from invitree.base.settings import Settings
from invitree.identity.email.jobs import send_mail
from invitree.identity.email.rules import decode_uid, encode_uid
from invitree.kit.context import AppContext
from invitree.kit.web.edge import Edge
from tests.cast import PASSWORD, Cast, Person
from tests.conftest import SECRET
from tests.postbox import Link, Postbox, link_in, text_of
from tests.steps import ANOTHER, at, done

pytestmark = pytest.mark.usefixtures("activation_required", "empty_postbox")
BASE = "http://127.0.0.1:8000/account/#/"
# (route by which it is asked for, route by which it is followed, what else that takes)
KINDS = {
    "resend_activation": ("activation", ""),
    "reset_password": ("reset_password_confirm", "new_password"),
    "reset_username": ("reset_username_confirm", "new_username"),
    "set_email": ("set_email_confirm", ""),
}
EVIL = "evil.example"


async def ask(client: httpx.AsyncClient, person: Person, route: str, headers: Mapping[str, str] | None = None) -> None:
    """Have one link sent."""
    body = {"email": person.email}
    if route == "set_email":
        body = {"new_email": f"new-{person.email}", "current_password": PASSWORD}
    done(await client.post(at(route), json=body, headers={**person.headers, **(headers or {})}))


async def follow(client: httpx.AsyncClient, route: str, link: Link) -> httpx.Response:
    followed, field = KINDS[route]
    more = {"new_password": ANOTHER, "new_username": f"renamed-{link.uid}"}
    return await client.post(at(followed), json={**link.body, **({field: more[field]} if field else {})})


@asynccontextmanager
async def another(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, Postbox, AppContext]]:
    """Run the application with other settings on the same database."""
    async with open_resources(settings) as opened:
        app = create_app(settings)
        app.state["context"] = opened
        transport = httpx.ASGITransport(app=Edge(app, access_log=False))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://invitree.test", timeout=30) as client:
            yield client, Postbox(opened), opened


class TestWhereTheyLead:
    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": EVIL},
            {"Host": f"{EVIL}:8000"},
            {"Host": f"127.0.0.1:8000@{EVIL}"},
            {"X-Forwarded-Host": EVIL},
            {"X-Forwarded-Host": f"127.0.0.1, {EVIL}"},
            {"X-Forwarded-Server": EVIL},
            {"X-Host": EVIL},
            {"X-Original-Host": EVIL, "X-Original-URL": f"https://{EVIL}/"},
            {"X-Forwarded-Proto": "https", "X-Forwarded-Port": "666", "X-Forwarded-Prefix": f"/{EVIL}"},
            {"Forwarded": f"for=1.2.3.4;host={EVIL};proto=https"},
            {"Origin": f"https://{EVIL}", "Referer": f"https://{EVIL}/"},
            {"Host": "", "X-Forwarded-Host": EVIL},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("route", KINDS)
    async def test_no_header_moves_a_link(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox, route: str, headers: dict[str, str]
    ) -> None:
        alice = await cast.member()
        await ask(client, alice, route, headers)
        [letter] = await postbox.collect()
        assert text_of(letter).count("http") == 1
        assert f"\n{BASE}" in text_of(letter)
        assert EVIL.encode() not in bytes(letter)
        done(await follow(client, route, link_in(letter)))

    async def test_an_absolute_request_target_does_not_move_it(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        await ask(client, alice, "reset_password")
        [usual] = await postbox.collect()
        transport = client._transport
        assert isinstance(transport, httpx.ASGITransport)
        sent: list[int] = []

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b'{"email":"%s"}' % alice.email.encode(), "more_body": False}

        async def send(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                assert isinstance(message["status"], int)
                sent.append(message["status"])

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "https",
            "path": at("reset_password"), "raw_path": f"https://{EVIL}{at('reset_password')}".encode(),
            "root_path": "", "query_string": b"", "server": (EVIL, 443), "client": ("127.0.0.1", 1),
            "headers": [(b"host", EVIL.encode()), (b"content-type", b"application/json")],
        }  # fmt: skip
        await transport.app(scope, receive, send)  # type: ignore[arg-type]
        assert sent == [204]
        [letter] = await postbox.collect()
        assert EVIL.encode() not in bytes(letter)
        assert text_of(letter).replace(link_in(letter).token, "") == text_of(usual).replace(link_in(usual).token, "")

    @pytest.mark.parametrize(
        ("public_url", "base", "site"),
        [
            ("https://invite.example.com", "https://invite.example.com", "invite.example.com"),
            ("https://invite.example.com/", "https://invite.example.com", "invite.example.com"),
            ("https://example.com/invitree/app", "https://example.com/invitree/app", "example.com"),
            ("https://example.com:8443/app/", "https://example.com:8443/app", "example.com"),
            ("http://[::1]:8000", "http://[::1]:8000", "::1"),
        ],
    )
    async def test_links_start_with_the_public_url(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, public_url: str, base: str, site: str
    ) -> None:
        alice = await cast.member()
        elsewhere = Postbox(structs.replace(ctx, settings=structs.replace(ctx.settings, public_url=public_url)))
        for route in KINDS:
            await ask(client, alice, route, {"Host": EVIL})
            [letter] = await elsewhere.collect()
            assert f"\n{base}/account/#/{link_in(letter).task}/" in text_of(letter)
            assert site in letter["subject"]


class TestWhatIsKept:
    @pytest.mark.parametrize("route", KINDS)
    async def test_neither_the_queue_nor_any_table_nor_the_log_holds_a_token(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, route: str
    ) -> None:
        alice = await cast.member()
        with capture_logs() as logs:
            await ask(client, alice, route)
            waiting = await dump(ctx)
            assert b"nonce" in bytes.fromhex("".join(part for part in hexadecimals(waiting)))
            [letter] = await postbox.collect()
            sent, link = await dump(ctx), link_in(letter)
            done(await follow(client, route, link))
        secret = link.token.partition(".")[2]
        assert len(secret) == 43  # 256 bits
        for text in (waiting, sent, await dump(ctx), str(logs)):
            for form in (secret, secret.encode().hex()):
                assert form not in text

    async def test_two_links_have_nothing_in_common(
        self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        for _ in range(20):
            await ask(client, alice, "reset_password")
        secrets = [link_in(letter).token.partition(".")[2] for letter in await postbox.collect()]
        assert len({secret[:8] for secret in secrets}) == len(secrets) == 20

    @pytest.mark.parametrize("route", KINDS)
    async def test_a_letter_that_is_sent_twice_has_one_link(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, route: str
    ) -> None:
        alice = await cast.member()
        await ask(client, alice, route)
        job = await ctx.db.fetchrow("SELECT id, payload FROM pgqueuer")
        await send_mail(ctx, job["payload"], job["id"])
        first, second = await postbox.collect()
        assert link_in(first) == link_in(second)
        assert first["message-id"] == second["message-id"]
        done(await follow(client, route, link_in(second)))
        await postbox.collect()
        await send_mail(ctx, job["payload"], job["id"])  # by a worker that was away
        assert await postbox.collect() == []

    async def test_a_letter_sent_by_two_workers_at_once_has_one_link(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        await ask(client, alice, "reset_password")
        job = await ctx.db.fetchrow("DELETE FROM pgqueuer RETURNING id, payload")
        sendings = [send_mail(ctx, job["payload"], job["id"]) for _ in range(4)]
        await asyncio.gather(*sendings, return_exceptions=True)  # one that loses the race is tried again
        links = {link_in(letter) for letter in await postbox.collect()}
        assert len(links) == 1
        done(await follow(client, "reset_password", links.pop()))

    async def test_the_outbox_is_for_its_owner_alone(
        self, client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox
    ) -> None:
        await ask(client, await cast.member(), "reset_password")
        job = await ctx.db.fetchrow("DELETE FROM pgqueuer RETURNING id, payload")
        await send_mail(ctx, job["payload"], job["id"])
        outbox = Path(ctx.settings.data_dir) / "outbox"
        assert outbox.stat().st_mode & 0o777 == 0o700
        assert [path.stat().st_mode & 0o777 for path in outbox.iterdir()] == [0o600]


class TestAnotherSecret:
    NEW = "n3w-5ecre7-of-the-te5t-suite-and-long-enough"

    @pytest.mark.parametrize("route", KINDS)
    async def test_a_letter_asked_for_before_is_sent_after_with_a_link_that_works(
        self, client: httpx.AsyncClient, cast: Cast, settings: Settings, route: str
    ) -> None:
        alice = await cast.member()
        await ask(client, alice, route)
        async with another(structs.replace(settings, secret_key=f"{self.NEW},{SECRET}")) as (later, mail, _):
            [letter] = await mail.collect()
            done(await follow(later, route, link_in(letter)))

    @pytest.mark.parametrize("route", KINDS)
    async def test_a_link_sent_before_works_after(
        self, client: httpx.AsyncClient, cast: Cast, settings: Settings, postbox: Postbox, route: str
    ) -> None:
        alice = await cast.member()
        await ask(client, alice, route)
        [letter] = await postbox.collect()
        async with another(structs.replace(settings, secret_key=f"{self.NEW},{SECRET}")) as (later, _, _):
            done(await follow(later, route, link_in(letter)))

    @pytest.mark.parametrize("route", KINDS)
    async def test_a_letter_sent_before_and_again_after_has_one_link(
        self, client: httpx.AsyncClient, cast: Cast, settings: Settings, ctx: AppContext, postbox: Postbox, route: str
    ) -> None:
        alice = await cast.member()
        await ask(client, alice, route)
        job = await ctx.db.fetchrow("SELECT id, payload FROM pgqueuer")
        [first] = await postbox.collect()
        async with another(structs.replace(settings, secret_key=f"{self.NEW},{SECRET}")) as (later, mail, opened):
            await send_mail(opened, job["payload"], job["id"])
            [second] = await mail.collect()
            assert link_in(first) == link_in(second)
            done(await follow(later, route, link_in(first)))

    async def test_without_the_old_secret_nothing_from_before_works(
        self, client: httpx.AsyncClient, cast: Cast, settings: Settings, postbox: Postbox
    ) -> None:
        alice = await cast.member()
        await ask(client, alice, "set_email")
        [letter] = await postbox.collect()
        await ask(client, alice, "set_email")  # still waiting
        async with another(structs.replace(settings, secret_key=self.NEW)) as (later, mail, _):
            assert await mail.collect() == []
            assert (await follow(later, "set_email", link_in(letter))).status_code == 400


class TestUid:
    @given(st.integers(1, 10**18 - 1))
    def test_every_id_is_read_as_it_was_written(self, user_id: int) -> None:
        assert decode_uid(encode_uid(user_id)) == user_id

    @given(st.text(max_size=250) | st.from_regex(r"\A[A-Za-z0-9_=-]{0,40}\Z"))
    def test_any_text_is_an_id_in_its_one_spelling_or_none(self, text: str) -> None:
        found = decode_uid(text)
        assert found is None or (found > 0 and encode_uid(found) == text)

    @given(st.binary(max_size=30))
    def test_whatever_base64_holds_is_an_id_or_none(self, raw: bytes) -> None:
        found = decode_uid(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())
        assert found is None or str(found).encode() == raw

    @pytest.mark.parametrize(
        ("uid", "user_id"),
        [
            ("NDI", 42),  # as djoser's documentation has it
            ("MQ", 1),
            ("OTk5OTk5OTk5OTk5OTk5OTk5", 10**18 - 1),
            ("MA", None),
            ("MDE", None),
            ("LTE", None),
            ("KzE", None),
            ("IDE", None),
            ("MQo", None),
            ("MV8w", None),
            ("MQ==", 1),
            (" MQ\n", 1),
            ("MR", None),
            ("", None),
            ("M", None),
            ("MTAwMDAwMDAwMDAwMDAwMDAwMA", None),
            ("2aE", None),
            ("\uff2d\uff31", None),
            ("MQ\u200b", None),
        ],
    )  # fmt: skip
    def test_uid_decodes_to_one_id(self, uid: str, user_id: int | None) -> None:
        assert decode_uid(uid) == user_id


async def dump(ctx: AppContext) -> str:
    """Return every row of every table as text."""
    tables = await ctx.db.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [row for (table,) in tables for (row,) in await ctx.db.fetch(f"SELECT t::text FROM {table} t")]
    return "\n".join(rows)


def hexadecimals(text: str) -> list[str]:
    """Return what the columns of bytes in a dump hold."""
    return [part.partition('"')[0].partition(",")[0].partition(")")[0] for part in text.split("\\\\x")[1:]]
