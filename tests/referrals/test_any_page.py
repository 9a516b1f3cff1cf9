"""Whatever stands in a query or a path: it is a page, an answer or a refusal, and never an error of ours."""

from urllib.parse import quote, quote_from_bytes

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cast import Cast, Person, in_days

NUMBERS = st.one_of(
    st.integers().map(str),
    st.integers(0, 101).map(str),
    st.sampled_from([2**53 - 1, 2**53, 2**63 - 1, 2**63, 10**40]).map(str),
    st.from_regex(r"[ +-]?[0-9_.eE٣²]{1,24}", fullmatch=True),
    st.text(max_size=12),
).map(quote)
RAW = st.binary(max_size=12).map(lambda text: quote_from_bytes(text, safe="=&;+%/?:"))
PAIRS = st.builds("{}={}".format, st.sampled_from(["limit", "after", "Limit", "other", ""]), NUMBERS)
QUERIES = st.lists(PAIRS | RAW, max_size=4).map("&".join)
PLACES = st.one_of(
    st.text(st.characters(), min_size=1, max_size=30).map(lambda text: quote(text, safe="@./", errors="surrogatepass")),
    st.binary(min_size=1, max_size=20).map(quote_from_bytes),
    st.integers().map(str),
)


@pytest.fixture(scope="module")
async def alice(cast: Cast) -> Person:
    """Somebody who brought somebody."""
    person = await cast.member()
    await cast.member(referral_code=await cast.code(person, expiration_date=in_days(9)))
    return person


@pytest.mark.parametrize("path", ["/api/users/{id}/", "/auth/users/", "/auth/users/me/events"])
@settings(max_examples=200)
@given(query=QUERIES)
async def test_any_query_is_a_page_or_refused(client: httpx.AsyncClient, alice: Person, path: str, query: str) -> None:
    answer = await client.get(f"{path.format(id=alice.id)}?{query}", headers=alice.headers)
    if answer.status_code == 200:
        assert isinstance(answer.json(), list)
    else:
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input"), answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/api/users/{}/",
        "/api/users/{}/referrer",
        "/api/referral_codes/get/{}/",
        "/api/referral_codes/check/{}",
        "/auth/users/{}",
    ],
)
@settings(max_examples=200)
@given(place=PLACES)
async def test_any_path_is_found_or_not(client: httpx.AsyncClient, alice: Person, path: str, place: str) -> None:
    answer = await client.get(path.format(place), headers=alice.headers)
    assert answer.status_code in (200, 404, 405), answer.text
    assert answer.headers["content-type"] in ("application/json", "application/problem+json")
