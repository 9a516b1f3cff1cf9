"""The script that pg_restore makes of an archive: what is in it, and how it is put into another schema."""

import re
from collections.abc import Callable, Iterable, Iterator

_END = b"\\.\n"  # of the rows of a table


def plain(name: bytes) -> str:
    """Return a name that may be in quotes as it is."""
    return name.decode().removeprefix('"').removesuffix('"').replace('""', '"')


def count_rows(lines: Iterable[bytes], *, schema: bytes, advance: Callable[[int, str], None]) -> dict[str, int]:
    """Return how many rows each table of a schema has; `advance` is told of each table, and how many were before it."""
    rows: dict[str, int] = {}
    name, begins = "", re.compile(b"COPY " + re.escape(schema) + rb'\.("(?:[^"]|"")+"|\S+) \(')
    for line in lines:
        if name and line != _END:
            rows[name] += 1
        elif name:
            name = ""
        elif found := begins.match(line):
            name = plain(found[1])
            advance(len(rows), name)
            rows[name] = 0
    return rows


def renamed(lines: Iterable[bytes], old: bytes, new: bytes) -> Iterator[bytes]:
    """Put the objects of one schema into another; rows are left as they are."""
    qualified, is_data = re.compile(rb"(?<![\w\".])" + re.escape(old) + rb"\."), False
    for line in lines:
        if is_data:
            is_data = line != _END
            yield line
        else:
            is_data = line.startswith(b"COPY ") and line.endswith(b" FROM stdin;\n")
            yield qualified.sub(lambda _: new + b".", line)
