"""Aggregates by brute force: all values of a window at once, in exact arithmetic. In: values. Out: the result and its slack. Pure."""

import math
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

Number = int | float | Decimal
Value = int | float | Decimal | None  # bool is an int

LONG_MAX = 2**63 - 1
DECIMAL_MAX = 10**38 - 1

FLOOR = 2.0**-46
"""What doubles cannot do better than, as a share of the size of what was added: 64 units of rounding (2**-52), about 1.4e-14.

1e100 + 1 - 1e100 is 1, and no sum in doubles knows it. So a float sum may miss by FLOOR * sum(|x|), a float mean by FLOOR * mean(|x|), a
deviation by FLOOR * max(|x|), even where that is more than 1e-9 of the result. Integers and decimals get no slack but in deviation, which
is a double. A deviation of 1 around 1e9 has 1.4e-5 of slack; the naive formula misses by whole units.
"""


def result(  # noqa: PLR0911 - an aggregate a return
    aggregate: str, values: Sequence[Value], events: int, size_ms: int
) -> tuple[Number | None, float]:
    """The aggregate of a window's values, null for none, and by how much a float may miss it. NaN and infinities are left out."""
    measured = [v for v in values if v is not None and not (isinstance(v, float) and not math.isfinite(v))]
    if aggregate == "count":
        return events, 0.0
    if aggregate == "rate":
        return float(Fraction(events * 1000, size_ms)), 0.0
    if aggregate == "sum":
        return _sum(measured), FLOOR * _magnitude(measured)
    if aggregate == "deviation":
        return _deviation(measured), FLOOR * max((abs(float(v)) for v in measured), default=0.0)
    if not measured:
        return None, 0.0
    if aggregate == "min":
        return min(measured), 0.0
    if aggregate == "max":
        return max(measured), 0.0
    if aggregate in {"mean", "share"}:
        return float(sum(map(Fraction, measured)) / len(measured)), FLOOR * _magnitude(measured) / len(measured)
    raise ValueError(f"aggregate: got {aggregate}, want one of the specification")


def _sum(measured: Sequence[Number]) -> Number | None:
    """Exact sum in the values' own type; 0 of nothing; null where an integer leaves a long, or a decimal its 38 digits."""
    exact = sum(map(Fraction, measured), Fraction(0))
    if any(isinstance(v, float) for v in measured):
        return float(exact)
    if any(isinstance(v, Decimal) for v in measured):
        scale = max(0, *(-int(v.as_tuple().exponent) for v in measured if isinstance(v, Decimal)))
        unscaled = int(exact * 10**scale)
        return Decimal((int(unscaled < 0), tuple(map(int, str(abs(unscaled)))), -scale)) if abs(unscaled) <= DECIMAL_MAX else None
    return int(exact) if -LONG_MAX - 1 <= exact <= LONG_MAX else None


def _deviation(measured: Sequence[Number]) -> float | None:
    """The sample's: sqrt(sum((x - mean)^2) / (n - 1)); null below two values."""
    if len(measured) < 2:
        return None
    exact = [Fraction(v) for v in measured]
    mean = sum(exact) / len(exact)
    return math.sqrt(sum((x - mean) ** 2 for x in exact) / (len(exact) - 1))


def _magnitude(measured: Sequence[Number]) -> float:
    """Sum of the absolute values of floats; 0 for integers and decimals, which are exact."""
    return math.fsum(abs(v) for v in measured if isinstance(v, float))
