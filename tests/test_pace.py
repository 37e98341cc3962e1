"""A browser gets its next frame when it has painted the last."""

from serve.pace import PATIENCE, Pace


def test_a_frame_is_due_until_one_is_sent() -> None:
    pace = Pace()
    assert [pace.is_due(), pace.is_due()] == [True, True]


def test_no_frame_is_due_until_the_last_is_painted() -> None:
    pace = Pace()
    pace.sent()
    assert [pace.is_due() for _ in range(3)] == [False] * 3
    pace.beat.value = "1"  # what the browser says
    assert pace.is_due()


def test_a_browser_that_never_says_so_gets_a_frame_now_and_then() -> None:
    pace = Pace()
    pace.sent()
    assert [pace.is_due() for _ in range(PATIENCE + 1)] == [False] * PATIENCE + [True]
