"""The library of mergeable aggregates. In: frames of events, tables of accumulators. Out: tables of accumulators, results. Pure.

An aggregate is a result over accumulators; an accumulator is what can be merged: `add` makes it from events, `merge` makes one
of many. Merging is associative and commutative (exactly for integers and decimals), so a window may be put together from its
slices in any order and grouping. KPIs share accumulators: a mean, a sum and a count of one column need `sum` and `n` once.

    one value a row: `sum:total`        add and merge are polars expressions in one group_by
    one list a row:  `buckets:latency`  pairs of what was met and how often (see tallies.py); what it is made of is grouped once more
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache, partial

import numpy as np
import polars as pl

from flows import runs, sketches, tallies
from flows.plan import Kpi, TopicPlan, dtype_of
from flows.tallies import ITEM, ROW
from flows.windows import END, START

EVENTS = "events"
TIME, FIRST_TIME, LAST_TIME = "time", "at:first", "at:last"
LONG_MAX = 2**63 - 1
BEYOND = 2**127 - 1  # all integers and unscaled decimals are below
WRAPS = 1.5e38  # a sum this far out may not fit 128 bits, 1.7e38


@dataclass(frozen=True, slots=True)
class Accumulator:
    """`add(column)`: events -> one value; `merge(column name, of)`: values -> one value; `zero`: of no events; all of type `dtype`."""

    add: Callable[[pl.Expr], pl.Expr]
    merge: Callable[[str, str], pl.Expr]
    dtype: pl.DataType
    zero: float | None = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """`pairs`: events (ROW, ITEM without nulls, ORDER where there is one) -> pairs; `merge`: pairs of a row -> as few as say the same.

    A row of no events has null.
    """

    pairs: Callable[[pl.DataFrame], pl.DataFrame]
    merge: Callable[[pl.DataFrame], pl.DataFrame]
    dtype: pl.DataType


Needed = dict[str, tuple[str, Accumulator | Listing]]


def _total(name: str, _: str) -> pl.Expr:
    return pl.col(name).sum()


def _merged_mean(name: str, of: str) -> pl.Expr:
    n = pl.col(f"n:{of}").sum()
    return pl.when(n > 0).then((pl.col(name) * pl.col(f"n:{of}")).sum() / n)


def _merged_m2(name: str, of: str) -> pl.Expr:
    """Sum of squared distances from the mean of two or more stretches. (Chan, Golub, LeVeque 1983.)"""
    apart = pl.col(f"mean:{of}") - _merged_mean(f"mean:{of}", of)
    return pl.col(name).sum() + (pl.col(f"n:{of}") * apart * apart).sum()


def _order(values: pl.Expr) -> pl.Expr:
    return pl.when(values.is_not_null()).then(pl.col(runs.ORDER))


def _wide(kind: str) -> pl.DataType:
    """The type of sums, wide enough for any number of events: 128 bits for integers, and for the unscaled value of decimals."""
    return {"boolean": pl.Int64(), "float": pl.Float64()}.get(kind, pl.Int128())


def _accumulators(kind: str, scale: int) -> dict[str, Accumulator]:
    """The 128 bits of a sum of decimals may wrap; a double beside it tells whether they did (`size`)."""
    own = dtype_of(kind, scale)
    return {
        "n": Accumulator(lambda c: c.count().cast(pl.Int64), _total, pl.Int64()),
        "sum": Accumulator(lambda c: c.to_physical().cast(_wide(kind)).sum(), _total, _wide(kind)),
        "size": Accumulator(lambda c: c.to_physical().cast(pl.Float64).sum(), _total, pl.Float64()),
        "min": Accumulator(lambda c: c.min(), lambda name, _: pl.col(name).min(), own, None),
        "max": Accumulator(lambda c: c.max(), lambda name, _: pl.col(name).max(), own, None),
        "mean": Accumulator(lambda c: c.cast(pl.Float64).mean(), _merged_mean, pl.Float64(), None),
        "m2": Accumulator(lambda c: (c.cast(pl.Float64).var() * (c.count() - 1)).fill_null(0.0), _merged_m2, pl.Float64()),
        "first": Accumulator(lambda c: c.min_by(_order(c)), lambda name, of: pl.col(name).min_by(f"first_at:{of}"), own, None),
        "first_at": Accumulator(lambda c: _order(c).min(), lambda name, _: pl.col(name).min(), pl.Int128(), None),
        "last": Accumulator(lambda c: c.max_by(_order(c)), lambda name, of: pl.col(name).max_by(f"last_at:{of}"), own, None),
        "last_at": Accumulator(lambda c: _order(c).max(), lambda name, _: pl.col(name).max(), pl.Int128(), None),
    }


def _items(items: Callable[[pl.Series], pl.Series], pairs: pl.DataFrame) -> pl.DataFrame:
    return pairs.select(ROW, items(pairs[ITEM]).alias(ITEM))


def _texts(values: pl.Series) -> pl.Series:
    return values.cast(pl.String)


def _bins(edges: tuple[float, ...], values: pl.Series) -> pl.Series:
    """The number of the bin of each value, exactly. Of decimals an edge is what is written: 0.1 is not below 0.1."""
    if values.dtype.is_float():
        return pl.Series(np.searchsorted(edges, values.to_numpy(), side="right").astype(np.int32))
    scale = values.dtype.scale if isinstance(values.dtype, pl.Decimal) else None
    return _least(edges, scale).search_sorted(values.to_physical().cast(pl.Int128), side="right").cast(pl.Int32)


@lru_cache
def _least(edges: tuple[float, ...], scale: int | None) -> pl.Series:
    """Of each edge the smallest value, in units of the last digit, that is not below it; one beyond all values for an edge beyond them."""
    exact = [Fraction(edge) if scale is None else Fraction(repr(edge)) * 10**scale for edge in edges]
    return pl.Series([min(max(math.ceil(it), -BEYOND), BEYOND) for it in exact], dtype=pl.Int128)


def _listings(kind: str, edges: tuple[float, ...]) -> dict[str, Listing]:
    texts, numbers = tallies.tally_of(pl.String()), tallies.tally_of(pl.Int32())
    registers, wide = tallies.tally_of(pl.UInt16(), pl.UInt8()), _wide(kind)
    return {
        "counts": Listing(partial(_items, _texts), tallies.counted, texts),
        "often": Listing(partial(_items, _texts), lambda pairs: tallies.frequent(tallies.counted(pairs)), texts),
        "buckets": Listing(partial(_items, sketches.buckets), tallies.counted, numbers),
        "bins": Listing(partial(_items, partial(_bins, edges)), tallies.counted, numbers),
        "hashes": Listing(lambda pairs: sketches.hashed(pairs.select(ROW, ITEM)), pl.DataFrame.unique, pl.List(pl.UInt64())),
        "registers": Listing(lambda _: tallies.spread(pl.Series(dtype=registers)), sketches.rarest, registers),
        "runs": Listing(lambda pairs: runs.samples(pairs, wide), lambda pairs: pairs, runs.runs_of(wide)),
    }


@dataclass(frozen=True, slots=True)
class Aggregate:
    """`needs`: accumulators; `result`: of a KPI and a table of accumulators named `<accumulator>:<of>` and windows' bounds, its values."""

    needs: tuple[str, ...]
    result: Callable[[Kpi, pl.DataFrame], pl.Expr | pl.Series]


def _of(accumulator: str, kpi: Kpi) -> pl.Expr:
    return pl.col(f"{accumulator}:{kpi.of}")


def _exactly(kpi: Kpi, total: pl.Expr, size: pl.Expr) -> pl.Expr:
    """What was counted in 128 bits, in its own type; null beyond a long, or 38 digits: a wrong number is worse than none."""
    if kpi.kind == "float":
        return total
    fitting = pl.when(_fits(kpi, total, size)).then(total)
    if kpi.kind == "integer":
        return fitting.cast(pl.Int64)
    return fitting.cast(pl.Decimal(38, 0)) * pl.lit(Decimal(1).scaleb(-kpi.scale), pl.Decimal(38, kpi.scale))  # exact: the same digits


def _fits(kpi: Kpi, total: pl.Expr, size: pl.Expr) -> pl.Expr:
    """Whether it is the true one, and one that its Avro type can hold."""
    highest = 10**38 - 1 if kpi.kind == "decimal" else LONG_MAX
    held = total.is_between(pl.lit(-highest - (kpi.kind == "integer"), pl.Int128), pl.lit(highest, pl.Int128))
    return held & (size.abs() < WRAPS) if kpi.kind == "decimal" else held


def _share_of_n(kpi: Kpi, _: pl.DataFrame) -> pl.Expr:
    total = _of("sum", kpi).cast(pl.Float64)
    if kpi.kind == "decimal":
        total = pl.when(_fits(kpi, _of("sum", kpi), _of("size", kpi))).then(total).otherwise(_of("size", kpi)) / 10.0**kpi.scale
    return pl.when(_of("n", kpi) > 0).then(total / _of("n", kpi))


def _deviation(kpi: Kpi, _: pl.DataFrame) -> pl.Expr:
    """The sample's: null below two values."""
    return pl.when(_of("n", kpi) > 1).then((_of("m2", kpi) / (_of("n", kpi) - 1)).sqrt())


def _increase(kpi: Kpi, table: pl.DataFrame) -> pl.Series:
    return runs.rises(table[f"runs:{kpi.of}"]).select(_exactly(kpi, pl.col("rise"), pl.col("size"))).to_series()


def _distinct(kpi: Kpi, table: pl.DataFrame) -> pl.Expr:
    exactly = _of("hashes", kpi).list.len().cast(pl.Int64)
    return pl.coalesce(pl.lit(sketches.estimates(table[f"registers:{kpi.of}"])), exactly, pl.lit(0, pl.Int64))


def _top(kpi: Kpi, table: pl.DataFrame) -> pl.Expr:
    """Where all counts of very many values were taken off it is empty, not null: something was measured."""
    found = tallies.ranked(table[f"often:{kpi.of}"], kpi.k)
    return pl.when(_of("n", kpi) > 0).then(pl.lit(found).fill_null([]))


AGGREGATES = {
    "count": Aggregate(("n",), lambda kpi, _: pl.col(EVENTS) if kpi.of == "*" else _of("n", kpi)),
    "rate": Aggregate((), lambda *_: pl.col(EVENTS) * 1000.0 / (pl.col(END) - pl.col(START))),
    "sum": Aggregate(("sum",), lambda kpi, _: _exactly(kpi, _of("sum", kpi), _of("size", kpi))),
    "mean": Aggregate(("n", "sum"), _share_of_n),
    "share": Aggregate(("n", "sum"), _share_of_n),
    "min": Aggregate(("min",), lambda kpi, _: _of("min", kpi)),
    "max": Aggregate(("max",), lambda kpi, _: _of("max", kpi)),
    "deviation": Aggregate(("n", "mean", "m2"), _deviation),
    "first": Aggregate(("first", "first_at"), lambda kpi, _: _of("first", kpi)),
    "last": Aggregate(("last", "last_at"), lambda kpi, _: _of("last", kpi)),
    "increase": Aggregate(("runs",), _increase),
    "quantile": Aggregate(("buckets",), lambda kpi, table: sketches.quantile(table[f"buckets:{kpi.of}"], kpi.q or 0.0)),
    "distinct": Aggregate(("hashes", "registers"), _distinct),
    "counts": Aggregate(("counts",), lambda kpi, table: tallies.listed(table[f"counts:{kpi.of}"])),
    "top": Aggregate(("n", "often"), _top),
    "histogram": Aggregate(("bins",), lambda kpi, table: tallies.binned(table[_column("bins", kpi)], kpi.edges)),
}


def _column(accumulator: str, kpi: Kpi) -> str:
    """The name of an accumulator's column; that of bins says their edges, as two KPIs may cut one measure in two ways."""
    edges = f"[{','.join(map(str, kpi.edges))}]" if accumulator == "bins" else ""
    return f"{accumulator}{edges}:{kpi.of}"


@lru_cache(maxsize=64)  # by plan: it is asked for with every frame and table
def _needed(plan: TopicPlan) -> Needed:
    """Column name -> (what it is of, accumulator), each once, however many KPIs share it."""
    return _needed_of(plan.kpis)


@lru_cache(maxsize=1_000)  # asked for at every merge
def _needed_of(kpis: tuple[Kpi, ...]) -> Needed:
    needed: Needed = {}
    for kpi in kpis:
        if kpi.of != "*":
            names = AGGREGATES[kpi.aggregate].needs
            more = ("size",) if kpi.kind == "decimal" and "sum" in names else ()
            known = _accumulators(kpi.kind, kpi.scale) | _listings(kpi.kind, kpi.edges)
            needed.update({_column(name, kpi): (kpi.of, known[name]) for name in (*names, *more)})
    return needed


def scales(plan: TopicPlan) -> dict[str, int]:
    """What each decimal is counted in: 10 to the power of minus this."""
    return {kpi.of: kpi.scale for kpi in plan.kpis if kpi.kind == "decimal"}


SAME = {"size": ("sum",)}  # what stands for one that is not there: of an integer that became a decimal


def _times(column: pl.Series, factor: float) -> pl.Series:
    return pl.select(pl.lit(column) * pl.lit(factor, column.dtype)).to_series()


SCALED = {"sum": _times, "size": _times, "runs": runs.scaled}  # of a decimal's unscaled value


def conform(table: pl.DataFrame, plan: TopicPlan, written: Mapping[str, int]) -> pl.DataFrame:
    """A table of an older plan, whose decimals had the scales `written`, as this plan has it.

    What was not measured then, under a former name neither, is of no events; a promoted number has its new type; a decimal its new scale.
    """
    former = dict(plan.aliases)
    columns: list[pl.Expr | pl.Series] = []
    for name, (of, accumulator) in _needed(plan).items():
        head = name.removesuffix(f":{of}")
        known = [(former_head, path) for former_head in (head, *SAME.get(head, ())) for path in (of, *former.get(of, ()))]
        found = next((it for it in known if ":".join(it) in table.columns), None)
        if found is None:
            columns.append(pl.lit(None if isinstance(accumulator, Listing) else accumulator.zero, accumulator.dtype).alias(name))
            continue
        column = table[":".join(found)].cast(accumulator.dtype, strict=False).alias(name)
        if (digits := scales(plan).get(of, 0) - written.get(found[1], 0)) and head in SCALED:
            column = SCALED[head](column, 10**digits).alias(name)
        columns.append(column)
    times = (FIRST_TIME, LAST_TIME) if plan.has_sessions else ()
    kept: list[pl.Expr] = [pl.col(name) for name in table.columns if not _is_accumulator(name) and name not in {FIRST_TIME, LAST_TIME}]
    kept += [pl.col(name) if name in table.columns else pl.lit(None, pl.Int64).alias(name) for name in times]
    return table.select(*kept, *columns)


def _is_accumulator(name: str) -> bool:
    return name.partition(":")[0].partition("[")[0] in {*_accumulators("integer", 0), *_listings("integer", ())}


def add(events: pl.DataFrame, plan: TopicPlan, keys: Sequence[str]) -> pl.DataFrame:
    """A frame's measure columns `of:<of>` as accumulators: a row for each value of the key columns, with the number of its events."""
    needed = _needed(plan)
    table, rows = _grouped(events, keys, _adds(plan), needed)
    if rows is None:
        return table
    order = [runs.ORDER] if plan.is_ordered else []
    pairs = {}
    for name, (of, listing) in needed.items():
        if isinstance(listing, Listing):
            pairs[name] = listing.pairs(events.select(rows, pl.col(f"of:{of}").alias(ITEM), *order).drop_nulls(ITEM))
    return _listed(table, pairs, needed)


def merge(table: pl.DataFrame, plan: TopicPlan, keys: Sequence[str]) -> pl.DataFrame:
    """Rows of accumulators with the same keys as one row; columns that are neither are gone."""
    needed = _needed(plan)
    if len(table) < tallies.SMALL and len(set(table.select(keys).rows())) == len(table):  # merging takes 30 queries
        return table.select(*keys, EVENTS, *((FIRST_TIME, LAST_TIME) if plan.has_sessions else ()), *needed)
    merged, rows = _grouped(table, keys, _merges(plan), needed)
    if rows is None:
        return merged
    pairs = {name: tallies.spread(table[name], rows) for name, (_, a) in needed.items() if isinstance(a, Listing)}
    return _listed(merged, pairs, needed)


@lru_cache(maxsize=64)
def _adds(plan: TopicPlan) -> tuple[pl.Expr, ...]:
    """What `add` computes of each group, lists apart. (To make expressions takes as long as to compute those of a small table.)"""
    made = [a.add(pl.col(f"of:{of}")).alias(name) for name, (of, a) in _needed(plan).items() if isinstance(a, Accumulator)]
    times = [pl.col(TIME).min().alias(FIRST_TIME), pl.col(TIME).max().alias(LAST_TIME)] if plan.has_sessions else []
    return (pl.len().cast(pl.Int64).alias(EVENTS), *times, *made)


@lru_cache(maxsize=64)
def _merges(plan: TopicPlan) -> tuple[pl.Expr, ...]:
    """What `merge` computes."""
    made = [a.merge(name, of).alias(name) for name, (of, a) in _needed(plan).items() if isinstance(a, Accumulator)]
    times = [pl.col(FIRST_TIME).min(), pl.col(LAST_TIME).max()] if plan.has_sessions else []
    return (pl.col(EVENTS).sum(), *times, *made)


def _grouped(table: pl.DataFrame, keys: Sequence[str], made: Sequence[pl.Expr], needed: Needed) -> tuple[pl.DataFrame, pl.Series | None]:
    """A row for each value of the keys; and, if there are lists to be made, which one each row went into."""
    if not any(isinstance(accumulator, Listing) for _, accumulator in needed.values()):
        return tallies.collected(table.lazy().group_by(keys).agg(*made), len(table)), None
    grouped = tallies.collected(table.lazy().with_row_index(ROW).group_by(keys).agg(*made, pl.col(ROW)), len(table))
    return grouped.drop(ROW), tallies.places(grouped[ROW])


def _listed(table: pl.DataFrame, pairs: Mapping[str, pl.DataFrame], needed: Needed) -> pl.DataFrame:
    """A table with the lists of some pairs, merged; columns in the order of what is needed."""
    lists = [
        tallies.gathered(listing.merge(pairs[name]), len(table), listing.dtype).alias(name)
        for name, (_, listing) in needed.items()
        if isinstance(listing, Listing)
    ]
    table = table.with_columns(lists)
    for name, (of, _) in needed.items():
        if name == f"hashes:{of}":
            table = table.with_columns(sketches.bounded(table[name], table[f"registers:{of}"]))
    return table.select(pl.exclude(needed.keys()), *needed)


def settle(table: pl.DataFrame, plan: TopicPlan) -> pl.DataFrame:
    """Accumulators of closed slices, to which nothing will be added: what had to wait for that is reduced."""
    counters = {kpi.of for kpi in plan.kpis if kpi.aggregate == "increase"}
    return table.with_columns(runs.joined(table[f"runs:{of}"]) for of in counters) if counters else table


def results(table: pl.DataFrame, plan: TopicPlan) -> pl.DataFrame:
    """The KPI columns, named `kpi:<name>`, of a table of accumulators and of windows' bounds (START, END), row by row.

    Of several values: lists of `value` (or `bin`, of a histogram) and `n`, in the order in which they are told.
    """
    found = table.select(
        AGGREGATES[kpi.aggregate].result(kpi, table).alias(f"kpi:{kpi.name}") for kpi in plan.kpis if kpi.aggregate != "ratio"
    )
    ratios = [_ratio(kpi) for kpi in plan.kpis if kpi.aggregate == "ratio"]
    return found.with_columns(ratios).select(f"kpi:{kpi.name}" for kpi in plan.kpis) if ratios else found


def _ratio(kpi: Kpi) -> pl.Expr:
    """Null where it is no number, or one beyond a double."""
    above, below = (pl.col(f"kpi:{part}").cast(pl.Float64) for part in kpi.parts)
    return pl.when((below != 0) & (above / below).is_finite()).then(above / below).alias(f"kpi:{kpi.name}")
