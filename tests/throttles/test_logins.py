"""Logins are counted by client, by name and by both, before they are tried."""

import asyncio
from collections import Counter
from ipaddress import ip_address

import httpx
import pytest

from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, refused
from tests.throttles.conftest import LIMITS

BOTH, BY_IP, BY_NAME, LOGINS, LOGINS_BY_IP, MAILS = (
    int(LIMITS[f"limit_{name}"].partition("/")[0])
    for name in ("login", "login_by_ip", "login_by_name", "logins", "logins_by_ip", "mail_by_target")
)
# Each in a network of its own.
_addresses = (str(ip_address("100.64.0.1") + 256 * number) for number in range(10_000))


@pytest.fixture
def ip() -> str:
    """An address that nobody else has used."""
    return next(_addresses)


def come_from(ip: str) -> dict[str, str]:
    """Return what the proxy in front says of a client."""
    return {"X-Forwarded-For": ip}


async def attempt(client: httpx.AsyncClient, ip: str, password: str = "wrong", **login: str) -> int:
    """Try to log in; return the status."""
    answer = await client.post("/auth/token/login/", json={**login, "password": password}, headers=come_from(ip))
    return answer.status_code


async def test_a_name_is_refused_after_so_many_failures_from_one_client(
    client: httpx.AsyncClient, cast: Cast, ip: str
) -> None:
    ann = await cast.member()
    seen = [await attempt(client, ip, email=ann.email) for _ in range(BOTH + 2)]
    assert seen == [400] * BOTH + [429, 429]
    answer = await client.post(
        "/auth/token/login/", json={"email": ann.email, "password": PASSWORD}, headers=come_from(ip)
    )
    refused(answer, 429, "too_many_requests")
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert answer.headers["ratelimit-policy"] == f'"login";q={BOTH};w=300'
    assert answer.headers["ratelimit"].startswith('"login";r=0;t=')
    assert await attempt(client, next(_addresses), PASSWORD, email=ann.email) == 200, "from elsewhere she logs in"


async def test_both_ways_to_log_in_share_the_count(client: httpx.AsyncClient, cast: Cast, ip: str) -> None:
    ann = await cast.member()
    for _ in range(BOTH):
        await attempt(client, ip, email=ann.email)
    body = {"email": ann.email, "password": PASSWORD}
    refused(await client.post("/auth/jwt/create/", json=body, headers=come_from(ip)), 429, "too_many_requests")


@pytest.mark.parametrize(
    "spell",
    [str.upper, lambda email: email.replace("@", "+tag@"), lambda email: "".join(map(_wide, email)), "  {}  ".format],
    ids=["case", "plus", "unicode", "spaces"],
)
async def test_spellings_of_an_address_share_one_count(
    client: httpx.AsyncClient, cast: Cast, ip: str, spell: object
) -> None:
    assert callable(spell)
    ann = await cast.member()
    for number in range(BOTH):
        assert await attempt(client, ip, email=ann.email if number % 2 else spell(ann.email)) == 400
    assert await attempt(client, ip, email=spell(ann.email)) == 429
    assert await attempt(client, ip, email=ann.email) == 429


def _wide(character: str) -> str:
    return chr(ord(character) + 0xFEE0) if character.isascii() and character.isalnum() else character


@pytest.mark.parametrize("spell", [str.upper, lambda name: "".join(map(_wide, name))], ids=["case", "unicode"])
async def test_spellings_of_a_username_share_one_count(
    client: httpx.AsyncClient, cast: Cast, ip: str, spell: object
) -> None:
    assert callable(spell)
    ann = await cast.member()
    for number in range(BOTH):
        assert await attempt(client, ip, username=ann.username if number % 2 else spell(ann.username)) == 400
    assert await attempt(client, ip, username=spell(ann.username)) == 429


async def test_names_that_nobody_has_are_counted_alike(client: httpx.AsyncClient, cast: Cast, ip: str) -> None:
    ann = await cast.member()
    known = [await attempt(client, ip, email=ann.email) for _ in range(BOTH + 1)]
    unknown = [await attempt(client, ip, email="no-one-has-this@example.com") for _ in range(BOTH + 1)]
    assert known == unknown == [400] * BOTH + [429]


async def test_a_client_that_fails_with_many_names_is_refused(client: httpx.AsyncClient, cast: Cast, ip: str) -> None:
    seen = [await attempt(client, ip, email=f"sprayed{number}@example.com") for number in range(BY_IP + 1)]
    assert seen == [400] * BY_IP + [429]
    ann = await cast.member()
    assert await attempt(client, ip, PASSWORD, email=ann.email) == 429
    assert await attempt(client, next(_addresses), PASSWORD, email=ann.email) == 200


async def test_a_name_that_fails_from_many_clients_is_refused(client: httpx.AsyncClient, cast: Cast) -> None:
    ann = await cast.member()
    seen = [await attempt(client, next(_addresses), email=ann.email) for _ in range(BY_NAME + 1)]
    assert seen == [400] * BY_NAME + [429]


async def test_a_single_client_cannot_lock_a_name_out(client: httpx.AsyncClient, cast: Cast, ip: str) -> None:
    ann = await cast.member()
    for _ in range(BY_NAME * 2):
        await attempt(client, ip, email=ann.email)
    assert await attempt(client, next(_addresses), PASSWORD, email=ann.email) == 200, "what is refused is not counted"


async def test_a_success_clears_the_count_of_this_client_and_name(
    client: httpx.AsyncClient, cast: Cast, ip: str
) -> None:
    ann = await cast.member()
    for _ in range(2):
        for _ in range(BOTH - 1):
            assert await attempt(client, ip, email=ann.email) == 400
        assert await attempt(client, ip, PASSWORD, email=ann.email) == 200


async def test_a_success_clears_nothing_of_the_client(client: httpx.AsyncClient, cast: Cast, ip: str) -> None:
    """Otherwise whoever has one account could spray for ever, logging in now and then."""
    mallory = await cast.member()
    for number in range(BY_IP):
        assert await attempt(client, ip, email=f"prey{number}@example.com") == 400
        if number % 4 == 0 and number < BY_IP - 1:
            assert await attempt(client, ip, PASSWORD, email=mallory.email) == 200
    assert await attempt(client, ip, email="one-more@example.com") == 429


async def test_a_success_clears_nothing_of_the_name(client: httpx.AsyncClient, cast: Cast) -> None:
    ann = await cast.member()
    for number in range(BY_NAME):
        assert await attempt(client, next(_addresses), email=ann.email) == 400
        if number == BY_NAME // 2:
            assert await attempt(client, next(_addresses), PASSWORD, email=ann.email) == 200
    assert await attempt(client, next(_addresses), email=ann.email) == 429


async def test_right_logins_are_limited_generously_by_client_and_name(
    client: httpx.AsyncClient, cast: Cast, ip: str
) -> None:
    ann, bob = await cast.member(), await cast.member()
    seen = [await attempt(client, ip, PASSWORD, email=ann.email) for _ in range(LOGINS + 1)]
    assert seen == [200] * LOGINS + [429]
    assert await attempt(client, next(_addresses), PASSWORD, email=ann.email) == 200
    # And all names together from one client.
    seen = [await attempt(client, ip, PASSWORD, email=bob.email) for _ in range(LOGINS_BY_IP - LOGINS + 1)]
    assert seen == [200] * (LOGINS_BY_IP - LOGINS) + [429]


@pytest.fixture
async def attacked(client: httpx.AsyncClient, cast: Cast, ip: str) -> Person:
    """Somebody who has logged in from `ip` before strangers used up what may fail with the name from anywhere."""
    ann = await cast.member()
    assert await attempt(client, ip, PASSWORD, email=ann.email) == 200
    for _ in range(BY_NAME):
        assert await attempt(client, next(_addresses), email=ann.email) == 400
    assert await attempt(client, next(_addresses), PASSWORD, email=ann.email) == 429
    return ann


async def test_strangers_cannot_keep_an_owner_from_logging_in_where_they_did_before(
    client: httpx.AsyncClient, attacked: Person, ip: str
) -> None:
    neighbor = f"{ip.rpartition('.')[0]}.77"  # the same network by another address
    for actor in ({"email": attacked.email}, {"username": attacked.username}):
        assert await attempt(client, ip, PASSWORD, **actor) == 200
        assert await attempt(client, neighbor, PASSWORD, **actor) == 200


async def test_a_familiar_network_may_not_guess_for_ever_either(
    client: httpx.AsyncClient, attacked: Person, ip: str
) -> None:
    network = ip.rpartition(".")[0]
    seen = [await attempt(client, f"{network}.{100 + number}", email=attacked.email) for number in range(BY_NAME + 1)]
    assert seen == [400] * BY_NAME + [429]


async def test_strangers_cannot_keep_an_owner_from_changing_the_password_or_leaving(
    client: httpx.AsyncClient, attacked: Person
) -> None:
    headers = {**attacked.headers, **come_from(next(_addresses))}
    body = {"current_password": PASSWORD, "new_password": "staple battery horse correct"}
    assert (await client.post("/auth/users/set_password/", json=body, headers=headers)).status_code == 204
    body = {"current_password": "staple battery horse correct"}
    assert (await client.request("DELETE", "/auth/users/me/", json=body, headers=headers)).status_code == 204


async def test_strangers_cannot_keep_an_owner_from_resetting_the_password(
    client: httpx.AsyncClient, cast: Cast, ip: str
) -> None:
    ann = await cast.member()
    assert await attempt(client, ip, PASSWORD, email=ann.email) == 200

    async def reset(email: str, ip: str) -> int:
        path = "/auth/users/reset_password/"
        return (await client.post(path, json={"email": email}, headers=come_from(ip))).status_code

    flood = next(_addresses)
    seen = [await reset(ann.email.replace("@", f"+{number}@"), flood) for number in range(5)]
    assert seen == [204] * MAILS + [429] * (5 - MAILS)
    assert await reset(ann.email, next(_addresses)) == 204, "from anywhere else"
    while await reset(ann.email, next(_addresses)) == 204:
        pass
    assert await reset(ann.email, next(_addresses)) == 429
    assert await reset(ann.email, ip) == 204, "from where she has logged in"
    headers = {**ann.headers, **come_from(flood)}
    answer = await client.post("/auth/users/reset_password/", json={"email": ann.email}, headers=headers)
    assert answer.status_code == 204, "signed in, from anywhere"
    body = {"current_password": PASSWORD, "new_password": "staple battery horse correct"}
    answer = await client.post("/auth/users/set_password/", json=body, headers={**ann.headers, **come_from(flood)})
    assert answer.status_code == 204, "signed in, from anywhere"


async def test_a_hundred_wrong_logins_at_once_pass_at_most_the_limit(
    client: httpx.AsyncClient, cast: Cast, ip: str
) -> None:
    ann = await cast.member()
    seen = Counter(await asyncio.gather(*(attempt(client, ip, email=ann.email) for _ in range(100))))
    assert seen == {400: BOTH, 429: 100 - BOTH}


async def test_the_current_password_cannot_be_guessed_with_a_stolen_token(
    client: httpx.AsyncClient, cast: Cast, ip: str
) -> None:
    ann = await cast.member()
    headers = {**ann.headers, **come_from(ip)}
    body = {"current_password": "wrong", "new_password": "staple battery horse correct"}
    seen = [
        (await client.post("/auth/users/set_password/", json=body, headers=headers)).status_code
        for _ in range(BOTH + 1)
    ]
    assert seen == [400] * BOTH + [429]
    gone = await client.request("DELETE", "/auth/users/me/", json={"current_password": PASSWORD}, headers=headers)
    refused(gone, 429, "too_many_requests")
    other = await client.post("/auth/token/login/", json={"email": ann.email, "password": PASSWORD})
    body = {"current_password": PASSWORD, "new_password": "staple battery horse correct"}
    own = {"Authorization": f"Token {other.json()['auth_token']}"}
    assert (await client.post("/auth/users/set_password/", json=body, headers=own)).status_code == 204


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ("2001:db8:1:1::1", "2001:db8:1:1:ffff::2", True),
        ("2001:db8:2:1::1", "2001:db8:2:2::1", False),
        ("::ffff:198.19.0.1", "198.19.0.1", True),
        ("198.19.0.2:4711", "[::ffff:198.19.0.2]:4712", True),
        ("198.19.0.3", "198.19.0.4", False),
    ],
)
async def test_a_client_is_an_ipv4_address_or_an_ipv6_64(
    client: httpx.AsyncClient, cast: Cast, one: str, other: str, shared: bool
) -> None:
    ann = await cast.member()
    for _ in range(BOTH):
        assert await attempt(client, one, email=ann.email) == 400
    assert await attempt(client, other, email=ann.email) == (429 if shared else 400)


async def test_a_forged_forwarded_header_is_ignored(client: httpx.AsyncClient, cast: Cast, ip: str) -> None:
    ann = await cast.member()
    seen = [await attempt(client, f"10.9.8.{number}, {ip}", email=ann.email) for number in range(BOTH + 1)]
    assert seen == [400] * BOTH + [429]


async def test_the_counts_hold_no_address_and_no_name(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, ip: str
) -> None:
    ann: Person = await cast.member()
    await attempt(client, ip, email=ann.email)
    rows = await ctx.db.fetch("SELECT t::text AS text, key FROM throttles t")
    assert rows
    for row in rows:
        assert ip not in row["text"]
        assert ann.username.encode() not in row["key"]
        assert len(row["key"]) == 16


async def test_a_success_with_a_plus_variant_clears_nothing_of_the_address(
    client: httpx.AsyncClient, cast: Cast, ip: str
) -> None:
    """Who has registered a variant of somebody's address shares the count, and must not be able to begin it anew."""
    ann = await cast.member()
    variant = ann.email.replace("@", "+evil@")
    body = {"email": variant, "username": f"evil{ann.id}", "password": PASSWORD}
    assert (await client.post("/auth/users/", json=body, headers=come_from(ip))).status_code == 201
    for _ in range(BOTH):
        assert await attempt(client, ip, email=ann.email) == 400
        assert await attempt(client, ip, PASSWORD, email=variant) in (200, 429)
    assert await attempt(client, ip, email=ann.email) == 429
