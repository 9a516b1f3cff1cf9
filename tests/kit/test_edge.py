"""kit/web/edge.py when more is asked than can be done."""

import asyncio
from typing import Any

import httpx
import pytest

from invitree.kit.web.edge import Edge
from tests.cast import refused
from tests.kit.lender import turn_over


class Slow:
    """An application that reads a request, and answers when it may."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        while (await receive())["more_body"]:
            pass
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def slow() -> Slow:
    """What is behind the edge."""
    return Slow()


@pytest.fixture
def client(slow: Slow) -> httpx.AsyncClient:
    """A client of an edge that is full with one request."""
    edge: Any = Edge(slow, access_log=False, is_full=lambda in_hand: in_hand >= 1)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=edge), base_url="http://invitree.test")


async def test_requests_beyond_capacity_get_503_with_retry_after(slow: Slow, client: httpx.AsyncClient) -> None:
    first = asyncio.create_task(client.get("/"))
    await turn_over(20)
    answer = await client.get("/", headers={"Accept-Language": "ru"})
    refused(answer, 503, "unavailable")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["content-language"] == "ru"
    slow.may_answer.set()
    assert (await first).status_code == 204
    assert (await client.get("/")).status_code == 204, "there is room again"


@pytest.mark.parametrize("path", ["/healthz", "/readyz/", "/metrics"])
async def test_operations_routes_are_never_shed(slow: Slow, client: httpx.AsyncClient, path: str) -> None:
    both = [asyncio.create_task(client.get(one)) for one in ("/", path)]
    await turn_over(20)
    slow.may_answer.set()
    assert [answer.status_code for answer in await asyncio.gather(*both)] == [204, 204]


async def test_a_client_who_is_waited_for_keeps_nobody_out(slow: Slow, client: httpx.AsyncClient) -> None:
    sends_more = asyncio.Event()

    async def body() -> Any:
        yield b"{"
        await sends_more.wait()
        yield b"}"

    slow.may_answer.set()
    dawdling = asyncio.create_task(client.post("/", content=body()))
    await turn_over(20)
    assert (await client.get("/")).status_code == 204
    sends_more.set()
    assert (await dawdling).status_code == 204
