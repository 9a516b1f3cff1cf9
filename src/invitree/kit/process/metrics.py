"""Room for the metrics of several processes: prometheus-client maps a file into the memory of each."""

import os
from pathlib import Path
from typing import Any

_BYTES = {"counter": 1 << 16, "histogram": 1 << 20}
"""By the kind of metric: more than all routes together come to."""


def reserve_space() -> None:
    """Take the disk space for this process's metrics before it has any.

    The system ends a process that writes into a mapped file for which the disk has no room (SIGBUS). If there is none
    now, the process keeps its metrics to itself.
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

        vars(values)["MmapedDict"] = _InMemory  # looked up there when a process begins to count


class _InMemory:
    """What prometheus-client asks of a mapped file."""

    def __init__(self, *_: Any) -> None:
        self._values: dict[str, tuple[float, float]] = {}

    def read_value(self, key: str) -> tuple[float, float]:
        return self._values.setdefault(key, (0.0, 0.0))

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        self._values[key] = (value, timestamp)

    def close(self) -> None:
        self._values.clear()
