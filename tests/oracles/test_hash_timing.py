"""A login that fails costs a hash of the password whether or not there is an account."""

import httpx
import pytest

from tests.cast import Cast
from tests.oracles.test_timing import compare, log_in

# A missing hash sets every sample apart, and 100 of those deviate by twelve. Smaller leaks show where hashes are cheap.
SAMPLES = 100


@pytest.mark.usefixtures("costly_hashes")
async def test_a_failed_login_costs_a_hash_with_and_without_an_account(client: httpx.AsyncClient, cast: Cast) -> None:
    known = await cast.member()
    await compare(
        {"known": log_in(client, known.email), "unknown": log_in(client, "nobody0@example.com")}, samples=SAMPLES
    )
