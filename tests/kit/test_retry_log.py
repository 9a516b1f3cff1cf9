"""What keeps failing is logged once, and not every time."""

from structlog.testing import capture_logs

from invitree.kit.process.retries import RetryLog


class Watch:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_the_first_failure_a_new_reason_a_count_each_minute_and_the_end_are_logged() -> None:
    watch = Watch()
    retries = RetryLog("listener.lost", now=watch)
    with capture_logs() as logged:
        for second in range(100):
            watch.seconds = second
            retries.failed("OSError: refused" if second < 10 or second % 2 else "TimeoutError")
        retries.succeeded()
        retries.succeeded()
    told = [(one["log_level"], one.get("reason", one.get("over")), one["times"]) for one in logged]
    assert told == [
        ("warning", "OSError: refused", 1),
        ("warning", "TimeoutError", 11),
        ("warning", "TimeoutError", 71),
        ("info", True, 100),
    ]


def test_what_comes_and_goes_every_second_is_logged_once_a_minute() -> None:
    watch = Watch()
    retries = RetryLog("listener.lost", now=watch)
    with capture_logs() as logged:
        for second in range(120):
            watch.seconds = second
            retries.failed("OSError: refused")
            retries.succeeded()
    assert [one["times"] for one in logged] == [1, 1, 61, 61]


def test_a_trouble_after_a_quiet_minute_is_a_new_one() -> None:
    watch = Watch()
    retries = RetryLog("listener.lost", now=watch)
    with capture_logs() as logged:
        for watch.seconds in (0.0, 61.0):
            retries.failed("OSError: refused")
            retries.succeeded()
    assert [one["times"] for one in logged] == [1, 1, 1, 1]


def test_rests_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    retries = RetryLog("listener.lost", first_s=0.25, longest_s=1.0)
    assert [retries.failed("OSError") for _ in range(2_000)] == [0.25, 0.5] + [1.0] * 1_998
    retries.succeeded()
    assert retries.failed("OSError") == 0.25
