"""The increase of a counter, which begins anew now and then. In: samples, in any order. Out: runs, and one of many. Pure.

    samples by order   3   5 | 9   2   4        a run: from 3 to 9, risen by 6; a run: from 2 to 4, risen by 2
                       [-----------)[----)      one after the other: 6 + 2 (the counter began anew, and is at 2 since) + 2

Runs are kept side by side while a sample may still come between two of them, and joined when nothing can.
"""

import polars as pl

from flows.tallies import ITEM, ROW, gathered, spread

ORDER = "order"  # the column of a frame that says which event comes first: by event time, partition and offset


def runs_of(number: pl.DataType) -> pl.List:
    """The type of a column of runs: `at`: ORDER of the first sample; `size`: the rise as a double, which tells whether 128 bits held it."""
    return pl.List(pl.Struct({"at": pl.Int128(), "first": number, "last": number, "rise": number, "size": pl.Float64()}))


def samples(pairs: pl.DataFrame, number: pl.DataType) -> pl.DataFrame:
    """Events (ROW, ITEM, ORDER) as runs of themselves, in the unscaled value of a decimal."""
    value = pl.col(ITEM).to_physical().cast(number)
    zero = pl.lit(0, number)
    return pairs.select(ROW, at=ORDER, first=value, last=value, rise=zero, size=pl.lit(0.0))


def joined(runs: pl.Series) -> pl.Series:
    """The runs of each row as one, when they do not overlap."""
    if runs.list.len().max() in (None, 1):
        return runs
    pairs = spread(runs).sort(ROW, "at")
    before = pl.col("last").shift(1).over(ROW)
    restarts = pl.col("first") < before
    step = pl.when(restarts).then(pl.col("first")).otherwise(pl.col("first") - before).fill_null(0)
    size, lower = pl.col("first").cast(pl.Float64), before.cast(pl.Float64)
    step_size = pl.when(restarts).then(size).otherwise(size - lower).fill_null(0.0)
    pairs = pairs.with_columns(pl.col("rise") + step, pl.col("size") + step_size)
    one = pairs.group_by(ROW).agg(pl.col("at", "first").first(), pl.col("last").last(), pl.col("rise", "size").sum())
    return gathered(one, len(runs), runs.dtype).alias(runs.name)


def rises(runs: pl.Series) -> pl.DataFrame:
    """How far each row has risen: `rise`, `size`; null without a sample."""
    return joined(runs).list.first().struct.unnest().select("rise", "size")


def scaled(runs: pl.Series, factor: float) -> pl.Series:
    """The same runs, of values that are counted in another unit."""
    pairs = spread(runs)
    values = pl.col("first", "last", "rise") * pl.lit(factor, pairs["rise"].dtype)
    return gathered(pairs.with_columns(values, pl.col("size") * float(factor)), len(runs), runs.dtype)
