"""GET /api/referral_codes/get/{email}/."""

from urllib.parse import quote

import httpx
import pytest

from invitree.base.emails import parse_email
from invitree.kit.context import AppContext
from tests.cast import Cast, Person, in_days, refused


def path(email: str) -> str:
    return f"/api/referral_codes/get/{quote(email, safe='@')}/"


async def rename(ctx: AppContext, person: Person, email: str) -> None:
    address = parse_email(email)
    assert address is not None, email
    await ctx.db.execute(
        "UPDATE users SET email = $3, email_key = $4, email_identity = $5 WHERE program_id = $1 AND id = $2",
        person.program_id,
        person.id,
        address.typed,
        address.key,
        address.identity,
    )


@pytest.mark.parametrize("slash", ["/", ""])
async def test_a_member_finds_anothers_live_code(client: httpx.AsyncClient, cast: Cast, slash: str) -> None:
    alice, bob = await cast.member(), await cast.member()
    code = await cast.code(alice, expiration_date=in_days(3))
    answer = await client.get(path(alice.email).rstrip("/") + slash, headers=bob.headers)
    assert answer.status_code == 200
    assert answer.json() == {"code": code, "expiration_date": in_days(3), "expires_at": f"{in_days(4)}T00:00:00Z"}
    assert answer.headers["cache-control"] == "no-store"


async def test_the_first_and_the_later_answers_are_equal(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext
) -> None:
    alice = await cast.member()
    await cast.code(alice)
    ctx.caches["codes"].close()
    ctx.caches["codes"].open()
    answers = [(await client.get(path(alice.email), headers=alice.headers)).content for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize("cold", [True, False])
async def test_every_reason_gives_the_same_404_to_the_byte(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, cold: bool
) -> None:
    asking, eve = await cast.member(), await cast.stranger()
    empty, expired, deleted, gone = [await cast.member() for _ in range(4)]
    for person in (expired, deleted, gone, eve):
        await cast.code(person)
        await client.get(path(person.email), headers=person.headers)
    await cast.deactivate(gone)
    await cast.expire_code(expired)  # which also empties the cache
    await cast.delete_code(deleted)
    ctx.caches["codes"].close()
    if not cold:
        ctx.caches["codes"].open()
    emails = ["nobody@example.com", "malformed", "@", "a b@c", "\0", "ü@münchen.de", "x" * 2000, "'--@example.com"]
    emails += [person.email for person in (empty, expired, deleted, gone, eve)]
    for language, twice in [("en", emails), ("ru", emails)]:
        seen = set()
        for email in twice:
            answer = await client.get(path(email), headers={**asking.headers, "Accept-Language": language})
            refused(answer, 404, "code_not_found")
            kept = [(k, v) for k, v in answer.headers.raw if k.lower() not in (b"date", b"x-request-id")]
            seen.add((answer.status_code, answer.content, tuple(kept)))
        assert len(seen) == 1
    ctx.caches["codes"].open()


async def test_a_deactivated_members_code_is_not_found(client: httpx.AsyncClient, cast: Cast) -> None:
    alice, bob = await cast.member(), await cast.member()
    await cast.code(alice)
    assert (await client.get(path(alice.email), headers=bob.headers)).status_code == 200
    await cast.deactivate(alice)
    refused(await client.get(path(alice.email), headers=bob.headers), 404, "code_not_found")


@pytest.mark.parametrize(
    ("registered", "asked"),
    [
        ("a/b@example.com", "a%2Fb%40example.com"),
        ("c/d@example.com", "c/d@example.com"),
        ("ü@münchen.de", "%C3%BC@m%C3%BCnchen.de"),
        ("ö@münchen.de", "%C3%B6@xn--mnchen-3ya.de"),
        ("Case@Example.COM", "cASE@eXAMPLE.com"),
        ("wide@example.com", "%EF%BD%97ide@example.com"),
        ("p+q@example.com", "p+q@example.com"),
        ("r+s@example.com", "r%2Bs@example.com"),
        ("100%@example.com", "100%25@example.com"),
        ("get@example.com", "%20get@example.com%20"),
    ],
)
async def test_an_address_is_found_however_it_is_spelled_in_the_path(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, registered: str, asked: str
) -> None:
    alice = await cast.member()
    await rename(ctx, alice, registered)
    code = await cast.code(alice)
    answer = await client.get(f"/api/referral_codes/get/{asked}/", headers=alice.headers)
    assert answer.status_code == 200, answer.text
    assert answer.json()["code"] == code


@pytest.mark.parametrize("asked", ["%00", "a%00@example.com", "%FF", "a%FF@example.com", "%F0%9F%98%80", "%ED%A0%80"])
async def test_bytes_that_are_no_address_are_not_found(client: httpx.AsyncClient, cast: Cast, asked: str) -> None:
    alice = await cast.member()
    answer = await client.get(f"/api/referral_codes/get/{asked}/", headers=alice.headers)
    refused(answer, 404, "code_not_found")


async def test_an_address_means_the_callers_program(client: httpx.AsyncClient, cast: Cast, ctx: AppContext) -> None:
    alice, eve = await cast.member(), await cast.stranger()
    await rename(ctx, eve, alice.email)
    ours, theirs = await cast.code(alice), await cast.code(eve)
    for _ in range(2):  # from the database and from memory
        assert (await client.get(path(alice.email), headers=alice.headers)).json()["code"] == ours
        assert (await client.get(path(alice.email), headers=eve.headers)).json()["code"] == theirs


async def test_a_code_is_not_shown_after_its_end(client: httpx.AsyncClient, cast: Cast, ctx: AppContext) -> None:
    alice = await cast.member()
    await cast.code(alice)
    assert (await client.get(path(alice.email), headers=alice.headers)).status_code == 200
    await cast.expire_code(alice)
    refused(await client.get(path(alice.email), headers=alice.headers), 404, "code_not_found")
