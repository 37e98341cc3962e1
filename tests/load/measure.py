"""Figures of a run. In: texts of /metrics, samples. Out: quantiles, a slope. Pure."""

import re
from collections.abc import Mapping, Sequence
from math import inf
from statistics import mean

Buckets = Mapping[float, float]  # upper bound in seconds -> observations up to it, in all


def value(page: str, name: str) -> float:
    """A metric without labels; 0 where it is not there."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", page, re.MULTILINE)
    return float(found[1]) if found else 0.0


def total(page: str, name: str) -> float:
    r"""The sum of a metric over all its labels.

    >>> total('read_total{part="0"} 2.0\nread_total{part="1"} 3.0\nread_created{part="0"} 9.0', "read_total")
    5.0
    """
    return sum(float(count) for count in re.findall(rf"^{re.escape(name)}{{.*}} (\S+)$", page, re.MULTILINE))


def buckets(page: str, name: str) -> dict[float, float]:
    """A histogram."""
    return {
        inf if bound == "+Inf" else float(bound): float(count)
        for bound, count in re.findall(rf'^{re.escape(name)}_bucket{{le="([^"]+)"}} (\S+)$', page, re.MULTILINE)
    }


def between(before: Buckets, after: Buckets) -> dict[float, float]:
    """What a histogram has seen between two looks at it."""
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}


def quantile(seen: Buckets, share: float) -> float:
    """The value below which that share of the observations lies, evenly spread inside of its bucket; 0 without observations.

    >>> quantile({0.1: 50, 0.2: 100, inf: 100}, 0.75)
    0.15
    """
    total = max(seen.values(), default=0.0)
    lower, below = 0.0, 0.0
    for bound, count in sorted(seen.items()):
        if count >= share * total:
            inside = (share * total - below) / (count - below) if count > below else 0.0
            return lower if bound == inf else round(lower + (bound - lower) * inside, 6)
        lower, below = bound, count
    return lower


def percentile(values: Sequence[float], share: float) -> float:
    """The same of single values."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def slope(samples: Sequence[tuple[float, float]]) -> float:
    """By how much y grows for each x: the line with the least squares through (x, y).

    >>> slope([(0, 1), (1, 3), (2, 5)])
    2.0
    """
    if len(samples) < 2:
        return 0.0
    x0, y0 = mean(x for x, _ in samples), mean(y for _, y in samples)
    spread = sum((x - x0) ** 2 for x, _ in samples)
    return sum((x - x0) * (y - y0) for x, y in samples) / spread if spread else 0.0
