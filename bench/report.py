"""What was measured, for people and for machines."""

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.data import Sizes
from bench.measure import Plan, Row


class Report(Struct, frozen=True, kw_only=True):
    """Every row, and where and how it was measured."""

    measured_at: str
    machine: str
    python: str
    sizes: Sizes | None
    plan: Plan
    rows: Sequence[Row]


def report(rows: Sequence[Row], *, plan: Plan, sizes: Sizes | None) -> Report:
    """Return the report of what was measured just now on this machine."""
    return Report(
        measured_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        machine=f"{os.cpu_count()} x {_processor()}",
        python=platform.python_version(),
        sizes=sizes,
        plan=plan,
        rows=rows,
    )


def as_json(report: Report) -> str:
    """Return the report as a JSON object."""
    return msgspec.json.format(msgspec.json.encode(report), indent=2).decode()


def as_markdown(report: Report) -> str:
    """Return the report as a table that is read as easily in a terminal as on a page."""
    how = f"{report.plan.turns} turns of {report.plan.seconds:g} s, {report.plan.connections} connections"
    whom = f"; {report.sizes.people:,} people with codes, {report.sizes.referrals:,} referrals" if report.sizes else ""
    head = ("path", "req/s", "p50 ms", "p99 ms", "floor req/s", "ratio", "goal", "reads p50 / p99 ms", "MiB a worker")
    table = [head, *(_cells(row) for row in report.rows)]
    told = [column for column in range(len(head)) if any(row[column] for row in table[1:])]
    table = [tuple(row[column] for column in told) for row in table]
    widths = [max(len(row[column]) for row in table) for column in range(len(told))]
    lines = [
        "| " + " | ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
    return f"{report.measured_at}, {report.machine}, Python {report.python}; {how}{whom}.\n\n" + "\n".join(lines)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.path,
        f"{row.rate:,.0f}",
        f"{row.p50_ms:.2f}",
        f"{row.p99_ms:.2f}",
        f"{row.floor_rate:,.0f}" if row.floor_rate else "",
        f"{row.ratio:.2f}" if row.ratio else "",
        f"{row.goal:.2f}" if row.goal and row.ratio else "",
        f"{row.reads_p50_ms:.2f} / {row.reads_p99_ms:.2f}" if row.reads_p50_ms and row.reads_p99_ms else "",
        f"{row.memory_mib:.0f}" if row.memory_mib else "",
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
