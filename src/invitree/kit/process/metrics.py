"""Disk space for metrics: prometheus-client memory-maps a file in each process."""

import os
from pathlib import Path
from typing import Any

_BYTES = {"counter": 1 << 16, "histogram": 1 << 20}
"""File size by kind of metric: more than all routes together need."""


def reserve_space() -> None:
    """Allocate the disk space for this process's metrics in advance.

    A process that writes to a memory-mapped file on a full disk is killed (SIGBUS). If the disk is full already, the
    metrics stay in this process's memory.
    """
    if not (folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR")):
        return
    files = {Path(folder, f"{kind}_{os.getpid()}.db"): size for kind, size in _BYTES.items()}
    try:
        for file, size in files.items():
            file.write_bytes(bytes(size))
    except OSError:
        for file in files:
            file.unlink(missing_ok=True)
        from prometheus_client import values

        vars(values)["MmapedDict"] = _InMemory  # looked up there at the first metric


class _InMemory:
    """A replacement for prometheus-client's memory-mapped file."""

    def __init__(self, *_: Any) -> None:
        self._values: dict[str, tuple[float, float]] = {}

    def read_value(self, key: str) -> tuple[float, float]:
        return self._values.setdefault(key, (0.0, 0.0))

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        self._values[key] = (value, timestamp)

    def close(self) -> None:
        self._values.clear()
