"""The report of `invitree import seed`: counts, and skipped rows with reasons."""

from collections.abc import Iterable
from typing import IO

import msgspec
from rich.console import Console
from rich.table import Table

from invitree.imports.django.actions import Report
from invitree.imports.django.rules import Kind, Reason, SkippedRow

_MOST_SHOWN = 20


def show(report: Report, *, dry_run: bool) -> None:
    """Print the result of an import or a dry run."""
    if not report.is_news:
        print("Nothing to do: whatever can be imported has been.")
    elif dry_run:
        print("Dry run: nothing was written. A real one would do this:")
    table = Table("", "imported", "before", "refused")
    for kind, tally in report.tallies.items():
        table.add_row(f"{kind}s", f"{tally.imported:,}", f"{tally.before:,}", f"{tally.refused:,}")
    Console().print(table)
    for (refused, reason), refusals in _grouped(report.refusals).items():
        print(f"\n{len(refusals):,} {refused}{'s' if len(refusals) > 1 else ''}: {reason}")
        for refusal in refusals[:_MOST_SHOWN]:
            print(f"  {refusal.old_id}  {_printable(refusal.detail)}".rstrip())
        if len(refusals) > _MOST_SHOWN:
            print(f"  and {len(refusals) - _MOST_SHOWN:,} more; --report writes all of them into a file")


def write(refusals: Iterable[SkippedRow], file: IO[bytes]) -> None:
    """Write the skipped rows, one JSON object per line."""
    file.writelines(msgspec.json.encode(refusal) + b"\n" for refusal in refusals)


def _grouped(refusals: Iterable[SkippedRow]) -> dict[tuple[Kind, Reason], list[SkippedRow]]:
    groups: dict[tuple[Kind, Reason], list[SkippedRow]] = {}
    for refusal in refusals:
        groups.setdefault((refusal.kind, refusal.reason), []).append(refusal)
    return groups


def _printable(text: str) -> str:
    # User data must not control the terminal.
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
