"""The report of `invitree import seed`: counts, and skipped rows with reasons."""

from collections.abc import Iterable
from typing import IO

import msgspec
from rich.console import Console
from rich.table import Table

from invitree.imports.django.actions import Report
from invitree.imports.django.rules import Kind, Reason, SkippedRow

_MAX_SHOWN = 20


def show(report: Report, *, dry_run: bool) -> None:
    """Print the result of an import or a dry run."""
    if not report.has_imports:
        print("Nothing to do: whatever can be imported has been.")
    elif dry_run:
        print("Dry run: nothing was written. A real one would do this:")
    table = Table("", "imported", "before", "refused")
    for kind, count in report.counts.items():
        table.add_row(f"{kind}s", f"{count.imported:,}", f"{count.before:,}", f"{count.refused:,}")
    Console().print(table)
    for (refused, reason), skipped_rows in _grouped(report.skipped_rows).items():
        print(f"\n{len(skipped_rows):,} {refused}{'s' if len(skipped_rows) > 1 else ''}: {reason}")
        for row in skipped_rows[:_MAX_SHOWN]:
            print(f"  {row.old_id}  {_printable(row.detail)}".rstrip())
        if len(skipped_rows) > _MAX_SHOWN:
            print(f"  and {len(skipped_rows) - _MAX_SHOWN:,} more; --report writes all of them into a file")


def write(skipped_rows: Iterable[SkippedRow], file: IO[bytes]) -> None:
    """Write the skipped rows, one JSON object per line."""
    file.writelines(msgspec.json.encode(row) + b"\n" for row in skipped_rows)


def _grouped(skipped_rows: Iterable[SkippedRow]) -> dict[tuple[Kind, Reason], list[SkippedRow]]:
    groups: dict[tuple[Kind, Reason], list[SkippedRow]] = {}
    for row in skipped_rows:
        groups.setdefault((row.kind, row.reason), []).append(row)
    return groups


def _printable(text: str) -> str:
    # User data must not control the terminal.
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
