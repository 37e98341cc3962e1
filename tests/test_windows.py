"""Stretches of event time, and which window feeds which."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.durations import label
from flows.windows import Window, cascade, start_of


def start(time_ms: int, size_ms: int) -> int:
    return int(pl.select(start_of(pl.lit(time_ms, pl.Int64), size_ms)).item())


@given(st.integers(-(2**53), 2**53), st.integers(1, 10**10))
def test_a_stretch_holds_its_time_and_starts_at_a_multiple_of_its_size(time_ms: int, size_ms: int) -> None:
    first = start(time_ms, size_ms)

    assert first <= time_ms < first + size_ms
    assert first % size_ms == 0


@pytest.mark.parametrize(("time_ms", "first"), [(9_999, 0), (10_000, 10_000), (0, 0), (-1, -10_000), (-10_000, -10_000)])
def test_an_event_on_the_edge_belongs_to_the_later_stretch(time_ms: int, first: int) -> None:
    #  [-10 s -----)[0 -----)[10 s -----)
    assert start(time_ms, 10_000) == first


@given(st.sets(st.integers(1, 400), min_size=1, max_size=6))
def test_a_window_is_fed_by_the_largest_smaller_one_that_fits_into_it(sizes_s: set[int]) -> None:
    windows = [Window(size_s * 1_000, label(size_s * 1_000)) for size_s in sorted(sizes_s)]

    for number, feed in enumerate(cascade([window.size_ms for window in windows])):
        fitting = [w.size_ms for w in windows[:number] if windows[number].size_ms % w.size_ms == 0]
        assert (None if feed is None else windows[feed].size_ms) == max(fitting, default=None)
