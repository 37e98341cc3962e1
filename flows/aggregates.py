"""The library of mergeable aggregates. In: columns. Out: polars expressions for add, merge and result. Pure.

An aggregate is a result over accumulators; an accumulator is what can be merged: `add` makes it from events, `merge` makes one
of many. Merging is associative and commutative (exactly for integers and decimals), so a window may be put together from its
slices in any order and grouping. KPIs share accumulators: a mean, a sum and a count of one column need `sum` and `n` once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import polars as pl

from flows.plan import Kpi, TopicPlan, dtype_of
from flows.windows import END, START

EVENTS = "events"
LONG_MAX = 2**63 - 1
WRAPS = 1.5e38  # a sum this far out may not fit 128 bits, 1.7e38


@dataclass(frozen=True, slots=True)
class Accumulator:
    """`add(column)`: events -> one value; `merge(column name, of)`: values -> one value; `zero`: of no events; all of type `dtype`."""

    add: Callable[[pl.Expr], pl.Expr]
    merge: Callable[[str, str], pl.Expr]
    dtype: pl.DataType
    zero: float | None = 0


def _total(name: str, _: str) -> pl.Expr:
    return pl.col(name).sum()


def _merged_mean(name: str, of: str) -> pl.Expr:
    n = pl.col(f"n:{of}").sum()
    return pl.when(n > 0).then((pl.col(name) * pl.col(f"n:{of}")).sum() / n)


def _merged_m2(name: str, of: str) -> pl.Expr:
    """Sum of squared distances from the mean of two or more stretches. (Chan, Golub, LeVeque 1983.)"""
    apart = pl.col(f"mean:{of}") - _merged_mean(f"mean:{of}", of)
    return pl.col(name).sum() + (pl.col(f"n:{of}") * apart * apart).sum()


def _accumulators(kind: str, scale: int) -> dict[str, Accumulator]:
    """Sums are wide enough for any number of events: 128 bits for integers; for decimals 128 bits that may wrap, of the unscaled
    value, and beside them a double that tells whether they did (`size`).
    """
    wide: pl.DataType = {"boolean": pl.Int64(), "float": pl.Float64()}.get(kind, pl.Int128())
    own = dtype_of(kind, scale)
    return {
        "n": Accumulator(lambda c: c.count().cast(pl.Int64), _total, pl.Int64()),
        "sum": Accumulator(lambda c: c.to_physical().cast(wide).sum(), _total, wide),
        "size": Accumulator(lambda c: c.to_physical().cast(pl.Float64).sum(), _total, pl.Float64()),
        "min": Accumulator(lambda c: c.min(), lambda name, _: pl.col(name).min(), own, None),
        "max": Accumulator(lambda c: c.max(), lambda name, _: pl.col(name).max(), own, None),
        "mean": Accumulator(lambda c: c.cast(pl.Float64).mean(), _merged_mean, pl.Float64(), None),
        "m2": Accumulator(lambda c: (c.cast(pl.Float64).var() * (c.count() - 1)).fill_null(0.0), _merged_m2, pl.Float64()),
    }


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`needs`: accumulators; `result(kpi)`: the KPI's value, made from accumulators named `<accumulator>:<of>` and the window's bounds."""

    needs: tuple[str, ...]
    result: Callable[[Kpi], pl.Expr]


def _of(accumulator: str, kpi: Kpi) -> pl.Expr:
    return pl.col(f"{accumulator}:{kpi.of}")


def _fits(kpi: Kpi) -> pl.Expr:
    """Whether a sum is the true one, and one that its Avro type can hold."""
    highest = 10**38 - 1 if kpi.kind == "decimal" else LONG_MAX
    held = _of("sum", kpi).is_between(pl.lit(-highest - (kpi.kind == "integer"), pl.Int128), pl.lit(highest, pl.Int128))
    return held & (_of("size", kpi).abs() < WRAPS) if kpi.kind == "decimal" else held


def _sum(kpi: Kpi) -> pl.Expr:
    """Beyond a long, or 38 digits, it is null: a wrong number is worse than none."""
    if kpi.kind == "float":
        return _of("sum", kpi)
    fitting = pl.when(_fits(kpi)).then(_of("sum", kpi))
    if kpi.kind == "integer":
        return fitting.cast(pl.Int64)
    return fitting.cast(pl.Decimal(38, 0)) * pl.lit(Decimal(1).scaleb(-kpi.scale), pl.Decimal(38, kpi.scale))  # exact: the same digits


def _share_of_n(kpi: Kpi) -> pl.Expr:
    total = _of("sum", kpi).cast(pl.Float64)
    if kpi.kind == "decimal":
        total = pl.when(_fits(kpi)).then(total).otherwise(_of("size", kpi)) / 10.0**kpi.scale
    return pl.when(_of("n", kpi) > 0).then(total / _of("n", kpi))


def _deviation(kpi: Kpi) -> pl.Expr:
    """The sample's: null below two values."""
    return pl.when(_of("n", kpi) > 1).then((_of("m2", kpi) / (_of("n", kpi) - 1)).sqrt())


AGGREGATES = {
    "count": Aggregate(("n",), lambda kpi: pl.col(EVENTS) if kpi.of == "*" else _of("n", kpi)),
    "rate": Aggregate((), lambda _: pl.col(EVENTS) * 1000.0 / (pl.col(END) - pl.col(START))),
    "sum": Aggregate(("sum",), _sum),
    "mean": Aggregate(("n", "sum"), _share_of_n),
    "share": Aggregate(("n", "sum"), _share_of_n),
    "min": Aggregate(("min",), lambda kpi: _of("min", kpi)),
    "max": Aggregate(("max",), lambda kpi: _of("max", kpi)),
    "deviation": Aggregate(("n", "mean", "m2"), _deviation),
}


def _needed(plan: TopicPlan) -> dict[str, tuple[str, Accumulator]]:
    """Column name -> (what it is of, accumulator), each once, however many KPIs share it."""
    needed = {}
    for kpi in plan.kpis:
        if kpi.of != "*":
            names = AGGREGATES[kpi.aggregate].needs
            more = ("size",) if kpi.kind == "decimal" and "sum" in names else ()
            needed.update({f"{name}:{kpi.of}": (kpi.of, _accumulators(kpi.kind, kpi.scale)[name]) for name in (*names, *more)})
    return needed


def scales(plan: TopicPlan) -> dict[str, int]:
    """What each decimal is counted in: 10 to the power of minus this."""
    return {kpi.of: kpi.scale for kpi in plan.kpis if kpi.kind == "decimal"}


def conform(table: pl.DataFrame, plan: TopicPlan, written: Mapping[str, int]) -> pl.DataFrame:
    """A table of an older plan, whose decimals had the scales `written`, as this plan has it.

    What was not measured then, under a former name neither, is of no events; a promoted number has its new type; a decimal its new scale.
    """
    columns = []
    former = dict(plan.aliases)
    for name, (of, accumulator) in _needed(plan).items():
        known = (of, *former.get(of, ()))
        written_of = next((path for path in known if f"{name.partition(':')[0]}:{path}" in table.columns), None)
        if written_of is None:
            columns.append(pl.lit(accumulator.zero, accumulator.dtype).alias(name))
            continue
        column = pl.col(f"{name.partition(':')[0]}:{written_of}").cast(accumulator.dtype, strict=False).alias(name)
        digits = scales(plan).get(of, 0) - written.get(written_of, scales(plan).get(of, 0))
        columns.append(column * pl.lit(10**digits, accumulator.dtype) if digits and name.startswith(("sum:", "size:")) else column)
    kept = [pl.col(name) for name in table.columns if not _is_accumulator(name)]
    return table.select(*kept, *columns) if columns else table


def _is_accumulator(name: str) -> bool:
    return name.partition(":")[0] in _accumulators("integer", 0)


def add(events: pl.DataFrame, plan: TopicPlan, keys: Sequence[str]) -> pl.DataFrame:
    """A frame's measure columns `of:<of>` as accumulators: a row for each value of the key columns, with the number of its events."""
    made = [a.add(pl.col(f"of:{of}")).alias(name) for name, (of, a) in _needed(plan).items()]
    return events.lazy().group_by(keys).agg(pl.len().cast(pl.Int64).alias(EVENTS), *made).collect()


def merge(table: pl.DataFrame, plan: TopicPlan, keys: Sequence[str]) -> pl.DataFrame:
    """Rows of accumulators with the same keys as one row; columns that are neither are gone."""
    return table.group_by(keys).agg(pl.col(EVENTS).sum(), *(a.merge(name, of).alias(name) for name, (of, a) in _needed(plan).items()))


def settle(table: pl.DataFrame, plan: TopicPlan) -> pl.DataFrame:  # noqa: ARG001 - soon
    """Accumulators of closed slices, to which nothing will be added: what had to wait for that is reduced."""
    return table


def results(table: pl.DataFrame, plan: TopicPlan) -> pl.DataFrame:
    """The KPI columns, named `kpi:<name>`, of a table of accumulators and of windows' bounds (START, END), row by row."""
    return table.select(AGGREGATES[kpi.aggregate].result(kpi).alias(f"kpi:{kpi.name}") for kpi in plan.kpis)
