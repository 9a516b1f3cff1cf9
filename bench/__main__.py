"""`python -m bench`: make the people, start the servers, measure, and print a row a path."""

import sys
from typing import Annotated, Literal

import msgspec
from cyclopts import App, Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from bench.data import Sizes
from bench.load import LoadError, find_wrk
from bench.measure import Plan, measure
from bench.paths import PATHS
from bench.report import as_json, as_markdown, report
from bench.soak import soak
from bench.stage import foreign_stage, own_stage

_SEEDS = ("lookup-hot", "me-token", "referrals-first", "create-delete", "login", "register")
app = App(name="bench", version_flags=[])


@app.default
def main(
    *,
    people: Annotated[int | None, Parameter(help="How many have a code: 100,000, or with --url 200.")] = None,
    referrals: Annotated[int, Parameter(help="How many were brought by them, a fifth by one.")] = 1_000_000,
    seconds: Annotated[int, Parameter(help="How long each measurement takes.")] = 5,
    turns: Annotated[int, Parameter(help="How often each path is measured, next to its floor.")] = 3,
    connections: Annotated[int, Parameter(help="How many requests are under way at once.")] = 32,
    workers: Annotated[int, Parameter(help="Web processes, a core each.")] = 1,
    only: Annotated[list[str] | None, Parameter(help="Measure these paths alone.", consume_multiple=True)] = None,
    json: Annotated[bool, Parameter(help="Print JSON, for machines.", negative="")] = False,
    url: Annotated[str | None, Parameter(help="Measure a server that runs there, and no floor.")] = None,
    routes: Annotated[
        Literal["invitree", "seed"], Parameter(help="What it knows: all, or the seed's routes.")
    ] = "invitree",
) -> int:
    """Measure how fast the service is, beside what Python, asyncpg and this machine allow.

    A floor (bench/floor.py) is measured in turn with each path: it runs the same SQL and writes the same answers, and
    does nothing else. Rates, times and ratios are medians over the turns.
    """
    known = _SEEDS if routes == "seed" else [path.name for path in PATHS if path.name != "me-jwt" or not url]
    chosen = [path for path in PATHS if path.name in (only or known)]
    if unknown := set(only or ()) - set(known):
        return _refuse(f"{', '.join(sorted(unknown))}: there is only {', '.join(known)}")
    plan = Plan(seconds=seconds, turns=turns, connections=connections)
    sizes = Sizes(people or 100_000, referrals)
    try:
        find_wrk()
        with _Progress() as progress:
            if url:
                stage = foreign_stage(url, people=people or 200, advance=progress.advance)
            else:
                stage = own_stage(sizes, workers=workers, advance=progress.advance)
            with stage as opened:
                rows = list(measure(chosen, opened, plan, advance=progress.advance))
    except LoadError as error:
        return _refuse(str(error))
    found = report(rows, plan=plan, sizes=None if url else sizes)
    print(as_json(found) if json else as_markdown(found))
    return 0


@app.command(name="soak")
def soak_it(
    *,
    people: Annotated[int, Parameter(help="How many have a code.")] = 100_000,
    referrals: Annotated[int, Parameter(help="How many were brought by them, a fifth by one.")] = 100_000,
    seconds: Annotated[int, Parameter(help="How long.")] = 600,
    connections: Annotated[int, Parameter(help="How many reads are under way at once.")] = 32,
) -> int:
    """Load one web process with reads, logins and codes for minutes, and say what became of its memory, as JSON."""
    try:
        find_wrk()
        with _Progress() as progress, own_stage(Sizes(people, referrals), workers=1, advance=progress.advance) as stage:
            soaked = soak(stage, seconds=seconds, connections=connections, advance=progress.advance)
            print(msgspec.json.format(msgspec.json.encode(soaked)).decode())
    except LoadError as error:
        return _refuse(str(error))
    return 0


def _refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return 1


class _Progress:
    """A bar for each thing that takes long, on standard error."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description:16}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._shown = Progress(*columns, console=Console(stderr=True))
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> "_Progress":
        self._shown.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.stop()

    def advance(self, what: str, by: int, total: int) -> None:
        """Show that something has come further."""
        if what not in self._bars:
            self._bars[what] = self._shown.add_task(what, total=total)
        self._shown.advance(self._bars[what], by)


if __name__ == "__main__":
    sys.exit(app())
