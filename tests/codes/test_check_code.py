"""GET /api/referral_codes/check/{code}/."""

import httpx
import pytest

from invitree.kit.context import AppContext
from invitree.sharing.codes.actions import OWNERS
from tests.cast import Cast, in_days, refused

DEAD = {"valid": False}


def path(code: str) -> str:
    return f"/api/referral_codes/check/{code}/"


@pytest.mark.parametrize("slash", ["/", ""])
async def test_anyone_learns_that_a_live_code_is_valid_and_nothing_else(
    client: httpx.AsyncClient, cast: Cast, slash: str
) -> None:
    code = await cast.code(await cast.member(), expiration_date=in_days(3))
    answer = await client.get(path(code).rstrip("/") + slash)
    assert answer.status_code == 200
    assert answer.json() == {"valid": True, "expires_at": f"{in_days(4)}T00:00:00Z"}
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("state", ["expired", "deleted", "replaced", "deactivated"])
async def test_a_dead_code_is_not_valid(client: httpx.AsyncClient, cast: Cast, state: str) -> None:
    alice = await cast.member()
    code = await cast.code(alice)
    match state:
        case "expired":
            await cast.expire_code(alice)
        case "deleted":
            await cast.delete_code(alice)
        case "replaced":
            await cast.code(alice, replace=True)
        case _:
            await cast.deactivate(alice)
    answer = await client.get(path(code))
    assert (answer.status_code, answer.json()) == (200, DEAD)


@pytest.mark.parametrize(
    "code",
    ["ZZZZZZZZZZ", "A" * 1000, "%00", "%FF", "%20", "a'b", "%C3%BC", "%D9%A1", "-", "%25", "..%2e", "%F0%9F%98%80"],
)
async def test_malformed_codes_are_not_valid(client: httpx.AsyncClient, code: str) -> None:
    answer = await client.get(path(code))
    assert (answer.status_code, answer.json()) == (200, DEAD)


@pytest.mark.parametrize(
    "typed",
    [
        *("01ABCDEF01", "01abcdef01", "OIABCDEFOL", "olAbCdEfo1"),
        *("%2001ABCDEF01%20", "01ABC-DEF01", "01ABC%20DEF01", "01ABC%E2%80%93DEF01", "01ABCDEF01.", "%2201ABCDEF01%22"),
        *("%EF%BB%BF01ABCDEF01%0D%0A", "%C2%AB01ABCDEF01%C2%BB,", "%EF%BC%90%EF%BC%91ABCDEF01", "0%EF%B8%8F1ABCDEF01"),
    ],
)
async def test_a_code_may_be_sent_as_people_type_and_paste_it(
    client: httpx.AsyncClient, ctx: AppContext, zero_one: str, typed: str
) -> None:
    ctx.caches[OWNERS].clear()
    for _ in range(2):
        assert (await client.get(path(typed))).json()["valid"] is True
    assert (await client.get(path("01ABCDEF0"))).json() == DEAD


@pytest.fixture(scope="module")
async def zero_one(cast: Cast) -> str:
    """A code with what can be taken for letters."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("invitree.sharing.codes.actions.candidates", lambda _length: iter(["01ABCDEF01"]))
        return await cast.code(await cast.member())


async def test_a_code_of_another_program_is_not_valid_here(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, eve = await cast.member(), await cast.stranger()
    ours, theirs = await cast.code(alice), await cast.code(eve)
    assert (await client.get(path(theirs))).json() == DEAD
    assert (await client.get(path(theirs), headers=alice.headers)).json() == DEAD
    assert (await client.get(path(ours), headers=eve.headers)).json() == DEAD
    assert (await client.get(path(theirs), headers=eve.headers)).json()["valid"] is True


async def test_wrong_credentials_are_refused_even_here(client: httpx.AsyncClient) -> None:
    refused(await client.get(path("A"), headers={"Authorization": "Token 1.wrong"}), 401, "unauthenticated")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_check_is_only_read(client: httpx.AsyncClient, method: str) -> None:
    answer = await client.request(method, path("A"))
    refused(answer, 405, "method_not_allowed")
    assert "GET" in answer.headers["allow"]
