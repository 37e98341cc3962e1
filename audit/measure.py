"""Decoded messages to what is counted of them. In: frames of leaves, a plan. Out: the columns of a part (see COLUMNS). Pure.

Expressions and `where` are the one thing shared with the flow: their dialect is polars' own, so polars says what they mean.
"""

from collections.abc import Mapping, Sequence

import polars as pl

from audit.limit import LONGEST, short
from flows.expressions import evaluate
from flows.plan import Kpi, TopicPlan, dtype_of

COLUMNS: Mapping[str, pl.DataType] = {
    "partition": pl.Int32(),
    "offset": pl.Int64(),
    "stamp": pl.Int64(),  # Kafka's, UTC ms; -1 where it has none
    "fate": pl.String(),  # of what could not be read; null for the others
    "time": pl.Int64(),  # event time, UTC ms
    "kept": pl.Boolean(),  # whether `where` is true
}
PARTS = ("high", "middle", "low")  # of an unscaled decimal, in base 10^10, each small enough to be added up in 128 bits for ever
BASE = 10**10


def measured(plan: TopicPlan) -> dict[str, tuple[str, Kpi]]:
    """Column name -> (what it measures, a KPI that says of which kind), for each distinct measure: `m0`, `m1`, …"""
    kpis = {kpi.of: kpi for kpi in plan.kpis if kpi.of != "*"}
    return {f"m{number}": (of, kpi) for number, (of, kpi) in enumerate(kpis.items())}


def grouped(plan: TopicPlan) -> dict[str, str]:
    """Path, or name of an expression -> column name of every group field: `g0`, `g1`, …"""
    return {path: f"g{number}" for number, path in enumerate(plan.groups)}


def part(plan: TopicPlan, heads: Sequence[Sequence[int]], decoded: pl.DataFrame) -> pl.DataFrame:
    """Of partitions, offsets and stamps, and of what `decode` gives: COLUMNS, groups as text, measures (null where not finite)."""
    head = pl.DataFrame([pl.Series(name, it, COLUMNS[name]) for name, it in zip(COLUMNS, heads, strict=False)])
    frame = pl.concat([head, decoded.drop("row")], how="horizontal")
    columns = [pl.col("partition", "offset", "stamp", "fate"), pl.col(plan.time or "stamp").cast(pl.Int64).alias("time")]
    kept = evaluate(frame, plan.where, pl.Boolean()) if plan.where is not None else pl.repeat(value=True, n=len(frame), eager=True)
    sql = dict(plan.group_expressions)
    groups = [_grouped(evaluate(frame, sql.get(path, path), pl.String())).alias(name) for path, name in grouped(plan).items()]
    measures = [
        column
        for name, (of, kpi) in measured(plan).items()
        for column in _measure(name, evaluate(frame, of, dtype_of(kpi.kind, kpi.scale)))
    ]
    return frame.select(*columns, kept.alias("kept"), *groups, *measures)


def _grouped(values: pl.Series) -> pl.Series:
    """Group values as rows have them."""
    if not (values.str.len_bytes() > LONGEST).any():
        return values
    return pl.Series([short(value) for value in values], dtype=pl.String)


def _measure(name: str, values: pl.Series) -> list[pl.Series]:
    if values.dtype.is_float():
        return [values.set(~values.is_finite(), None).alias(name)]
    if not values.dtype.is_decimal():
        return [values.alias(name)]
    rest = values.to_physical()
    parts = []
    for power, label in ((2, PARTS[0]), (1, PARTS[1])):
        base = pl.Series([BASE**power], dtype=pl.Int128)
        parts.append((whole := rest // base).cast(pl.Int64).alias(f"{name}_{label}"))
        rest = rest - whole * base
    return [values.alias(name), *parts, rest.cast(pl.Int64).alias(f"{name}_{PARTS[2]}")]
