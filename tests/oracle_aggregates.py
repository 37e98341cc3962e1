"""Aggregates by brute force: all values of a window at once, in exact arithmetic. In: values. Out: the result and its slack. Pure."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

Number = int | float | Decimal
Value = int | float | Decimal | None  # bool is an int
Measured = Value | str | date | time

LONG_MAX = 2**63 - 1
DOUBLE_MAX = math.nextafter(math.inf, 0)
DECIMAL_MAX = 10**38 - 1
EXACT_UP_TO = 1024  # different values that a distinct and a top know one by one

FLOOR = 2.0**-46
"""What doubles cannot do better than, as a share of the size of what was added: 64 units of rounding (2**-52), about 1.4e-14.

1e100 + 1 - 1e100 is 1, and no sum in doubles knows it. So a float sum may miss by FLOOR * sum(|x|), a float mean by FLOOR * mean(|x|), a
deviation by FLOOR * max(|x|), even where that is more than 1e-9 of the result. Integers and decimals get no slack but in deviation, which
is a double. A deviation of 1 around 1e9 has 1.4e-5 of slack; the naive formula misses by whole units.
"""


class Told(NamedTuple):
    """What an aggregate is told beside what it measures."""

    q: float = 0.0  # of a quantile
    k: int = 0  # of a top
    edges: tuple[float, ...] = ()  # of a histogram
    parts: tuple[str, str] = ("", "")  # of a ratio


NOTHING = Told()


@dataclass(frozen=True, slots=True)
class Nearly:
    """A number that may be off by a share of one of these."""

    values: tuple[float, ...]
    share: float
    type: type

    def holds(self, got: object) -> bool:
        """Whether it is."""
        if type(got) is not self.type or not isinstance(got, int | float) or not math.isfinite(got):
            return False
        return any(
            abs(Fraction(got) - Fraction(value)) <= Fraction(self.share * (1 + 1e-9)) * abs(Fraction(value)) for value in self.values
        )


@dataclass(frozen=True, slots=True)
class Anything:
    """A number that cannot be judged: what it divides by may be nothing but rounding."""

    def holds(self, got: object) -> bool:
        """Whether it is a double, or null."""
        return got is None or isinstance(got, float)


@dataclass(frozen=True, slots=True)
class Heaviest:
    """The k most frequent of more values than are known one by one (Misra and Gries): counts may be n / 1,025 too low."""

    counts: Mapping[str, int]
    k: int

    def holds(self, got: object) -> bool:
        """Whether no count is too high or too low, they come in order, and nothing is missing that must be there."""
        pairs = pairs_of(got)
        if pairs is None or len(pairs) > self.k or len(dict(pairs)) < len(pairs):
            return False
        low = Fraction(sum(self.counts.values()), EXACT_UP_TO + 1)
        right = all(self.counts.get(value, 0) - low <= count <= self.counts.get(value, 0) for value, count in pairs)
        least = min((count for _, count in pairs), default=0) if len(pairs) == self.k else 0
        missed = [count for value, count in self.counts.items() if value not in dict(pairs) and count - low > least]
        return right and not missed and pairs == sorted(pairs, key=_by_count)


Expected = Measured | Mapping[str, int] | Sequence[tuple[str, int]] | Nearly | Anything | Heaviest


def result(  # noqa: PLR0911 - an aggregate a return
    aggregate: str, values: Sequence[Measured], events: int, size_ms: int, told: Told = NOTHING
) -> tuple[Expected, float]:
    """The aggregate of a window's values, in order of their events, null for none, and by how much a float may miss it.

    NaN and infinities are left out.
    """
    there = measured(values)
    numbers = [v for v in there if isinstance(v, Number)]
    match aggregate:
        case "count":
            return events, 0.0
        case "rate":
            return float(Fraction(events * 1000, size_ms)), 0.0
        case "sum":
            return _sum(numbers), FLOOR * _magnitude(numbers)
        case "deviation":
            return _deviation(numbers), FLOOR * max((abs(float(v)) for v in numbers), default=0.0)
        case "distinct":
            return _distinct(there), 0.0
    if not there:
        return None, 0.0
    match aggregate:
        case "mean" | "share":
            return float(sum(map(Fraction, numbers)) / len(numbers)), FLOOR * _magnitude(numbers) / len(numbers)
        case "increase":
            grown = [b - a if b >= a else b for a, b in pairwise(numbers)]  # type: ignore[operator] # all of one kind
            return _sum([type(numbers[0])(0), *grown]), FLOOR * (_magnitude(grown) + _magnitude(numbers))
    return OF_SOME[aggregate](there, told), 0.0


def measured(values: Sequence[Measured]) -> list[int | float | Decimal | str | date | time]:
    """Without null, NaN and infinities."""
    return [v for v in values if v is not None and not (isinstance(v, float) and not math.isfinite(v))]


def _distinct(there: Sequence[Measured]) -> int | Nearly:
    """Python holds 0.0 and -0.0 for equal, and 1.0 and 1.00."""
    number = len(set(there))
    return number if number <= EXACT_UP_TO else Nearly((number,), 0.02, int)


def _quantile(there: Sequence[Measured], told: Told) -> float | Nearly:
    """Where q * (n - 1) is whole but for the rounding of doubles, either rank is right."""
    ordered = sorted(float(v) for v in there if isinstance(v, Number))
    last = len(ordered) - 1
    ranks = {math.floor(told.q * last), math.floor(Fraction(str(told.q)) * last)}
    return Nearly(tuple(ordered[rank] for rank in ranks), 0.01, float)


def _counted(there: Sequence[Measured]) -> Counter[str]:
    return Counter(str(v).lower() if isinstance(v, bool) else str(v) for v in there)


def _by_count(pair: tuple[str, int]) -> tuple[int, str]:
    return -pair[1], pair[0]


def _top(there: Sequence[Measured], told: Told) -> Sequence[tuple[str, int]] | Heaviest:
    counts = _counted(there)
    return sorted(counts.items(), key=_by_count)[: told.k] if len(counts) <= EXACT_UP_TO else Heaviest(counts, told.k)


def _histogram(there: Sequence[Measured], told: Told) -> Sequence[tuple[str, int]]:
    """Each value is in one bin: [edge, next edge). An edge means what is written, so that a decimal of 0.1 is not below 0.1."""
    spelled = [f"{edge:.10g}" for edge in told.edges]
    labels = [f"< {spelled[0]}", *(f"{a} – {b}" for a, b in pairwise(spelled)), f"≥ {spelled[-1]}"]  # noqa: RUF001 - en dash
    counts = dict.fromkeys(labels, 0)
    for value in there:
        assert isinstance(value, Number)
        exact = [Fraction(repr(edge)) if isinstance(value, Decimal) else Fraction(edge) for edge in told.edges]
        counts[labels[sum(edge <= Fraction(value) for edge in exact)]] += 1
    return list(counts.items())


OF_SOME: Mapping[str, Callable[[Sequence[Measured], Told], Expected]] = {
    "min": lambda there, _: min(there),  # type: ignore[type-var] # all of one kind
    "max": lambda there, _: max(there),  # type: ignore[type-var] # all of one kind
    "first": lambda there, _: there[0],
    "last": lambda there, _: there[-1],
    "counts": lambda there, _: dict(_counted(there)),
    "quantile": _quantile,
    "top": _top,
    "histogram": _histogram,
}


def ratio(above: tuple[Expected, float], below: tuple[Expected, float]) -> tuple[Expected, float]:
    """One KPI by another, each with its slack; null where either is, where the lower is 0, and beyond a double."""
    (a, a_slack), (b, b_slack) = (_plain(*part) for part in (above, below))
    if a is None or b is None or (b == 0 and not b_slack):
        return None, 0.0
    if abs(b) <= b_slack:
        return Anything(), 0.0
    try:
        exact = float(Fraction(a) / Fraction(b))
    except OverflowError:
        return None, 0.0
    return exact, (a_slack + abs(exact) * b_slack) / (abs(b) - b_slack)


def _plain(value: Expected, slack: float) -> tuple[float | None, float]:
    if isinstance(value, Nearly):
        return value.values[0], value.share * abs(value.values[0])
    assert value is None or isinstance(value, Number), f"{value!r} is not one number"
    return None if value is None else float(value), slack


def pairs_of(got: object) -> list[tuple[str, int]] | None:
    """A list of two-field records as pairs, None if it is none."""
    if not isinstance(got, Sequence) or not all(isinstance(one, Mapping) and len(one) == 2 for one in got):
        return None
    return [tuple(one.values()) for one in got]


def _sum(numbers: Sequence[Number]) -> Number | None:
    """Exact sum in the values' own type; 0 of nothing; null where an integer leaves a long, or a decimal its 38 digits."""
    exact = sum(map(Fraction, numbers), Fraction(0))
    if any(isinstance(v, float) for v in numbers):
        return float(exact)
    if any(isinstance(v, Decimal) for v in numbers):
        scale = max(0, *(-int(v.as_tuple().exponent) for v in numbers if isinstance(v, Decimal)))
        unscaled = int(exact * 10**scale)
        return Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -scale)) if abs(unscaled) <= DECIMAL_MAX else None
    return int(exact) if -LONG_MAX - 1 <= exact <= LONG_MAX else None


def _deviation(numbers: Sequence[Number]) -> float | None:
    """The sample's: sqrt(sum((x - mean)^2) / (n - 1)); null below two values."""
    if len(numbers) < 2:
        return None
    exact = [Fraction(v) for v in numbers]
    mean = sum(exact) / len(exact)
    return math.sqrt(sum((x - mean) ** 2 for x in exact) / (len(exact) - 1))


def _magnitude(numbers: Sequence[Number]) -> float:
    """Sum of the absolute values of floats; 0 for integers and decimals, which are exact."""
    return math.fsum(abs(v) for v in numbers if isinstance(v, float))
