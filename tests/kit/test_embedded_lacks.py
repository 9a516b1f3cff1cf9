"""A first start of the embedded PostgreSQL where something runs out: the cause in one line, and nothing left behind."""

import subprocess
from pathlib import Path

import pytest

from invitree.kit.postgres.embedded import EmbeddedError, embedded_postgres
from tests.kit.postmasters import FAST, ask, first_line, hold
from tests.tmpfs import only_with_tmpfs, tmpfs

pytestmark = only_with_tmpfs


# What ends a start: making the files of a cluster, and making the database in it.
@pytest.mark.parametrize("size", ["20m", "40m"])
def test_a_full_disk_is_named_and_the_next_start_works_when_there_is_room(place: Path, size: str) -> None:
    with tmpfs(place, size=size):
        with pytest.raises(EmbeddedError, match="No space left on device"), embedded_postgres(place / "data"):
            pass
        subprocess.run(["mount", "-o", "remount,size=300m", str(place)], check=True)
        with embedded_postgres(place / "data", settings=FAST) as url:
            assert ask(url, "SELECT 1") == ("1", "")


def test_too_little_shared_memory_is_named(place: Path) -> None:
    small = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=64k none /dev/shm && exec "$@"', "sh"]
    holder = hold(place / "data", prefix=small)
    said = first_line(holder)
    holder.communicate(timeout=60)
    assert "could not resize shared memory segment" in said
    assert said.endswith("No space left on device")
