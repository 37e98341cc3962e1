"""The figures of a load run are the right ones."""

from math import inf

import pytest

from tests.load.measure import between, buckets, percentile, quantile, slope, value
from tests.load.run import Report

PAGE = """# TYPE frame histogram
frame_bucket{le="0.1"} 1.0
frame_bucket{le="0.2"} 5.0
frame_bucket{le="+Inf"} 5.0
frame_count 5.0
"""


def test_a_metric_and_a_histogram_are_read_from_the_page() -> None:
    assert value(PAGE, "frame_count") == 5
    assert value(PAGE, "frame") == 0
    assert buckets(PAGE, "frame") == {0.1: 1, 0.2: 5, inf: 5}


def test_what_came_between_two_looks_is_their_difference() -> None:
    assert between({0.1: 1, inf: 2}, {0.1: 4, inf: 9}) == {0.1: 3, inf: 7}


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 0.1), (0.75, 0.15), (1.0, 0.2)])
def test_a_quantile_lies_inside_of_its_bucket(share: float, wanted: float) -> None:
    assert quantile({0.1: 50, 0.2: 100, inf: 100}, share) == pytest.approx(wanted)


def test_a_quantile_beyond_the_last_bound_is_that_bound_and_of_nothing_it_is_zero() -> None:
    assert quantile({0.1: 0, 1.0: 0, inf: 10}, 0.5) == 1.0
    assert quantile({}, 0.5) == 0
    assert quantile({0.1: 0, inf: 0}, 0.5) == 0


def test_a_percentile_of_values_is_one_of_them() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([], 0.5) == 0


def test_the_slope_is_that_of_the_line_through_the_points() -> None:
    assert slope([(0, 1), (1, 3), (2, 5)]) == 2
    assert slope([(0, 1)]) == 0
    assert slope([(1, 1), (1, 2)]) == 0


def test_a_run_that_keeps_its_promises_has_no_misses_and_one_that_does_not_names_them() -> None:
    right = Report(mib_a_session=5, frame_p95_ms=250, cores_at_4_hz=1, lag_s=2, beyond=503, beyond_text="All places are taken")
    assert right.misses() == []
    wrong = Report(mib_a_session=6, frame_p95_ms=300, cores_at_4_hz=1.1, lag_s=3, beyond=200, failed=["gone"])
    assert [miss.partition(":")[0] for miss in wrong.misses()] == [
        "MiB a session",
        "p95 of a frame, ms",
        "cores for 4 frames a second of all pages",
        "lag of the flow, s",
        "a page beyond the cap",
        "a visitor",
    ]
