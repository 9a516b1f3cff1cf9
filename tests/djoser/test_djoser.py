"""Invitree answers as djoser does, but for the differences that docs/coming-from-django.md names."""

import itertools
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest

from tests.cast import Cast
from tests.djoser import accounts, links, logging_in, signing_up
from tests.djoser.requests import ERROR_MEMBERS, Case, difference
from tests.djoser.sides import CONFIRMING, Djoser, Invitree, Side, Site, sites
from tests.postbox import Postbox

PAGE = (Path(__file__).parents[2] / "docs/coming-from-django.md").read_text(encoding="utf-8")
ROOMS = {"signing up": signing_up, "logging in": logging_in, "accounts": accounts, "links": links}
CASES = {f"{room}: {case.name}": case for room, module in ROOMS.items() for case in module.CASES}
_names = (f"person-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
async def running(
    tmp_path_factory: pytest.TempPathFactory, cast: Cast
) -> AsyncIterator[Mapping[str, tuple[Site, httpx.AsyncClient]]]:
    """The Django services, and a program of Invitree's that asks for confirmed addresses, as one of them does."""
    await cast.ctx.db.execute("INSERT INTO programs (slug, activation) VALUES ($1, 'required')", CONFIRMING)
    with sites(tmp_path_factory.mktemp("django"), ("username", "email", "activation")) as each:
        clients = {kind: httpx.AsyncClient(base_url=site.url()) for kind, site in each.items()}
        yield {kind: (site, clients[kind]) for kind, site in each.items()}
        for http in clients.values():
            await http.aclose()


Running = Mapping[str, tuple[Site, httpx.AsyncClient]]


async def answer(side: Side, case: Case) -> httpx.Response:
    """Return what one side says to a case."""
    for request in case.before:
        await side.ask(request)
    return await side.ask(case.request)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_the_answer_differs_as_the_page_says_or_not_at_all(
    case: Case, running: Running, client: httpx.AsyncClient, cast: Cast, postbox: Postbox
) -> None:
    about = {"name": next(_names), "is_staff": case.is_staff, "is_active": case.is_active}
    site, http = running[case.site]
    theirs = await answer(Djoser(site, http, **about), case)
    ours = await answer(Invitree(client, cast, postbox, kind=case.site, **about), case)
    said = f"djoser {theirs.status_code} {theirs.text}\nInvitree {ours.status_code} {ours.text}"
    assert difference(theirs, ours) == case.expected, said


def test_the_cases_have_names_of_their_own() -> None:
    assert len(CASES) == sum(len(module.CASES) for module in ROOMS.values())


def test_the_page_names_every_difference_and_no_other() -> None:
    named = re.findall(r'^\| <a id="([a-z-]+)"></a>', PAGE, flags=re.MULTILINE)
    assert len(named) == len(set(named))
    assert set(named) == {case.anchor for case in CASES.values() if case.anchor} | {"error-members"}


async def test_a_refusal_has_more_members_than_djosers(running: Running, client: httpx.AsyncClient) -> None:
    _, http = running["username"]
    theirs, ours = [(await one.post("/auth/users/", json={"email": "a"})).json() for one in (http, client)]
    assert theirs.keys() <= ours.keys()
    assert ours.keys() - theirs.keys() == ERROR_MEMBERS
