"""A service that counts, with limits small enough to reach."""

from collections.abc import AsyncIterator

import pytest
from msgspec import structs

from invitree.app import open_resources
from invitree.base.settings import Settings
from invitree.kit.context import AppContext

LIMITS = {
    "limit_login": "5/5m",
    "limit_login_by_ip": "20/5m",
    "limit_login_by_name": "12/15m",
    "limit_register": "3/1h",
    "limit_mail_by_ip": "6/1h",
    "limit_mail_by_target": "2/1h",
    "limit_mail_to_target": "4/1h",
    "limit_logins": "30/15m",
    "limit_logins_by_ip": "40/15m",
    "limit_refresh": "3/5m",
    "limit_create": "3/1h",
    "limit_lookup": "5/1m",
    "limit_check": "4/1m",
}


def most(name: str) -> int:
    """Return how many a limit lets through at once."""
    return int(LIMITS[name].partition("/")[0])


@pytest.fixture(scope="module")
async def ctx(settings: Settings) -> AsyncIterator[AppContext]:
    """What a process has open that counts, behind one trusted proxy: each test comes from addresses of its own."""
    counting = structs.replace(settings, throttle="on", trusted_proxies=1, **LIMITS)
    async with open_resources(counting) as opened:
        yield opened
