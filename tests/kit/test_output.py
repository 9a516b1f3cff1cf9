"""Standard output and error that cannot be written to: nothing waits and nothing raises."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from invitree.kit.process.output import Output
from tests.tmpfs import only_with_tmpfs, tmpfs


@pytest.fixture
def dropped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One element for each text that was dropped."""
    drops: list[int] = []
    monkeypatch.setattr(Output, "on_drop", lambda _: drops.append(1))
    return drops


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe that nobody reads."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_what_a_full_pipe_does_not_take_is_dropped_and_later_lines_are_whole(
    pipe: tuple[int, int], dropped: list[int]
) -> None:
    output = Output(pipe[1])
    for number in range(10_000):
        print(f"{number:0100}", file=output, flush=True)
    assert len(dropped) > 5_000
    before = os.read(pipe[0], 1 << 20)
    print("read again", file=output)
    lines = (before + os.read(pipe[0], 1 << 20)).decode().splitlines()
    assert [int(line) for line in lines[:-1]] == list(range(len(lines) - 1))
    assert lines[-1] == "read again"
    assert len(lines) - 1 + len(dropped) == 10_000


def test_a_line_that_was_cut_off_does_not_spoil_the_next_one(pipe: tuple[int, int], dropped: list[int]) -> None:
    output = Output(pipe[1])
    print("x" * 1_000_000, file=output)
    cut_off = os.read(pipe[0], 1 << 20)
    assert 0 < len(cut_off) < 1_000_000
    print("whole", file=output)
    assert os.read(pipe[0], 1 << 20) == b"\nwhole\n"
    assert len(dropped) == 1


def test_others_who_write_into_the_pipe_may_still_wait(pipe: tuple[int, int]) -> None:
    Output(pipe[1])
    assert os.get_blocking(pipe[1]) == (sys.platform == "linux")


def test_without_a_reader_lines_are_dropped(dropped: list[int]) -> None:
    reading, writing = os.pipe()
    output = Output(writing)
    os.close(reading)
    print("nobody hears", file=output, flush=True)
    os.close(writing)
    assert len(dropped) == 1


@only_with_tmpfs
def test_on_a_full_disk_lines_are_dropped_until_there_is_room(tmp_path: Path, dropped: list[int]) -> None:
    with tmpfs(tmp_path, size="64k"):
        filler, log = tmp_path / "filler", os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
        output = Output(log)
        print("before", file=output)
        with pytest.raises(OSError, match="No space left"):
            filler.write_bytes(b"x" * 100_000)
        for _ in range(100):
            print("x" * 100, file=output)
        filler.unlink()
        print("after", file=output)
        os.close(log)
        lines = (tmp_path / "log").read_text().splitlines()
    assert len(dropped) > 50
    assert (lines[0], lines[-1]) == ("before", "after")


CLOSED = """
import os, sys, warnings
from invitree.kit.process.output import open_standard_streams, shield_output
open_standard_streams()
shield_output()
with open(sys.argv[1], "w") as file:
    print("to standard output", flush=True)
    print("to standard error", file=sys.stderr, flush=True)
    warnings.warn("a warning")
    os.system("echo from a child; echo from a child >&2")
    file.write(f"descriptor {file.fileno()}")
raise ZeroDivisionError
"""


def test_a_process_that_was_started_without_them_writes_into_no_other_file(tmp_path: Path) -> None:
    without = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    done = subprocess.run([*without, sys.executable, "-c", CLOSED, str(tmp_path / "file")], check=False)
    assert done.returncode == 1
    assert (tmp_path / "file").read_text() == "descriptor 3"
