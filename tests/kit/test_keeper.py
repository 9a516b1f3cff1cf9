"""A child process that is kept running."""

import sys
import threading

import pytest

from invitree.kit.process import children as processes
from invitree.kit.process.children import Keeper
from tests.waiting import await_true


def keep_for(command: list[str], *, lines: int) -> list[str]:
    """Keep a command running until so many lines have been told of it; return these."""
    told: list[str] = []
    with Keeper(command, name="worker", report=told.append) as keeper:
        keeping = threading.Thread(target=keeper.keep)
        keeping.start()
        await_true(lambda: len(told) >= lines)
    keeping.join()
    return told[:lines]


def test_a_child_that_ends_at_once_rests_twice_as_long_each_time_up_to_a_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "_FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(processes, "_MAX_DELAY_S", 0.03)
    told = keep_for([sys.executable, "-P", "-c", "raise SystemExit(3)"], lines=4)
    assert told == [
        f"the worker has ended (exit code 3); starting it again in {rest} s"
        for rest in ("0.01", "0.02", "0.03", "0.03")
    ]


def test_a_child_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_FIRST_DELAY_S", 0.01)
    told = keep_for(["/nowhere/at/all"], lines=2)
    assert told[0] == "the worker has ended (No such file or directory); starting it again in 0.01 s"


def test_a_child_that_has_lived_for_a_while_is_started_again_without_a_longer_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(processes, "_FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(processes, "_STABLE_S", 0.0)
    told = keep_for([sys.executable, "-P", "-c", "import os; os.kill(os.getpid(), 9)"], lines=3)
    assert told == ["the worker has ended (signal 9); starting it again in 0.01 s"] * 3
