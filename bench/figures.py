"""What measured values say. In: numbers. Out: percentiles, slopes, histograms. Pure; also for who draws, who has no client of Kafka."""

import statistics
from collections.abc import Sequence

EVENTS_A_SECOND = 5_000  # of event time, unless something else is asked for
SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all do not exceed.

    >>> percentile([4, 1, 3, 2], 0.5), percentile([4, 1, 3, 2], 0.51)
    (2, 3)
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """Those that are told, by name."""
    return {name: percentile(values, share) for name, share in SHARES.items()}


def histogram(values: Sequence[float], width: float) -> list[tuple[float, int]]:
    """Where each bar begins, and how many values are in it; from zero to the largest value, without a gap.

    >>> histogram([0, 5, 12, 31], 10)
    [(0, 2), (10, 1), (20, 0), (30, 1)]
    """
    bars = [0] * (int(max(values, default=0) // width) + 1)
    for value in values:
        bars[max(0, int(value // width))] += 1
    return [(number * width, count) for number, count in enumerate(bars)]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the line through the points, by least squares; 0 where there is none.

    >>> slope([(0, 1), (1, 3), (2, 5)])
    2.0
    """
    if len({x for x, _ in points}) < 2:  # noqa: PLR2004 - points that make a line
        return 0.0
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def growth(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of the second half: the slope, and how much higher the median of its last quarter is than that of its first."""
    half = sorted(points)[len(points) // 2 :]
    quarter = max(1, len(half) // 4)
    first, last = ([y for _, y in part] for part in (half[:quarter], half[-quarter:]))
    return slope(half), statistics.median(last) - statistics.median(first) if half else 0.0
