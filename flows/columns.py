"""Leaves as polars columns. In: what `flows.cursor` found, or values of `flows.message`. Out: Series as they stand in a frame. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from flows.cursor import Flags, Found, Ints
from flows.fields import Leaf

FEW = 64
_MS_NS = 1_000_000


def slices(whole: pl.Series, start: Ints, length: Ints) -> pl.Series:
    """A stretch of bytes of each."""
    return pl.select(pl.lit(whole).bin.slice(pl.lit(pl.Series(start)), pl.lit(pl.Series(length)))).to_series()


def promoted(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    """The same values in another dtype, null where one has no place there; bytes are text where they are UTF-8."""
    if series.dtype != pl.Binary or dtype != pl.String:
        return series.cast(dtype, strict=False)
    try:
        return series.cast(dtype)
    except pl.exceptions.ComputeError:  # any of them is no UTF-8; polars does not say which
        if len(series) <= FEW:
            return pl.Series([None if octets is None else _text(octets) for octets in series], dtype=dtype)
        half = len(series) // 2
        return pl.concat([promoted(series[:half], dtype), promoted(series[half:], dtype)])


def _text(octets: bytes) -> str | None:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return None


def column(leaf: Leaf, found: Found | None, whole: pl.Series, begin: Ints, doubt: Flags) -> pl.Series:
    """A leaf of many messages: null where one has none. Marks a text that is no UTF-8 as a doubt; what is in doubt is arbitrary.

    `whole`: a Binary of each that holds the message, and begins at `begin` in the buffer.
    """
    if found is None:  # every message took another branch
        return pl.repeat(None, len(whole), dtype=leaf.dtype, eager=True)
    values, more = (_spread(half, found.rows, len(whole)) for half in (found.values, found.more))
    present = None if found.rows is None else _spread(np.ones(len(found.rows), np.bool_), found.rows, len(whole))
    if leaf.kind in {"string", "bytes"}:
        series = promoted(slices(whole, values - begin, more), leaf.dtype)
        doubt |= series.is_null().to_numpy()
    elif leaf.kind == "decimal":
        # A doubtful one may be no decimal at all.
        halves = pl.DataFrame({"high": np.where(doubt, 0, values), "low": np.where(doubt, 0, more)})
        unscaled = halves.select(pl.col("high").cast(pl.Int128) * (1 << 64) + pl.col("low").cast(pl.Int128)).to_series()
        series = _decimals(unscaled, leaf)
    elif leaf.kind == "enum":
        series = pl.Series([*leaf.symbols, None], dtype=pl.String).gather(np.clip(values, 0, len(leaf.symbols)))
    else:
        series = pl.Series(_milliseconds(values, leaf.unit_ns))
    if present is not None:
        series = pl.select(pl.when(pl.lit(pl.Series(present))).then(pl.lit(series))).to_series()
    return series


def plain_column(leaf: Leaf, values: Sequence[Mapping[str, Any]]) -> pl.Series:
    """The same of values of `message.examine`."""
    plain: list[Any] = list(values)
    for name in leaf.path.split("."):
        plain = [None if value is None else value[name] for value in plain]
    if leaf.kind == "decimal":
        return _decimals(pl.Series(plain, dtype=pl.Int128), leaf)
    if leaf.kind == "enum":
        plain = [None if value is None else leaf.symbols[value] for value in plain]
    elif leaf.kind == "time":
        plain = [None if value is None else _milliseconds(value, leaf.unit_ns) for value in plain]
    return pl.Series(plain, dtype=leaf.dtype)


def _spread(values: npt.NDArray[Any], rows: Ints | None, size: int) -> npt.NDArray[Any]:
    if rows is None or not len(values):
        return values
    spread = np.zeros(size, values.dtype)
    spread[rows] = values
    return spread


def _milliseconds(values: Any, unit_ns: int) -> Any:  # noqa: ANN401 - an array or a number
    """Times floored to UTC ms; anything else as it is."""
    if unit_ns > _MS_NS:
        return values * (unit_ns // _MS_NS)
    return values // (_MS_NS // unit_ns) if 0 < unit_ns < _MS_NS else values


def _decimals(unscaled: pl.Series, leaf: Leaf) -> pl.Series:
    one = pl.lit(f"0.{'1':0>{leaf.scale}}" if leaf.scale else "1").str.to_decimal(scale=leaf.scale)
    return pl.select((pl.lit(unscaled).cast(pl.Decimal(38, 0)) * one).cast(leaf.dtype)).to_series()
