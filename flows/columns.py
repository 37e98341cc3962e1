"""Leaves as polars columns. In: what `flows.cursor` found, or values of `flows.message`. Out: Series as they stand in a frame. Pure."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from flows import loops
from flows.cursor import Found
from flows.fields import Leaf
from flows.loops import Flags, Ints

FEW = 64
LENGTH_BYTES = 5  # of a stretch in 4 GiB, at most
DAY_NS = 86_400 * 10**9
_MS_NS = 1_000_000
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # of the years 1 and 9999
_UUID = ((0, 8), (8, 4), (12, 4), (16, 4), (20, 12))  # where its parts are in 32 hex digits, and how long


def slices(buffer: bytes, start: Ints, length: Ints) -> pl.Series:
    """Stretches of a buffer as Binary: polars reads them as items of an Avro file of one block. (Avro 1.12, object container files.)"""
    if not len(start):
        return pl.Series(dtype=pl.Binary)
    body = np.empty(int(length.sum()) + LENGTH_BYTES * len(length), np.uint8)
    taken = loops.prefixed(np.frombuffer(buffer, np.uint8), start, length, body)
    head = b"".join((_HEAD, zigzag(len(start)), zigzag(taken)))
    return pl.read_avro(io.BytesIO(b"".join((head, body[:taken].data, _SYNC))))["it"]


def zigzag(number: int) -> bytes:
    """A number that is not negative as a zigzag varint."""
    rest, octets = number << 1, bytearray()
    while rest > 0x7F:  # noqa: PLR2004 - the continuation bit
        octets.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*octets, rest))


_SYNC = bytes(16)
_ENTRIES = {b"avro.schema": b'{"type":"record","name":"One","fields":[{"name":"it","type":"bytes"}]}', b"avro.codec": b"null"}
_SAID = b"".join(zigzag(len(text)) + text for entry in _ENTRIES.items() for text in entry)
_HEAD = b"".join((b"Obj\x01", zigzag(len(_ENTRIES)), _SAID, b"\0", _SYNC))


def promoted(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    """The same values in another dtype, null where one has no place there; bytes are text where they are UTF-8."""
    if series.dtype == pl.Int64 and dtype == pl.Date:
        return dates(series)
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


def dates(days: pl.Series) -> pl.Series:
    """Days since 1970 as dates, null outside of the years 1 to 9999: polars panics when it spells what is far beyond."""
    return days.set(~days.is_between(_FIRST_DAY, _LAST_DAY), None).cast(pl.Date)


def column(leaf: Leaf, found: Found | None, buffer: bytes, doubt: Flags) -> pl.Series:
    """A leaf of many messages: null where one has none. Marks a text that is no UTF-8 as a doubt; what is in doubt is arbitrary."""
    if found is None:  # every message took another branch
        return pl.repeat(None, len(doubt), dtype=leaf.dtype, eager=True)
    values, more = (_spread(half, found.rows, len(doubt)) for half in (found.values, found.more))
    present = None if found.rows is None else _spread(np.ones(len(found.rows), np.bool_), found.rows, len(doubt))
    if leaf.kind in {"string", "bytes"}:
        series = promoted(slices(buffer, values, more), leaf.dtype)
        doubt |= series.is_null().to_numpy()
    elif leaf.kind == "decimal":
        # A doubtful one may be no decimal at all.
        halves = pl.DataFrame({"high": np.where(doubt, 0, values), "low": np.where(doubt, 0, more)})
        unscaled = halves.select(pl.col("high").cast(pl.Int128) * (1 << 64) + pl.col("low").cast(pl.Int128)).to_series()
        series = _decimals(unscaled, leaf)
    elif leaf.kind == "enum":
        series = pl.Series([*leaf.symbols, None], dtype=pl.String).gather(np.clip(values, 0, len(leaf.symbols)))
    elif leaf.kind == "uuid":
        series = _uuids(slices(buffer, values, more))
    else:
        series = _plainly(pl.Series(_milliseconds(values, leaf.unit_ns) if leaf.kind == "time" else values), leaf)
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
    elif leaf.kind == "float":  # of a union it may be an integer
        plain = [None if value is None else float(value) for value in plain]
    elif leaf.kind == "uuid":
        return _uuids(pl.Series(plain, dtype=pl.Binary))
    elif leaf.kind in {"date", "daytime"}:
        return _plainly(pl.Series(plain, dtype=pl.Int64), leaf)
    return pl.Series(plain, dtype=leaf.dtype)


def _plainly(values: pl.Series, leaf: Leaf) -> pl.Series:
    """Numbers as they are, or as the dates and times of day that they stand for."""
    if leaf.kind == "date":
        return dates(values)
    return daytimes(values, leaf.unit_ns) if leaf.kind == "daytime" else values


def daytimes(units: pl.Series, unit_ns: int) -> pl.Series:
    """Times of day; null beyond the day."""
    return (units.set(~units.is_between(0, DAY_NS // unit_ns - 1), None) * unit_ns).cast(pl.Time)


def _uuids(octets: pl.Series) -> pl.Series:
    """Sixteen bytes as text: 8-4-4-4-12 digits. (RFC 9562.)"""
    digits = pl.lit(octets).bin.encode("hex")
    return pl.select(pl.concat_str([digits.str.slice(*part) for part in _UUID], separator="-")).to_series()


def _spread(values: npt.NDArray[Any], rows: Ints | None, size: int) -> npt.NDArray[Any]:
    if rows is None or not len(values):
        return values
    spread = np.zeros(size, values.dtype)
    spread[rows] = values
    return spread


def _milliseconds(values: Any, unit_ns: int) -> Any:  # noqa: ANN401 - an array or a number
    """Times floored to UTC ms."""
    return values // (_MS_NS // unit_ns) if unit_ns < _MS_NS else values


def _decimals(unscaled: pl.Series, leaf: Leaf) -> pl.Series:
    one = pl.lit(f"0.{'1':0>{leaf.scale}}" if leaf.scale else "1").str.to_decimal(scale=leaf.scale)
    return pl.select((pl.lit(unscaled).cast(pl.Decimal(38, 0)) * one).cast(leaf.dtype)).to_series()
