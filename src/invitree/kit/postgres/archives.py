"""Reading and rewriting the SQL script that pg_restore generates from an archive."""

import re
from collections.abc import Callable, Iterable, Iterator

_END = b"\\.\n"  # ends the rows of a table


def unquoted(name: bytes) -> str:
    """Return an SQL identifier without its quotes."""
    return name.decode().removeprefix('"').removesuffix('"').replace('""', '"')


def count_rows(lines: Iterable[bytes], *, schema: bytes, advance: Callable[[int, str], None]) -> dict[str, int]:
    """Count the rows of each table of a schema; `advance(tables_done, table)` is called for each table."""
    rows: dict[str, int] = {}
    name, begins = "", re.compile(b"COPY " + re.escape(schema) + rb'\.("(?:[^"]|"")+"|\S+) \(')
    for line in lines:
        if name and line != _END:
            rows[name] += 1
        elif name:
            name = ""
        elif found := begins.match(line):
            name = unquoted(found[1])
            advance(len(rows), name)
            rows[name] = 0
    return rows


def rename_schema(lines: Iterable[bytes], old: bytes, new: bytes) -> Iterator[bytes]:
    """Rename a schema in a script; rows are left unchanged."""
    qualified, is_data = re.compile(rb"(?<![\w\".])" + re.escape(old) + rb"\."), False
    for line in lines:
        if is_data:
            is_data = line != _END
            yield line
        else:
            is_data = line.startswith(b"COPY ") and line.endswith(b" FROM stdin;\n")
            yield qualified.sub(lambda _: new + b".", line)
