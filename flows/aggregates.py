"""The library of mergeable aggregates. In: columns. Out: polars expressions for add, merge and result. Pure.

An aggregate is a result over accumulators; an accumulator is what can be merged: `add` makes it from events, `merge` makes one
of many. Merging is associative and commutative (exactly for integers and decimals), so a window may be put together from its
slices in any order and grouping. KPIs share accumulators: a mean, a sum and a count of one column need `sum` and `n` once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl

from flows.plan import Kpi, TopicPlan

EVENTS = "events"
LONG_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Accumulator:
    """`add(column)`: events -> one value; `merge(column name, of)`: values -> one value of the same type."""

    add: Callable[[pl.Expr], pl.Expr]
    merge: Callable[[str, str], pl.Expr]


def _merged_n(of: str) -> pl.Expr:
    return pl.col(f"n:{of}").sum()


def _merged_mean(name: str, of: str) -> pl.Expr:
    n = _merged_n(of)
    return pl.when(n > 0).then((pl.col(name) * pl.col(f"n:{of}")).sum() / n)


def _merged_m2(name: str, of: str) -> pl.Expr:
    """Sum of squared distances from the mean of two or more stretches. (Chan, Golub, LeVeque 1983.)"""
    apart = pl.col(f"mean:{of}") - _merged_mean(f"mean:{of}", of)
    return pl.col(name).sum() + (pl.col(f"n:{of}") * apart * apart).sum()


def _wide(column: pl.Expr, kind: str) -> pl.Expr:
    """Wide enough that no sum of events overflows: 128 bits for integers; decimals have them already."""
    return column.cast({"integer": pl.Int128, "boolean": pl.Int64, "float": pl.Float64}[kind]) if kind != "decimal" else column


def _accumulators(kind: str) -> dict[str, Accumulator]:
    return {
        "n": Accumulator(lambda c: c.count().cast(pl.Int64), lambda name, _: pl.col(name).sum()),
        "sum": Accumulator(lambda c: _wide(c, kind).sum(), lambda name, _: pl.col(name).sum()),
        "min": Accumulator(lambda c: c.min(), lambda name, _: pl.col(name).min()),
        "max": Accumulator(lambda c: c.max(), lambda name, _: pl.col(name).max()),
        "mean": Accumulator(lambda c: c.cast(pl.Float64).mean(), _merged_mean),
        "m2": Accumulator(lambda c: (c.cast(pl.Float64).var() * (c.count() - 1)).fill_null(0.0), _merged_m2),
    }


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`needs`: accumulators; `result(kpi, size_ms)`: the KPI's value, made from accumulators named `<accumulator>:<of>`."""

    needs: tuple[str, ...]
    result: Callable[[Kpi, int], pl.Expr]


def _of(accumulator: str, kpi: Kpi) -> pl.Expr:
    return pl.col(f"{accumulator}:{kpi.of}")


def _share_of_n(kpi: Kpi, _: int) -> pl.Expr:
    return pl.when(_of("n", kpi) > 0).then(_of("sum", kpi).cast(pl.Float64) / _of("n", kpi))


def _sum(kpi: Kpi, _: int) -> pl.Expr:
    """Beyond a long an integer sum is null: a wrong number is worse than none."""
    total = _of("sum", kpi)
    return total if kpi.kind != "integer" else pl.when(total.is_between(-LONG_MAX - 1, LONG_MAX)).then(total).cast(pl.Int64)


def _deviation(kpi: Kpi, _: int) -> pl.Expr:
    """The sample's: null below two values."""
    return pl.when(_of("n", kpi) > 1).then((_of("m2", kpi) / (_of("n", kpi) - 1)).sqrt())


AGGREGATES = {
    "count": Aggregate(("n",), lambda kpi, _: pl.col(EVENTS) if kpi.of == "*" else _of("n", kpi)),
    "rate": Aggregate((), lambda _, size_ms: pl.col(EVENTS) * 1000.0 / size_ms),
    "sum": Aggregate(("sum",), _sum),
    "mean": Aggregate(("n", "sum"), _share_of_n),
    "share": Aggregate(("n", "sum"), _share_of_n),
    "min": Aggregate(("min",), lambda kpi, _: _of("min", kpi)),
    "max": Aggregate(("max",), lambda kpi, _: _of("max", kpi)),
    "deviation": Aggregate(("n", "mean", "m2"), _deviation),
}


def _needed(plan: TopicPlan) -> dict[str, tuple[str, Accumulator]]:
    """Column name -> (what it is of, accumulator), each once, however many KPIs share it."""
    measuring = (kpi for kpi in plan.kpis if kpi.of != "*")
    return {f"{name}:{kpi.of}": (kpi.of, _accumulators(kpi.kind)[name]) for kpi in measuring for name in AGGREGATES[kpi.aggregate].needs}


def names(plan: TopicPlan) -> tuple[str, ...]:
    """The columns of a table of accumulators, but for its keys."""
    return (EVENTS, *_needed(plan))


def add(plan: TopicPlan) -> list[pl.Expr]:
    """Aggregations that make accumulators of a frame's measure columns `of:<of>`, and the number of events."""
    return [pl.len().cast(pl.Int64).alias(EVENTS), *(a.add(pl.col(f"of:{of}")).alias(name) for name, (of, a) in _needed(plan).items())]


def merge(plan: TopicPlan) -> list[pl.Expr]:
    """Aggregations that make one row of accumulators of many."""
    return [pl.col(EVENTS).sum(), *(a.merge(name, of).alias(name) for name, (of, a) in _needed(plan).items())]


def results(plan: TopicPlan, size_ms: int) -> list[pl.Expr]:
    """The KPI columns, named `kpi:<name>`, of a table of accumulators; `size_ms` is the window's size."""
    return [AGGREGATES[kpi.aggregate].result(kpi, size_ms).alias(f"kpi:{kpi.name}") for kpi in plan.kpis]
