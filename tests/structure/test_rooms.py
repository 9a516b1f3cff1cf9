"""A new room is a folder and one line in `rooms.py`: the house takes one of twenty lines that this test adds."""

import pytest
from litestar import get

from invitree import app, rooms
from invitree.base.settings import Settings
from invitree.identity.auth.guards import PUBLIC
from invitree.kit.context import AppContext, Erased
from invitree.kit.data.db import Queryable, Transaction
from invitree.kit.room import Room
from invitree.run import worker
from tests.cast import Cast
from tests.conftest import client_for

happened: list[str] = []


@get("/", summary="Greet.", response_description="A greeting.", tags=["Greetings"], **PUBLIC)
async def greet() -> str:
    """Greet whoever asks."""
    return "hello"


async def purge(db: Queryable, *, program_id: int, most: int) -> bool:
    happened.append("purged")
    return False


async def erase(tx: Transaction, who: Erased) -> None:
    happened.append(f"erased {who.user_id}")


async def look(ctx: AppContext) -> None:
    happened.append("looked")


def take(ctx: AppContext, payload: bytes) -> None:
    happened.append(payload.decode())


GREETINGS = Room(
    prefix="/greetings",
    routes=[greet],
    caches={"greetings": lambda settings: settings.cache_size},
    invalidators={"greetings": take},
    purges=[purge],
    erase=erase,
    periodic=[(60.0, look)],
)


async def test_a_new_room_needs_one_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (rooms, app, worker):
        monkeypatch.setattr(module, "ROOMS", (*rooms.ROOMS, GREETINGS))
    happened.clear()
    async with app.open_resources(settings) as ctx, client_for(ctx) as client:
        assert (await client.get("/greetings/")).text == "hello"
        # Its own, for what is served at /schema/openapi.json is rendered once a process.
        assert "/greetings" in app.create_app(settings).openapi_schema.to_schema()["paths"]
        assert "greetings" in ctx.caches
        ctx.db.invalidators["greetings"](b"taken")
        alice = await Cast(client, ctx).member()
        await Cast(client, ctx).delete(alice)
        await worker.purge_expired(ctx)
    assert set(happened) == {"taken", f"erased {alice.id}", "purged"}  # in every program
