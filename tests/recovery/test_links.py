"""Links in mails: what every kind of them has in common."""

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from invitree.identity.email.rules import encode_uid
from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, Person, refused
from tests.postbox import Link, Postbox
from tests.steps import (
    ANOTHER,
    BAD_TOKEN,
    BAD_UID,
    IS_NULL,
    REQUIRED,
    WRONG_TYPE,
    at,
    change_link,
    done,
    expire_links,
    link_for,
)

pytestmark = pytest.mark.usefixtures("activation_required", "empty_postbox")


@dataclass(frozen=True)
class Kind:
    """A kind of link: the route that it is asked for by, and the one that it is followed by."""

    asked: str
    followed: str
    field: str = ""

    def body(self, link: Link, value: str = "") -> dict[str, str]:
        """Return what is sent to follow a link of this kind."""
        more = {"new_password": ANOTHER, "new_username": "renamed" + "".join(filter(str.isalnum, link.uid[:20]))}
        return {**link.body, **({self.field: value or more[self.field]} if self.field else {})}

    async def ask(self, client: httpx.AsyncClient, postbox: Postbox, person: Person) -> Link:
        """Have a link of this kind sent, and return it."""
        if self.asked == "set_email":
            return await change_link(client, postbox, person, f"new-{person.email}")
        return await link_for(client, postbox, person, self.asked)

    async def follow(self, client: httpx.AsyncClient, link: Link) -> httpx.Response:
        """Follow a link."""
        return await client.post(at(self.followed), json=self.body(link))


KINDS = [
    Kind("resend_activation", "activation"),
    Kind("reset_password", "reset_password_confirm", "new_password"),
    Kind("reset_username", "reset_username_confirm", "new_username"),
    Kind("set_email", "set_email_confirm"),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.followed)


async def refuse(client: httpx.AsyncClient, cast: Cast, kind: Kind, link: Link, **fields: list[str]) -> None:
    before = await cast.contents()
    refused(await kind.follow(client, link), 400, "invalid_input", **fields)
    assert await cast.contents() == before


@every_kind
async def test_a_link_works_once(client: httpx.AsyncClient, cast: Cast, postbox: Postbox, kind: Kind) -> None:
    link = await kind.ask(client, postbox, await cast.member())
    done(await kind.follow(client, link))
    before = await cast.contents()
    for _ in range(2):
        answer = await kind.follow(client, link)
        if kind.followed == "activation":
            refused(answer, 403, "stale_token")
        else:
            refused(answer, 400, "invalid_input", token=[BAD_TOKEN])
    assert await cast.contents() == before


@every_kind
async def test_a_token_that_is_not_quite_it_is_refused(
    client: httpx.AsyncClient, cast: Cast, postbox: Postbox, kind: Kind
) -> None:
    alice = await cast.member()
    link = await kind.ask(client, postbox, alice)
    pair, (program, _, secret) = await cast.pair(alice), link.token.partition(".")
    wrong = [
        *(".", "x", "1.", secret, f"{program}.", f"{program}.{secret[:-1]}", f"{link.token}A"),
        *(
            f"{program}.{secret.swapcase()}",
            f"0{link.token}x",
            f"{program}..{secret}",
            "ü.ж",
            "1.\u0661",
        ),
        *(alice.token, pair.refresh, "%00", "' OR 1=1 --", "../../etc/passwd"),
    ]
    for token in wrong:
        await refuse(client, cast, kind, link._replace(token=token), token=[BAD_TOKEN])
    too_long = ["Ensure this field has no more than 200 characters."]
    await refuse(client, cast, kind, link._replace(token=pair.access), token=too_long)
    done(await kind.follow(client, link))


@every_kind
async def test_a_token_of_another_kind_is_refused(
    client: httpx.AsyncClient, cast: Cast, postbox: Postbox, kind: Kind
) -> None:
    alice = await cast.member()
    for other in KINDS:
        if other != kind:
            await refuse(client, cast, kind, await other.ask(client, postbox, alice), token=[BAD_TOKEN])


@every_kind
async def test_a_token_of_another_user_is_refused(
    client: httpx.AsyncClient, cast: Cast, postbox: Postbox, kind: Kind
) -> None:
    alice, bob = await cast.member(), await cast.member()
    alices, bobs = await kind.ask(client, postbox, alice), await kind.ask(client, postbox, bob)
    await refuse(client, cast, kind, alices._replace(token=bobs.token), token=[BAD_TOKEN])
    await refuse(client, cast, kind, alices._replace(uid=bobs.uid), token=[BAD_TOKEN])
    for link in (alices, bobs):
        done(await kind.follow(client, link))


@every_kind
async def test_a_token_of_another_program_is_refused(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, kind: Kind
) -> None:
    alice, eve = await cast.member(), await cast.stranger()
    link = await kind.ask(client, postbox, alice)
    slug = await ctx.db.fetchval("SELECT slug FROM programs WHERE id = $1", eve.program_id)
    moved = link._replace(token=f"{eve.program_id}.{link.token.partition('.')[2]}")
    await refuse(client, cast, kind, moved, uid=[BAD_UID])
    await refuse(client, cast, kind, moved._replace(uid=encode_uid(eve.id)), token=[BAD_TOKEN])
    await refuse(client, cast, kind, link._replace(uid=encode_uid(eve.id)), uid=[BAD_UID])
    await refuse(client, cast, kind, link._replace(token=f"999999.{link.token}"), uid=[BAD_UID])
    # The token names its program: whatever the header names, it is that one.
    done(await client.post(at(kind.followed), json=kind.body(link), headers={"X-Program": slug}))


ODD_UIDS = [
    "0", "MA", "LTE", "KzE", "MDE", "\u041cQ", "OTk5OTk5OTk5", "=", "-", "_",
    "MS4w", "MV8w", "2aE", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "A" * 200, "1", "NaN", "null", "../1", "%4d%51",
]  # fmt: skip


@every_kind
async def test_an_odd_uid_is_nobody(client: httpx.AsyncClient, cast: Cast, postbox: Postbox, kind: Kind) -> None:
    link = await kind.ask(client, postbox, await cast.member())
    for uid in [*ODD_UIDS, f"{link.uid}\u200b", link.uid.lower() + "A"]:
        await refuse(client, cast, kind, link._replace(uid=uid), uid=[BAD_UID])
    done(await kind.follow(client, link))


@every_kind
async def test_an_expired_link_is_refused(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, kind: Kind
) -> None:
    alice = await cast.member()
    link = await kind.ask(client, postbox, alice)
    await expire_links(ctx, alice)
    await refuse(client, cast, kind, link, token=[BAD_TOKEN])
    done(await kind.follow(client, await kind.ask(client, postbox, alice)))


@every_kind
async def test_a_link_lives_from_its_sending_on(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, postbox: Postbox, kind: Kind
) -> None:
    """Mail may wait for hours. A link that is asked for has not lived while nobody could read it."""
    alice = await cast.member()
    body = {"new_email": f"new-{alice.email}", "current_password": PASSWORD}
    if kind.asked != "set_email":
        body = {"email": alice.email}
    done(await client.post(at(kind.asked), json=body, headers=alice.headers))
    await ctx.db.execute(
        "UPDATE one_time_tokens SET expires_at = clock_timestamp() - interval '3 days' WHERE user_id = $1", alice.id
    )
    [letter] = await postbox.collect()
    life_s = await ctx.db.fetchval(
        "SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM one_time_tokens WHERE user_id = $1", alice.id
    )
    most = {"resend_activation": 24 * 3600, "set_email": 24 * 3600}.get(kind.asked, 30 * 60)
    assert letter["to"] == body.get("new_email", alice.email)
    assert most - 30 < life_s <= most


@every_kind
async def test_the_older_of_two_links_works_and_then_the_newer_does_not_undo_it(
    client: httpx.AsyncClient, cast: Cast, postbox: Postbox, kind: Kind
) -> None:
    """Whoever asks for a link in somebody's name must not be able to kill the one that its owner has."""
    alice = await cast.member()
    older, newer = [await kind.ask(client, postbox, alice) for _ in range(2)]
    assert older.token != newer.token
    done(await kind.follow(client, older))
    answer = await kind.follow(client, newer)
    match kind.followed:
        case "activation":
            refused(answer, 403, "stale_token")
        case "reset_username_confirm":
            done(answer)  # a name is no secret, and this is its user all the same
        case _:
            refused(answer, 400, "invalid_input", token=[BAD_TOKEN])


@every_kind
async def test_a_deactivated_or_deleted_users_link_is_dead(
    client: httpx.AsyncClient, cast: Cast, postbox: Postbox, kind: Kind
) -> None:
    out, gone = await cast.member(), await cast.member()
    links = [await kind.ask(client, postbox, person) for person in (out, gone)]
    await cast.deactivate(out)
    done(await client.request("DELETE", "/auth/users/me/", json={"current_password": PASSWORD}, headers=gone.headers))
    await refuse(client, cast, kind, links[0], token=[BAD_TOKEN])
    await refuse(client, cast, kind, links[1], uid=[BAD_UID])


@every_kind
async def test_a_changed_password_ends_every_link(
    client: httpx.AsyncClient, cast: Cast, postbox: Postbox, kind: Kind
) -> None:
    alice = await cast.member()
    link = await kind.ask(client, postbox, alice)
    body = {"current_password": PASSWORD, "new_password": ANOTHER}
    done(await client.post(at("set_password"), json=body, headers=alice.headers))
    await refuse(client, cast, kind, link, token=[BAD_TOKEN])


@every_kind
async def test_a_wrong_body_is_named_by_its_field(
    client: httpx.AsyncClient, cast: Cast, postbox: Postbox, kind: Kind
) -> None:
    link = await kind.ask(client, postbox, await cast.member())
    good = kind.body(link)
    before = await cast.contents()
    path = at(kind.followed)
    for name in good:
        missing = {key: value for key, value in good.items() if key != name}
        refused(await client.post(path, json=missing), 400, "invalid_input", **{name: [REQUIRED]})
        wrong: list[Any] = [None, 1, True, [], {}]
        for value in wrong:
            answer = await client.post(path, json={**good, name: value})
            refused(answer, 400, "invalid_input", **{name: [IS_NULL if value is None else WRONG_TYPE]})
    for query in ("get", "put", "delete", "patch"):
        answer = await client.request(query, path, json=good)
        refused(answer, 405, "method_not_allowed")
    assert await cast.contents() == before
    done(await client.post(path, json=good))


@every_kind
async def test_a_wrong_header_stops_a_link_and_a_right_one_does_not(
    client: httpx.AsyncClient, cast: Cast, postbox: Postbox, kind: Kind
) -> None:
    """In a browser, somebody else may be signed in."""
    alice, bob = await cast.member(), await cast.member()
    link = await kind.ask(client, postbox, alice)
    path, body = at(kind.followed), kind.body(link)
    answer = await client.post(path, json=body, headers={"Authorization": "Token nonsense"})
    refused(answer, 401, "unauthenticated")
    done(await client.post(path, json=body, headers=bob.headers))
