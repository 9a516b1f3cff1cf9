"""A link works once, however often it is followed at once; and what ends an account ends it for everybody."""

import asyncio
from collections import Counter

import httpx
import pytest

from invitree.base.problems import InvalidInput
from invitree.identity.programs.actions import get_program
from invitree.kit.context import AppContext
from tests.cast import PASSWORD, Cast, new_user, sign_up
from tests.postbox import Postbox
from tests.races.stage import AtOnce

pytestmark = pytest.mark.usefixtures("round_number")


async def test_of_many_activations_with_one_link_one_works(
    client: httpx.AsyncClient, cast: Cast, postbox: Postbox, ctx: AppContext, at_once: AtOnce, racers: int
) -> None:
    ann = await cast.stranger()
    await ctx.db.execute("UPDATE users SET is_active = false WHERE id = $1", ann.id)
    slug = await ctx.db.fetchval(
        "UPDATE programs SET activation = 'required' WHERE id = $1 RETURNING slug", ann.program_id
    )
    await client.post("/auth/users/resend_activation/", json={"email": ann.email}, headers={"X-Program": slug})
    link = await postbox.link(ann.email)
    answers = await at_once(*(client.post("/auth/users/activation/", json=link.body) for _ in range(racers)))
    assert Counter(answer.status_code for answer in answers) == {204: 1, 403: racers - 1}


async def test_of_many_resets_with_one_link_one_works(
    client: httpx.AsyncClient, cast: Cast, postbox: Postbox, at_once: AtOnce, racers: int
) -> None:
    ann = await cast.member()
    await client.post("/auth/users/reset_password/", json={"email": ann.email})
    link = await postbox.link(ann.email)
    passwords = [f"a new password, number {number}" for number in range(racers)]
    answers = await at_once(
        *(
            client.post("/auth/users/reset_password_confirm/", json={**link.body, "new_password": password})
            for password in passwords
        )
    )
    assert Counter(answer.status_code for answer in answers) == {204: 1, 400: racers - 1}
    [won] = [password for password, answer in zip(passwords, answers, strict=True) if answer.status_code == 204]
    login = await client.post("/auth/token/login/", json={"email": ann.email, "password": won})
    assert login.status_code == 200


async def test_of_many_changes_of_one_password_one_works(
    client: httpx.AsyncClient, cast: Cast, at_once: AtOnce, racers: int
) -> None:
    ann = await cast.member()
    answers = await at_once(
        *(
            client.post(
                "/auth/users/set_password/",
                json={"current_password": PASSWORD, "new_password": f"a new password, number {number}"},
                headers=ann.headers,
            )
            for number in range(racers)
        )
    )
    assert Counter(answer.status_code for answer in answers) == {204: 1, 400: racers - 1}


async def test_two_take_one_address_and_one_gets_it(
    client: httpx.AsyncClient, cast: Cast, postbox: Postbox, at_once: AtOnce, racers: int
) -> None:
    ann, bob = await cast.member(), await cast.member()
    wanted = f"wanted-by-{ann.id}@example.com"
    links = []
    for person in (ann, bob):
        body = {"new_email": wanted, "current_password": PASSWORD}
        asked = await client.post("/auth/users/set_email/", json=body, headers=person.headers)
        assert asked.status_code == 204
        links.append(await postbox.link(wanted))
    answers = await at_once(
        *(client.post("/auth/users/set_email_confirm/", json=link.body) for link in links * (racers // 2))
    )
    assert Counter(answer.status_code for answer in answers) == {204: 1, 400: racers - 1}


async def test_a_sign_up_counts_only_if_it_came_before_its_referrer_left(
    ctx: AppContext, cast: Cast, at_once: AtOnce, racers: int, round_number: int
) -> None:
    alice = await cast.member()
    program = await get_program(ctx, alice.program_id)
    code = await cast.code(alice)

    async def register() -> bool:
        try:
            await sign_up(ctx, program=program, new_user=new_user(), referral_code=code)
        except InvalidInput:
            return False
        return True

    async def leave() -> None:
        await asyncio.sleep(round_number / 400)
        await cast.delete(alice)

    *registered, _ = await at_once(*(register() for _ in range(racers // 2)), leave())
    rows = await ctx.db.fetch(
        """
        SELECT r.created_at <= c.revoked_at AS in_time FROM referrals r
        JOIN codes c ON c.program_id = r.program_id AND c.id = r.code_id WHERE r.referrer_id = $1
        """,
        alice.id,
    )
    assert len(rows) == sum(registered)
    assert all(row["in_time"] for row in rows)


async def test_of_many_deletions_of_one_account_one_works(
    client: httpx.AsyncClient, cast: Cast, ctx: AppContext, at_once: AtOnce, racers: int
) -> None:
    ann = await cast.member()
    answers = await at_once(
        *(
            client.request("DELETE", "/auth/users/me/", json={"current_password": PASSWORD}, headers=ann.headers)
            for _ in range(racers)
        )
    )
    # Who comes late finds no account any more, or no session, or no password, as far as it had come.
    seen = Counter(answer.status_code for answer in answers)
    assert seen[204] == 1
    assert set(seen) <= {204, 400, 401, 404}
    told = await ctx.db.fetchval("SELECT count(*) FROM audit WHERE user_id = $1 AND kind = 'account.deleted'", ann.id)
    assert told == 1
