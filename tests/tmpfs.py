"""Small file systems that can be filled, where the machine allows them."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def tmpfs(place: Path, *, size: str) -> Iterator[None]:
    """Mount a file system of this size for the length of a block."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def _is_possible() -> bool:
    if os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as place:
        try:
            with tmpfs(Path(place), size="64k"):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


only_with_tmpfs = pytest.mark.skipif(not _is_possible(), reason="needs root and the right to mount")
