"""Measuring: each path beside its floor, turn by turn, so that whatever else the machine does falls on both."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from statistics import median

from argon2 import PasswordHasher
from msgspec import Struct

from bench.data import PASSWORD
from bench.load import Load, Measured, run
from bench.paths import Path, Requests, Turn, reads
from bench.servers import Server, on_cores
from bench.stage import Stage

_PROBE_PAUSE_MS = 20  # few enough to see the loop without being a load themselves
_argon2 = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)  # as invitree.kit.secrets.passwords has it


class Plan(Struct, frozen=True, kw_only=True):
    """How long and how hard to measure."""

    seconds: float
    turns: int
    connections: int


class Row(Struct, frozen=True, kw_only=True):
    """What was found of a path: medians over the turns, and the ratio's over those of the turns.

    `reads_…` are of reads at the same time, where the path is not made of reads alone.
    """

    path: str
    rate: float
    p50_ms: float
    p99_ms: float
    floor_rate: float | None = None
    ratio: float | None = None
    goal: float | None = None
    reads_p50_ms: float | None = None
    reads_p99_ms: float | None = None
    memory_mib: float | None = None


def measure(
    paths: Sequence[Path], stage: Stage, plan: Plan, *, advance: Callable[[str, int, int], None]
) -> Iterator[Row]:
    """Yield a row a path. Raises LoadError where the answers are refusals."""
    for path in paths:
        server, seen = stage.service(path.kind), []
        for number in range(plan.turns):
            # Nobody whom the floor gave a code is asked to make one by the service.
            first, second = (
                Turn(crowd=stage.crowd, number=2 * number + half, of=2 * plan.turns, most_connections=plan.connections)
                for half in (0, 1)
            )
            seen.append((_bare(path, first, plan, stage), *_served(path, second, plan, server)))
            advance(path.name, 1, plan.turns)
        yield _row(path, seen, memory_mib=server.memory_mib())


def _bare(path: Path, turn: Turn, plan: Plan, stage: Stage) -> float | None:
    if path.floor is None:
        return hashes_a_second(stage.cores, seconds=plan.seconds)
    if stage.floor is None:
        return None
    return _load(stage.floor, path, path.floor, turn, plan)[0].rate


def _served(path: Path, turn: Turn, plan: Plan, server: Server) -> tuple[Measured, Measured | None]:
    probe = [] if path.is_all_reads else [reads]
    measured, *probed = _load(server, path, path.requests, turn, plan, *probe)
    return measured, probed[0] if probed else None


def _load(server: Server, path: Path, requests: Requests, turn: Turn, plan: Plan, *probes: Requests) -> list[Measured]:
    connections = turn.few_connections if path.is_in_order else turn.most_connections
    load = Load(url=server.url, requests=requests(turn), connections=connections)
    probing = [Load(url=server.url, requests=probe(turn), connections=1, pause_ms=_PROBE_PAUSE_MS) for probe in probes]
    return run(load, *probing, seconds=plan.seconds)


def hashes_a_second(cores: Sequence[int], *, seconds: float) -> float:
    """Return how many passwords these cores hash in a second with nothing else to do, a thread a core."""
    deadline = time.monotonic() + seconds

    def hash_until() -> int:
        done = 0
        while time.monotonic() < deadline:
            _argon2.hash(PASSWORD)
            done += 1
        return done

    with on_cores(cores), ThreadPoolExecutor(len(cores)) as threads:
        began = time.monotonic()
        each = [threads.submit(hash_until) for _ in cores]
        return sum(one.result() for one in each) / (time.monotonic() - began)


def _row(
    path: Path, seen: Sequence[tuple[float | None, Measured, Measured | None]], *, memory_mib: float | None
) -> Row:
    floors = [floor for floor, _, _ in seen if floor]
    ratios = [measured.rate / floor for floor, measured, _ in seen if floor]
    probes = [probed for _, _, probed in seen if probed]
    return Row(
        path=path.name,
        rate=median(measured.rate for _, measured, _ in seen),
        p50_ms=median(measured.p50_us for _, measured, _ in seen) / 1e3,
        p99_ms=median(measured.p99_us for _, measured, _ in seen) / 1e3,
        floor_rate=median(floors) if floors else None,
        ratio=median(ratios) if ratios else None,
        goal=path.goal,
        reads_p50_ms=median(probed.p50_us for probed in probes) / 1e3 if probes else None,
        reads_p99_ms=median(probed.p99_us for probed in probes) / 1e3 if probes else None,
        memory_mib=memory_mib,
    )
