"""How far something long is, for whoever waits for it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import Progress


class Advance(Protocol):
    """Moves the bar: so much is done, of so much, and this is under way."""

    def __call__(self, done: int, of: int, doing: str = "", /) -> None: ...


@contextmanager
def progress(title: str) -> Iterator[Advance]:
    """Yield what moves a progress bar on a terminal, and does nothing elsewhere."""
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(title, total=None)

        def advance(done: int, of: int, doing: str = "", /) -> None:
            bar.update(task, completed=done, total=of, description=f"{title} {doing}".rstrip())

        yield advance
