"""Progress bars."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import Progress


class Advance(Protocol):
    """Updates a progress bar: steps done, steps in total, and the current step."""

    def __call__(self, done: int, of: int, doing: str = "", /) -> None: ...


@contextmanager
def progress(title: str) -> Iterator[Advance]:
    """Show a progress bar if stderr is a terminal; yield the function that updates it."""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: int, of: int, doing: str = "", /) -> None:
            bar.update(task, completed=done, total=of, description=f"{title} {doing}".rstrip())

        yield advance
