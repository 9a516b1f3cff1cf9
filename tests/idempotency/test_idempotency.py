"""A request that its client has named is done once, and answered alike."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from itertools import count
from typing import Any, NamedTuple

import httpx
import pytest
from msgspec import structs

from invitree.app import open_resources
from invitree.identity.audit.store import OPERATOR
from invitree.identity.idempotency import store
from invitree.intake.closure.actions import delete_account
from invitree.kit.context import AppContext
from invitree.run.worker import purge_expired
from tests.cast import PASSWORD, Cast, in_days, refused
from tests.conftest import client_for
from tests.postbox import Postbox
from tests.steps import (
    ANOTHER,
    at,
    change_link,
    default_program,
    link_for,
    require_activation,
    sign_up,
    traces,
)
from tests.structure.test_openapi import operations

_names = count(1)
KEY = "8e03978e-40d5-43dd-bc93-6894a57f9324"
SIGN_UP, CODES = "/auth/users/", "/api/referral_codes/"
# They hand out secrets, or are safe to repeat as they are.
WITHOUT = {"/auth/token/login", "/auth/token/logout", "/auth/jwt/create", "/auth/jwt/refresh", "/auth/jwt/verify"}
WITHOUT |= {"/auth/jwt/logout"}


class Asked(NamedTuple):
    """A request that succeeds, once."""

    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str] = {}


class Scene:
    """What is needed for a request to succeed, made anew for each."""

    def __init__(self, client: httpx.AsyncClient, cast: Cast, postbox: Postbox, ctx: AppContext) -> None:
        self.client, self.cast, self.postbox, self.ctx = client, cast, postbox, ctx

    async def sign_up(self) -> Asked:
        return Asked(SIGN_UP, newcomer())

    async def sign_up_with_a_code(self) -> Asked:
        code = await self.cast.code(await self.cast.member())
        return Asked(SIGN_UP, {**newcomer(), "referral_code": code})

    async def create(self) -> Asked:
        alice = await self.cast.member()
        return Asked(f"{CODES}create/", {"expiration_date": in_days(5)}, alice.headers)

    async def replace(self) -> Asked:
        alice = await self.cast.member()
        await self.cast.code(alice)
        return Asked(f"{CODES}?replace=true", {"expires_at": f"{in_days(5)}T00:00:00Z"}, alice.headers)

    async def activation(self) -> Asked:
        ann = await self._unconfirmed()
        return Asked(at("activation"), (await link_for(self.client, self.postbox, ann, "resend_activation")).body)

    async def resend_activation(self) -> Asked:
        return Asked(at("resend_activation"), {"email": (await self._unconfirmed()).email})

    async def _unconfirmed(self) -> Any:
        await require_activation(self.ctx)
        ann = await sign_up(self.client)
        await self.postbox.collect()
        return ann

    async def set_password(self) -> Asked:
        body = {"current_password": PASSWORD, "new_password": ANOTHER}
        return Asked(at("set_password"), body, (await self.cast.member()).headers)

    async def reset_password(self) -> Asked:
        return Asked(at("reset_password"), {"email": (await self.cast.member()).email})

    async def reset_password_confirm(self) -> Asked:
        link = await link_for(self.client, self.postbox, await self.cast.member(), "reset_password")
        return Asked(at("reset_password_confirm"), {**link.body, "new_password": ANOTHER})

    async def set_username(self) -> Asked:
        ann = await self.cast.member()
        return Asked(
            at("set_username"), {"current_password": PASSWORD, "new_username": f"new{ann.username}"}, ann.headers
        )

    async def reset_username(self) -> Asked:
        return Asked(at("reset_username"), {"email": (await self.cast.member()).email})

    async def reset_username_confirm(self) -> Asked:
        ann = await self.cast.member()
        link = await link_for(self.client, self.postbox, ann, "reset_username")
        return Asked(at("reset_username_confirm"), {**link.body, "new_username": f"other{ann.username}"})

    async def set_email(self) -> Asked:
        ann = await self.cast.member()
        body = {"current_password": PASSWORD, "new_email": f"moving-{ann.email}"}
        return Asked(at("set_email"), body, ann.headers)

    async def set_email_confirm(self) -> Asked:
        ann = await self.cast.member()
        return Asked(
            at("set_email_confirm"), (await change_link(self.client, self.postbox, ann, f"moved-{ann.email}")).body
        )


SCENES: list[Callable[[Scene], Awaitable[Asked]]] = [
    made for name, made in vars(Scene).items() if not name.startswith("_")
]


def newcomer() -> dict[str, str]:
    """Return the body of a sign-up."""
    name = f"named{next(_names)}"
    return {"email": f"{name}@example.com", "username": name, "password": PASSWORD}


def told(answer: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Return what is answered, but for the request's own name."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, answer.content, headers


@pytest.fixture
async def scene(client: httpx.AsyncClient, cast: Cast, postbox: Postbox, ctx: AppContext) -> AsyncIterator[Scene]:
    """A stage, which is swept afterwards."""
    await postbox.collect()
    yield Scene(client, cast, postbox, ctx)
    await ctx.db.execute("DELETE FROM idempotency_keys")
    await ctx.db.execute("UPDATE programs SET activation = 'off'")
    ctx.caches["programs"].clear()


async def post(client: httpx.AsyncClient, asked: Asked, key: str = KEY, **more: str) -> httpx.Response:
    """Send a request under a key."""
    return await client.post(asked.path, json=asked.body, headers={**asked.headers, "Idempotency-Key": key, **more})


@pytest.mark.parametrize("make", SCENES, ids=lambda one: one.__name__)
async def test_a_request_is_done_once_and_answered_alike(
    client: httpx.AsyncClient, cast: Cast, scene: Scene, make: Callable[[Scene], Awaitable[Asked]]
) -> None:
    asked = await make(scene)
    first = await post(client, asked)
    assert first.status_code in (201, 204), first.text
    there = await cast.contents()
    for _ in range(2):
        assert told(await post(client, asked)) == told(first)
    assert await cast.contents() == there


@pytest.mark.parametrize("make", SCENES, ids=lambda one: one.__name__)
async def test_a_key_makes_no_difference_to_the_first_answer(
    client: httpx.AsyncClient, scene: Scene, make: Callable[[Scene], Awaitable[Asked]]
) -> None:
    plain = await make(scene)
    without = await client.post(plain.path, json=plain.body, headers=dict(plain.headers))
    answer = await post(client, await make(scene))
    assert (without.status_code, list(without.headers)) == (answer.status_code, list(answer.headers))
    assert without.headers.get("content-type") == answer.headers.get("content-type")
    assert [*(without.json() if without.content else ())] == [*(answer.json() if answer.content else ())]


def test_every_post_that_writes_takes_a_key_and_says_what_comes_of_it() -> None:
    takes = set()
    for method, path, operation in operations():
        named = [one for one in operation.get("parameters", ()) if one["name"] == "Idempotency-Key"]
        if named:
            assert method == "POST"
            assert (named[0]["in"], named[0]["required"]) == ("header", False)
            assert {"409", "422"} <= set(operation["responses"])
            takes.add(path)
    assert takes == {path for method, path, _ in operations() if method == "POST"} - WITHOUT


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_bad_key_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, cast: Cast, scene: Scene, key: str
) -> None:
    asked, there = await scene.create(), await cast.contents()
    refused(await post(client, asked, key), 400, "invalid_input", idempotency_key=["This value is not allowed here."])
    assert await cast.contents() == there


async def test_another_request_under_the_same_key_is_refused_and_changes_nothing(
    client: httpx.AsyncClient, cast: Cast, scene: Scene
) -> None:
    asked = await scene.replace()
    assert (await post(client, asked)).status_code == 201
    there = await cast.contents()
    for other in (
        asked._replace(body={"expires_at": f"{in_days(6)}T00:00:00Z"}),
        asked._replace(path=CODES),
        asked._replace(path=f"{CODES}create/?replace=true"),
        asked._replace(path=at("set_username"), body={"current_password": PASSWORD, "new_username": "other"}),
    ):
        refused(await post(client, other), 422, "idempotency_key_reused")
    assert await cast.contents() == there


async def test_a_key_is_its_callers_own(client: httpx.AsyncClient, cast: Cast, scene: Scene) -> None:
    alice, bob, stranger = await cast.member(), await cast.member(), await cast.stranger()
    body = {"expiration_date": in_days(5)}
    given = [await post(client, Asked(CODES, body, one.headers)) for one in (alice, bob, stranger)]
    assert [answer.status_code for answer in given] == [201, 201, 201]
    assert len({answer.json()["code"] for answer in given}) == 3


async def test_a_key_is_its_programs_own(client: httpx.AsyncClient, cast: Cast, scene: Scene, ctx: AppContext) -> None:
    stranger = await cast.stranger()
    slug = await ctx.db.fetchval("SELECT slug FROM programs WHERE id = $1", stranger.program_id)
    asked = await scene.sign_up()
    given = [await post(client, asked, **headers) for headers in ({}, {"X-Program": slug})]
    assert [answer.status_code for answer in given] == [201, 201]
    assert given[0].json()["id"] != given[1].json()["id"]


async def test_a_session_more_makes_no_difference(client: httpx.AsyncClient, cast: Cast, scene: Scene) -> None:
    alice = await cast.member()
    asked = Asked(CODES, {"expiration_date": in_days(5)}, alice.headers)
    first = await post(client, asked)
    access = (await cast.pair(alice)).access
    again = await post(client, asked._replace(headers={"Authorization": f"Bearer {access}"}))
    assert told(again) == told(first)


async def test_a_refusal_is_not_kept(client: httpx.AsyncClient, cast: Cast, scene: Scene) -> None:
    alice = await cast.member()
    await cast.code(alice)
    asked = Asked(CODES, {"expiration_date": in_days(5)}, alice.headers)
    for _ in range(2):
        refused(await post(client, asked), 400, "code_active")
    await cast.delete_code(alice)
    assert (await post(client, asked)).status_code == 201


async def test_credentials_are_looked_at_before_the_key(client: httpx.AsyncClient, cast: Cast, scene: Scene) -> None:
    alice = await cast.member()
    asked = Asked(CODES, {"expiration_date": in_days(5)}, alice.headers)
    assert (await post(client, asked)).status_code == 201
    await client.post("/auth/token/logout/", headers=alice.headers)
    refused(await post(client, asked), 401, "unauthenticated")


async def test_a_key_is_good_for_24_hours(client: httpx.AsyncClient, scene: Scene, ctx: AppContext) -> None:
    asked = await scene.replace()
    first = await post(client, asked)
    for hours, is_done_again in ((23.9, False), (24.1, True)):
        await ctx.db.execute(
            "UPDATE idempotency_keys SET created_at = clock_timestamp() - $1 * interval '1 hour'", hours
        )
        assert (told(await post(client, asked)) != told(first)) == is_done_again
    assert told(await post(client, asked)) != told(first)


async def test_what_is_older_is_deleted(client: httpx.AsyncClient, scene: Scene, ctx: AppContext) -> None:
    for hours in (0, 23.9, 24.1, 200):
        assert (await post(client, await scene.replace(), str(hours))).status_code == 201
        await ctx.db.execute(
            """
            UPDATE idempotency_keys SET created_at = clock_timestamp() - $1 * interval '1 hour'
            WHERE created_at > clock_timestamp() - interval '1 minute'
            """,
            hours,
        )
    await purge_expired(ctx)
    assert await ctx.db.fetchval("SELECT count(*) FROM idempotency_keys") == 2


async def test_one_that_is_under_way_is_waited_for_by_nobody(
    client: httpx.AsyncClient, cast: Cast, scene: Scene, ctx: AppContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, under_way, may_end = await scene.replace(), asyncio.Event(), asyncio.Event()
    insert = store.insert_answer

    async def held(*args: Any, **given: Any) -> bool:
        under_way.set()
        await may_end.wait()
        return await insert(*args, **given)

    monkeypatch.setattr(store, "insert_answer", held)
    first = asyncio.create_task(post(client, asked))
    await asyncio.wait_for(under_way.wait(), 20)
    answer = await post(client, asked)
    refused(answer, 409, "idempotency_key_in_use")
    assert answer.headers["retry-after"] == "1"
    may_end.set()
    monkeypatch.undo()
    assert told(await first) == told(await post(client, asked))


async def test_who_is_refused_for_what_the_first_of_two_did_is_answered_as_the_first(
    client: httpx.AsyncClient, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second looked before the first was done, and found the password changed when it compared."""
    asked, has_looked, may_go_on = await scene.set_password(), asyncio.Event(), asyncio.Event()
    find = store.find_answer

    async def held(*args: Any, **given: Any) -> Any:
        found = await find(*args, **given)
        if not has_looked.is_set():
            has_looked.set()
            await may_go_on.wait()
        return found

    monkeypatch.setattr(store, "find_answer", held)
    second = asyncio.create_task(post(client, asked))
    await asyncio.wait_for(has_looked.wait(), 20)
    first = await post(client, asked)
    may_go_on.set()
    assert first.status_code == 204
    assert told(await second) == told(first)


async def test_what_cannot_be_answered_alike_is_not_done(
    client: httpx.AsyncClient, cast: Cast, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, there = await scene.sign_up(), await cast.contents()

    async def fail(*_: Any, **__: Any) -> bool:
        raise OSError

    monkeypatch.setattr(store, "insert_answer", fail)
    refused(await post(client, asked), 503, "unavailable")
    monkeypatch.undo()
    assert await cast.contents() == there
    assert (await post(client, asked)).status_code == 201


async def test_another_secret_makes_no_difference(scene: Scene, ctx: AppContext, client: httpx.AsyncClient) -> None:
    asked = await scene.sign_up()
    first = await post(client, asked)
    settings = structs.replace(ctx.settings, secret_key=f"{'another secret ' * 3},{ctx.settings.secret_key}")
    async with open_resources(settings) as later, client_for(later) as other:
        assert told(await post(other, asked)) == told(first)


async def test_what_is_kept_gives_nothing_away(client: httpx.AsyncClient, scene: Scene, ctx: AppContext) -> None:
    for make in (scene.set_password, scene.reset_password_confirm, scene.sign_up):
        asked = await make()
        assert (await post(client, asked)).status_code in (201, 204)
        assert await traces(ctx, KEY, PASSWORD, ANOTHER, str(asked.body.get("token", PASSWORD))) == []
        await ctx.db.execute("DELETE FROM idempotency_keys")


async def test_nothing_is_kept_of_somebody_who_left(
    client: httpx.AsyncClient, cast: Cast, scene: Scene, ctx: AppContext
) -> None:
    asked = await scene.sign_up()
    newcomer_id = (await post(client, asked)).json()["id"]
    assert [table for table, _ in await traces(ctx, asked.body["email"])] != []
    program = await default_program(ctx)
    await delete_account(ctx, program_id=program.id, user_id=newcomer_id, actor=OPERATOR)
    assert await traces(ctx, asked.body["email"]) == []
