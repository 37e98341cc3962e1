"""How far event time has come: one cumulative maximum a partition, one minimum a topic."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.watermark import NEVER, Ends, Mark, before, late, topic_watermark

MESSAGES = st.lists(st.tuples(st.integers(0, 10**6), st.booleans()), max_size=30)
LATENESS = st.integers(0, 10**5)


def marks_of(messages: list[tuple[int, bool]], lateness_ms: int, seen_ms: int = NEVER) -> list[int]:
    times, moves = np.array([t for t, _ in messages], np.int64), np.array([m for _, m in messages], np.bool_)
    return [int(mark) for mark in before(times, moves, lateness_ms, seen_ms)]


@given(MESSAGES, LATENESS, st.integers(-(10**5), 10**6) | st.just(NEVER))
def test_a_watermark_is_the_largest_time_so_far_less_the_lateness(messages: list[tuple[int, bool]], lateness_ms: int, seen_ms: int) -> None:
    want = [max([seen_ms, *(t - lateness_ms for t, moves in messages[:n] if moves)]) for n in range(len(messages) + 1)]

    assert marks_of(messages, lateness_ms, seen_ms) == want


@given(MESSAGES, LATENESS)
def test_a_watermark_never_goes_back(messages: list[tuple[int, bool]], lateness_ms: int) -> None:
    assert all(earlier <= later for earlier, later in pairwise(marks_of(messages, lateness_ms)))


@given(MESSAGES, LATENESS, st.integers(0, 30))
def test_a_cut_between_two_messages_changes_no_watermark(messages: list[tuple[int, bool]], lateness_ms: int, cut: int) -> None:
    first = marks_of(messages[:cut], lateness_ms)

    assert first[:-1] + marks_of(messages[cut:], lateness_ms, first[-1]) == marks_of(messages, lateness_ms)


@pytest.mark.parametrize("impossible", [2**63 - 1, -(2**63), 2**62, -1])
def test_an_impossible_time_moves_nothing(impossible: int) -> None:
    assert marks_of([(5_000, True), (impossible, False), (6_000, True)], 1_000) == [NEVER, 4_000, 4_000, 5_000]


@pytest.mark.parametrize(
    ("time_ms", "watermark_ms", "verdict"),
    [
        (9_999, 9_999, False),  #   [0 ------ t)[10 s      W just before the end: its slice is still open
        (9_999, 10_000, True),  #   [0 ------ t)W          W at the end
        (0, 9_999, False),  #       [t -------W)[10 s      older than W, and not late
        (0, 10_000, True),
        (10_000, 10_000, False),  # [0 -------)[t          on the edge: the later slice
        (10_000, 19_999, False),
        (10_000, 20_000, True),
        (0, NEVER, False),
    ],
)
def test_a_message_is_late_when_the_end_of_its_slice_is_not_above_the_watermark(time_ms: int, watermark_ms: int, *, verdict: bool) -> None:
    assert late(np.array([time_ms]), watermark_ms, 10_000).tolist() == [verdict]


@given(st.dictionaries(st.integers(0, 3), st.builds(Mark, st.integers(0, 99), st.integers(100, 199))), st.integers(1, 4))
def test_a_topic_has_come_as_far_as_its_slowest_partition(marks: dict[int, Mark], partitions: int) -> None:
    heard = [marks.get(p) for p in range(partitions)]

    for promises in (False, True):
        want = min(NEVER if m is None else m.promised_ms if promises else m.seen_ms for m in heard)
        assert topic_watermark(marks, partitions, promises=promises) == want


def test_a_topic_whose_partitions_nobody_has_counted_has_come_nowhere() -> None:
    assert topic_watermark({0: Mark(5, 5)}, 0, promises=True) == NEVER


def test_an_end_is_seen_when_the_position_has_come_to_it() -> None:
    ends = Ends()

    assert ends.seen({0: 5, 1: 5}, {0: 5, 1: 4}, 100) == {0: 100}
    assert ends.seen({0: 6, 1: 6}, {0: 5, 1: 4}, 101) == {}


def test_an_end_that_moves_on_all_the_time_is_reached_as_it_was() -> None:
    #  end        10    20    30    40
    #  position    7     9    15    30
    #  asked at  100   101   102   103          10 is reached at 102, and 30 at 103
    ends = Ends()
    seen = [ends.seen({0: end}, {0: at}, clock_ms) for end, at, clock_ms in ((10, 7, 100), (20, 9, 101), (30, 15, 102), (40, 30, 103))]

    assert seen == [{}, {}, {0: 100}, {0: 102}]


def test_a_backlog_is_not_read_to_its_end_because_it_once_was() -> None:
    ends = Ends()

    assert ends.seen({0: 10}, {0: 10}, 100) == {0: 100}
    assert ends.seen({0: 900}, {0: 10}, 900) == {}
    assert ends.seen({0: 901}, {0: 899}, 901) == {}
    assert ends.seen({0: 902}, {0: 900}, 902) == {0: 900}
