"""Whether memory stays what it is: reads, logins, and codes made and deleted for minutes, and the memory meanwhile."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import linear_regression
from time import monotonic, sleep

from msgspec import Struct

from bench.data import Advance
from bench.load import Load, run
from bench.paths import Turn, create_and_delete, log_ins, reads
from bench.stage import Stage

_EVERY_S = 1.0
_WARM_UP = 0.3  # of the time: until what is to be in memory is there


class Soaked(Struct, frozen=True, kw_only=True):
    """What a long load came to, and the memory of a web process: in each tenth of the time, and its slope."""

    requests: int
    seconds: float
    mib: Sequence[float]
    slope_mib_per_hour: float


def soak(stage: Stage, *, seconds: int, connections: int, advance: Advance) -> Soaked:
    """Load the service for so long, and watch its memory. Raises LoadError where answers are refusals."""
    server = stage.service("warm")
    turn = Turn(crowd=stage.crowd, number=0, of=1, most_connections=connections)
    loads = [
        Load(url=server.url, requests=reads(turn), connections=connections),
        Load(url=server.url, requests=log_ins(turn), connections=2, pause_ms=100),
        Load(url=server.url, requests=create_and_delete(turn), connections=turn.few_connections, pause_ms=10),
    ]
    with ThreadPoolExecutor(1) as thread:
        began, seen = monotonic(), []
        loading = thread.submit(run, *loads, seconds=seconds)
        while not loading.done():
            seen.append((monotonic() - began, server.memory_mib() or 0.0))
            sleep(_EVERY_S)
            advance("soak", 1, seconds)
        measured = loading.result()
    settled = [(at, mib) for at, mib in seen if at > _WARM_UP * seconds]
    slope = linear_regression(*zip(*settled, strict=True)).slope if len(settled) > 1 else 0.0
    return Soaked(
        requests=sum(one.requests for one in measured),
        seconds=monotonic() - began,
        mib=[round(seen[len(seen) * tenth // 10][1], 1) for tenth in range(10)],
        slope_mib_per_hour=slope * 3600,
    )
