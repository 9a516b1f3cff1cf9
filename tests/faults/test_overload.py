"""Three times what a web process can carry: it does what it can, and refuses the rest at once.

The web process has a core to itself, where there are several: what clients and the database need is not what it cannot
do.
"""

import random
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from bench.servers import on_cores
from invitree.base.settings import usable_cores
from tests.cast import PASSWORD
from tests.faults.conftest import FULL, Tell
from tests.faults.crowd import Crowd, Seen, as_bytes
from tests.faults.journal import check_invariants
from tests.faults.load import Member, code_of
from tests.faults.stage import cluster, stage
from tests.waiting import eventually

SECONDS = 30 if FULL else 2
CLIENTS = 1_000 if FULL else 300
_CODES = "SELECT count(*) AS made FROM codes"


async def test_more_than_can_be_done_is_done_as_far_as_can_be_and_else_refused(place: Path, tell: Tell) -> None:
    first, *others = usable_cores()
    async with AsyncExitStack() as opened:
        opened.enter_context(on_cores(others or [first]))
        database = await opened.enter_async_context(cluster(place))
        with on_cores([first]):
            on = await opened.enter_async_context(stage(database, place, workers=1))
        dice = random.Random(1)
        crowds = [Crowd(on.service.url, most=most) for most in (32, CLIENTS)]

        def asks() -> bytes:
            return _one_of_many(dice, dice.choice(on.load.members))

        [before] = await database.ask(_CODES)
        peak = _done(await crowds[0].keep_busy(asks, seconds=SECONDS), until=time.monotonic()) / SECONDS
        await crowds[1].press(asks, rate=3 * peak, seconds=SECONDS)
        held = on.memory_mib()
        over = time.monotonic() + SECONDS
        seen = await crowds[1].press(asks, rate=3 * peak, seconds=SECONDS)
        grown = on.memory_mib() - held
        await eventually(on.is_serving)
        recovered_s = time.monotonic() - over
        [after] = await database.ask(_CODES)
        for crowd in crowds:
            crowd.leave()
        await check_invariants(database.url)

    everything = [*crowds[0].seen, *crowds[1].seen]
    assert {(one.status, one.says_when) for one in everything} <= {(200, False), (201, False), (503, True)}
    assert after["made"] - before["made"] == sum(one.status == 201 for one in everything)
    good = _done(seen, until=over) / SECONDS
    tell(
        f"of {3 * peak:.0f} requests a second {good:.0f} were done, {good / peak:.0%} of what it can carry; "
        f"{Counter(one.status for one in seen)}; recovered after {recovered_s:.1f} s; {grown:+.0f} MiB"
    )
    if FULL:
        assert good >= 0.8 * peak
        assert recovered_s <= 5
        assert grown <= 16


def _done(seen: list[Seen], *, until: float) -> int:
    return sum(one.status in (200, 201) and one.ended_at <= until for one in seen)


def _one_of_many(dice: random.Random, member: Member) -> bytes:
    """Return what is asked: of twenty requests a login, five for another code, and fourteen for the code there is."""
    match dice.randrange(20):
        case 0:
            return as_bytes("POST", "/auth/token/login/", {}, {"email": member.email, "password": PASSWORD})
        case 1 | 2 | 3 | 4 | 5:
            write = code_of(member)
            return as_bytes("POST", write.path, write.headers, write.body)
    return as_bytes("GET", "/api/referral_codes/", member.headers)
