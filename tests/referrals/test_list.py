"""GET /api/users/{id}/: whom a user brought."""

from datetime import datetime

import httpx
import pytest

from invitree.base.emails import masked
from invitree.kit.context import AppContext
from tests.cast import Cast, Person, in_days, refused


def path(user_id: object) -> str:
    return f"/api/users/{user_id}/"


async def with_referrals(ctx: AppContext, cast: Cast, count: int) -> Person:
    """Return a member who brought so many others, written without the cost of signing them up."""
    alice = await cast.member()
    await ctx.db.execute(
        """
        WITH code AS (
            INSERT INTO codes (program_id, user_id, code, expires_at)
            VALUES ($1::bigint, $2::bigint, 'T' || $2::bigint, clock_timestamp() + interval '1 day') RETURNING id
        ), brought AS (
            INSERT INTO users (program_id, email, email_key, email_identity, username, password_hash)
            SELECT $1::bigint, name || '@example.com', name || '@example.com', name || '@example.com', name, '!'
            FROM generate_series(1, $3::integer) n, LATERAL (SELECT 'f' || $2::bigint || 'n' || n AS name) named
            RETURNING id
        ), came AS (
            INSERT INTO audit (program_id, user_id, actor, kind)
            SELECT $1::bigint, id, 'self', 'account.created' FROM brought
        )
        INSERT INTO referrals (program_id, referrer_id, referee_id, code_id, created_at)
        SELECT $1::bigint, $2::bigint, brought.id, code.id, clock_timestamp() FROM brought, code ORDER BY brought.id
        """,
        alice.program_id,
        alice.id,
        count,
    )
    return alice


async def test_a_referrer_sees_addresses_newest_first(client: httpx.AsyncClient, cast: Cast) -> None:
    alice = await cast.member()
    code = await cast.code(alice)
    friends = [await cast.member(referral_code=code) for _ in range(3)]
    for spelling in (path(alice.id), path(alice.id).rstrip("/")):
        answer = await client.get(spelling, headers=alice.headers)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert "link" not in answer.headers
        listed = answer.json()
        assert [(item["email"], item["id"]) for item in listed] == [(bob.email, bob.id) for bob in friends[::-1]]
        assert all(set(item) == {"email", "id", "registered_at"} for item in listed)
        times = [datetime.fromisoformat(item["registered_at"]) for item in listed]
        assert times == sorted(times, reverse=True)
        assert all(item["registered_at"].endswith("Z") for item in listed)


async def test_staff_see_addresses_and_others_see_them_masked(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, other, boss = await cast.member(), await cast.member(), await cast.staff()
    bob = await cast.member(referral_code=await cast.code(alice))
    for person, email in [(alice, bob.email), (boss, bob.email), (other, "p***@e***.com"), (bob, "p***@e***.com")]:
        answer = await client.get(path(alice.id), headers=person.headers)
        assert [(item["id"], item["email"]) for item in answer.json()] == [(bob.id, email)]
        assert (bob.email in answer.text) == (email == bob.email)
    assert masked(bob.email) == "p***@e***.com"


async def test_a_member_without_referrals_has_an_empty_list(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, other = await cast.member(), await cast.member()
    for person in (alice, other):
        answer = await client.get(path(alice.id), headers=person.headers)
        assert (answer.status_code, answer.json()) == (200, [])


async def test_another_programs_member_is_not_found(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, eve, their_boss = await cast.member(), await cast.stranger(), await cast.stranger(staff=True)
    await cast.member(referral_code=await cast.code(alice))
    for person, of in [(eve, alice), (their_boss, alice), (alice, eve)]:
        refused(await client.get(path(of.id), headers=person.headers), 404, "not_found")
        refused(await client.get(f"{path(of.id)}referrer/", headers=person.headers), 404, "not_found")


@pytest.mark.parametrize("size", [1, 20, 100])
async def test_the_links_lead_through_everything_once(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, size: int
) -> None:
    count = {1: 5, 20: 45, 100: 205}[size]
    alice = await with_referrals(ctx, cast, count)
    url, pages = f"http://invitree.test{path(alice.id)}?limit={size}", 0
    seen: list[int] = []
    while url:
        answer = await client.get(url, headers=alice.headers)
        page = answer.json()
        assert len(page) == min(size, count - len(seen))
        seen += [item["id"] for item in page]
        pages += 1
        following = answer.links.get("next")
        url = str(httpx.URL(url).join(following["url"])) if following else ""
    expected = await ctx.db.fetch("SELECT referee_id FROM referrals WHERE referrer_id = $1 ORDER BY id DESC", alice.id)
    assert seen == [row["referee_id"] for row in expected]
    assert pages == -(-count // size)


async def test_a_page_has_twenty_and_a_full_last_page_leads_nowhere(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice = await with_referrals(ctx, cast, 21)
    answer = await client.get(path(alice.id), headers=alice.headers)
    assert len(answer.json()) == 20
    assert 'rel="next"' in answer.headers["link"]
    answer = await client.get(f"{path(alice.id)}?limit=21", headers=alice.headers)
    assert (len(answer.json()), "link" in answer.headers) == (21, False)


async def test_a_referral_that_arrives_midway_shifts_nothing(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice = await with_referrals(ctx, cast, 4)
    first = await client.get(f"{path(alice.id)}?limit=2", headers=alice.headers)
    code = await ctx.db.fetchval("SELECT code FROM codes WHERE user_id = $1", alice.id)
    await cast.member(referral_code=code)
    url = httpx.URL(f"http://invitree.test{path(alice.id)}").join(first.links["next"]["url"])
    second = await client.get(url, headers=alice.headers)
    listed = [item["id"] for item in first.json() + second.json()]
    assert listed == sorted(set(listed), reverse=True)
    assert len(listed) == 4


async def test_an_end_before_everything_is_an_empty_page(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice = await with_referrals(ctx, cast, 2)
    answer = await client.get(f"{path(alice.id)}?after=1", headers=alice.headers)
    assert (answer.status_code, answer.json()) == (200, [])


WRONG = ["0", "-1", "", "abc", "1.5", "+1", "١", "%20", "null", "true", "1_0", "%00", "NaN", "0x1"]


@pytest.mark.parametrize("query", [f"limit={value}" for value in ["101", "999999999999999999999", *WRONG]])
async def test_a_limit_is_from_1_to_100(client: httpx.AsyncClient, cast: Cast, query: str) -> None:
    alice = await cast.member()
    answer = await client.get(f"{path(alice.id)}?{query}", headers=alice.headers)
    refused(answer, 400, "invalid_input", limit=["This value is not allowed here."])


@pytest.mark.parametrize("query", [f"after={value}" for value in ["9007199254740992", "9" * 5000, *WRONG]])
async def test_an_end_is_an_id(client: httpx.AsyncClient, cast: Cast, query: str) -> None:
    alice = await cast.member()
    answer = await client.get(f"{path(alice.id)}?{query}", headers=alice.headers)
    refused(answer, 400, "invalid_input", after=["This value is not allowed here."])


@pytest.mark.parametrize("query", ["limit=1", "limit=100", "after=1", "after=9007199254740991"])
async def test_the_ends_of_the_ranges_are_taken(client: httpx.AsyncClient, cast: Cast, query: str) -> None:
    alice = await cast.member()
    assert (await client.get(f"{path(alice.id)}?{query}", headers=alice.headers)).status_code == 200


@pytest.mark.parametrize("suffix", ["", "referrer/"])
@pytest.mark.parametrize(
    "spelling",
    ["0", "-1", "999999999", "9007199254740991", "9007199254740992", "9" * 30, "9" * 5000, "abc", "1e3", "1.0",
     "+{id}", "0_{id}", "%20{id}", "{arabic}", "{id}%00", "%00", "%FF", "null", "me", "0x1", "{id};", "{id}%20"],
)  # fmt: skip
async def test_malformed_user_id_is_404(client: httpx.AsyncClient, cast: Cast, spelling: str, suffix: str) -> None:
    alice = await cast.member()
    bob = await cast.member(referral_code=await cast.code(alice, expiration_date=in_days(2)))
    arabic = str(bob.id).translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩"))
    wrong = path(spelling.format(id=bob.id, arabic=arabic)) + suffix
    for person in (bob, await cast.staff()):
        refused(await client.get(wrong, headers=person.headers), 404, "not_found")


@pytest.mark.parametrize("typed", ["ann\uff20corp.com", "ann@corp\uff0ecom", "ann\uff20corp\u3002com"])
async def test_an_address_typed_with_wide_signs_is_masked_as_well(
    client: httpx.AsyncClient, cast: Cast, typed: str
) -> None:
    alice, bob = await cast.member(), await cast.member()
    name = f"ann{len(typed)}{ord(typed[3])}{ord(typed[-4])}"
    body = {
        "email": typed.replace("ann", name),
        "username": name,
        "password": "correct horse battery staple",
        "referral_code": await cast.code(alice),
    }
    assert (await client.post("/auth/users/", json=body)).status_code == 201
    [shown] = (await client.get(f"/api/users/{alice.id}/", headers=bob.headers)).json()
    assert shown["email"] == "a***@c***.com"
