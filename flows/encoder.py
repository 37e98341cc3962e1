"""Avro in columns. In: columns and their Avro types. Out: the encoded bytes of each row. Pure.

    cells    a buffer that holds the bytes of every value of a column, and where each begins, and how long it is
    row      cell after cell: one compiled loop over the buffers of all columns puts thousands of rows together

Row by row fastavro takes 11 µs a KPI row, more than all else that the flow does with it; so it is about 0.25 µs (docs/decisions/0009).
Only the types that a KPI record and a simulated event have; fastavro reads it all back in the tests.
"""

from collections.abc import Callable, Sequence
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from flows import loops

NULL, SOME = b"\x00", b"\x02"  # the branches of ["null", T]
STOP = b"\x00"  # of a map or an array
MOST_BYTES = 10  # of a varint
FEW = 700  # texts that Python counts sooner than polars begins to
AT_ONCE = 2_048  # rows that are put together at once: where their parts are stays in the processor's cache

Octets = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]


class Cells(NamedTuple):
    """A part of each row: `length` bytes of `buffer`, from `start` on."""

    buffer: Octets
    start: Numbers
    length: Numbers


def joined(cells: Sequence[Cells]) -> list[bytes]:
    """Each row: its cells, one after the other."""
    rows, ends = packed(cells)
    return [rows[start:end] for start, end in pairwise([0, *ends.tolist()])]


def packed(cells: Sequence[Cells]) -> tuple[bytes, Numbers]:
    """The same, all rows one behind the other, and where each ends."""
    buffer = np.concatenate([cell.buffer for cell in cells])
    begins = np.cumsum([0, *(len(cell.buffer) for cell in cells[:-1])])
    parts, sizes = [], np.zeros(len(cells[0].length), np.int64)
    for at in range(0, len(sizes), AT_ONCE):
        some = slice(at, at + AT_ONCE)
        starts = np.stack([cell.start[some] + begin for cell, begin in zip(cells, begins, strict=True)])
        lengths = np.stack([cell.length[some] for cell in cells])
        sizes[some] = lengths.sum(axis=0)
        written = np.empty(sizes[some].sum(), np.uint8)
        loops.rows(buffer, starts, lengths, written)
        parts.append(written.tobytes())
    return b"".join(parts), np.cumsum(sizes)


def column(values: pl.Series, avro: Any) -> list[Cells]:  # noqa: ANN401 - Avro's JSON
    """The cells of each value; `avro` is long, int, double, boolean, string, a decimal or a union of null and one of them.

    A union of null and a map of long, or an array of records of a string and a long, takes lists of such pairs.
    """
    if isinstance(values.dtype, pl.List):
        return [listed(_optional_pairs(values))]
    if not isinstance(avro, list):
        return _plain(values, avro)
    some = _some(values)
    if values.dtype.is_float():
        return [optional_doubles(values.to_numpy(), some)]
    return [
        chosen([NULL, SOME], some.astype(np.int64)),
        *(cells._replace(length=np.where(some, cells.length, 0)) for cells in _plain(values, avro[1])),
    ]


def _plain(values: pl.Series, avro: Any) -> list[Cells]:  # noqa: ANN401 - Avro's JSON
    """Of a type that is no union; any cell may stand for a null."""
    if isinstance(avro, dict):
        return _decimals(values) if avro.get("logicalType") == "decimal" else _plain(values, avro["type"])
    match avro:
        case "long" | "int":
            numbers = values if values.dtype.is_integer() else values.to_physical()
            return [zigzags((numbers.fill_null(0) if numbers.null_count() else numbers).cast(pl.Int64).to_numpy())]
        case "boolean":
            return [fixed((values.fill_null(value=False) if values.null_count() else values).cast(pl.UInt8).to_numpy())]
    if len(values) < FEW:
        return texts([value or "" for value in values.to_list()])
    if values.dtype != pl.String:
        values = values.cast(pl.String)
    length = values.str.len_bytes()
    return _sized(values.str.join("").item().encode(), (length.fill_null(0) if values.null_count() else length).to_numpy().astype(np.int64))


def _some(values: pl.Series) -> npt.NDArray[np.bool_]:
    """Which values are there. (Most questions to a series cost 0.1 ms, however short it is; whether it has nulls costs nothing.)"""
    return values.is_not_null().to_numpy() if values.null_count() else np.ones(len(values), np.bool_)


def chosen(values: Sequence[bytes], which: Numbers) -> Cells:
    """In each row one of some values, by its number."""
    buffer, start, length = listed(values)
    return Cells(buffer, start[which], length[which])


def listed(values: Sequence[bytes]) -> Cells:
    """Of bytes that stand there already."""
    length = np.fromiter(map(len, values), np.int64, len(values))
    return Cells(np.frombuffer(b"".join(values), np.uint8), np.cumsum(length) - length, length)


def zigzags(numbers: Numbers) -> Cells:
    r"""Longs, least significant seven bits first. (Avro 1.12, binary encoding.)

    >>> joined([zigzags(np.array([0, -1, 1, 64]))])
    [b'\x00', b'\x01', b'\x02', b'\x80\x01']
    """
    octets, length = np.empty(MOST_BYTES * len(numbers), np.uint8), np.empty(len(numbers), np.int64)
    used = loops.zigzags(np.ascontiguousarray(numbers), octets, length)
    return Cells(octets[:used], np.cumsum(length) - length, length)


def texts(values: Sequence[str]) -> list[Cells]:
    r"""Strings: their length in bytes, then UTF-8.

    >>> joined(texts(["hi", "", "ü"]))
    [b'\x04hi', b'\x00', b'\x04\xc3\xbc']
    """
    whole = "".join(values)
    texts = values if whole.isascii() else [value.encode() for value in values]
    return _sized(whole.encode(), np.fromiter(map(len, texts), np.int64, len(values)))


def _sized(whole: bytes, length: Numbers) -> list[Cells]:
    """Stretches of bytes, one behind the other, each with its length before it."""
    return [zigzags(length), Cells(np.frombuffer(whole, np.uint8), np.cumsum(length) - length, length)]


def fixed(values: npt.NDArray[Any]) -> Cells:
    """Of values that are written as they stand in memory: doubles, booleans."""
    size = values.itemsize
    return Cells(values.view(np.uint8), np.arange(len(values)) * size, np.full(len(values), size))


def optional_doubles(values: Doubles, some: npt.NDArray[np.bool_]) -> Cells:
    """Nine bytes a value; a null is the first of them, another one."""
    cells = np.zeros(len(values), np.dtype([("branch", "u1"), ("value", "<f8")]))
    cells["branch"], cells["value"] = np.where(some, SOME[0], NULL[0]), values
    return fixed(cells)._replace(length=np.where(some, 9, 1))


def decimals(numbers: Numbers) -> list[Cells]:
    r"""Decimals, by their unscaled values: the fewest bytes of two's complement that hold each, behind their number.

    >>> joined(decimals(np.array([0, -1, 128])))
    [b'\x02\x00', b'\x02\xff', b'\x04\x00\x80']
    """
    length = 1 + np.searchsorted(1 << 8 * np.arange(1, 8) - 1, numbers ^ (numbers >> 63), side="right")
    return [zigzags(length), Cells(numbers.astype(">i8").view(np.uint8), np.arange(1, len(numbers) + 1) * 8 - length, length)]


def _decimals(values: pl.Series) -> list[Cells]:
    """Of up to 128 bits."""
    whole = values.to_physical()
    narrow = whole.cast(pl.Int64, strict=False)
    if narrow.null_count() == whole.null_count():
        return decimals(narrow.fill_null(0).to_numpy())
    once = _Once(lambda value: b"" if value is None else unscaled(value))
    return [listed([once[value] for value in whole.to_list()])]


def unscaled(value: int) -> bytes:
    """A decimal's unscaled value: the fewest bytes of two's complement that hold it, behind their number.

    >>> list(unscaled(0)), list(unscaled(-1)), list(unscaled(128))
    ([2, 0], [2, 255], [4, 0, 128])
    """
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return bytes([size << 1]) + value.to_bytes(size, "big", signed=True)


class _Once(dict[Any, bytes]):
    """Encodes each distinct value once: most of them repeat."""

    def __init__(self, encode: Callable[[Any], bytes]) -> None:
        super().__init__()
        self.encode = encode

    def __missing__(self, value: object) -> bytes:
        self[value] = encoded = self.encode(value)
        return encoded


def _optional_pairs(values: pl.Series) -> list[bytes]:
    """A map of long and an array of records of two fields are written alike: how many there are, each of them, and a zero."""
    names, numbers = values.explode(keep_nulls=False).struct.unnest()
    sizes = values.list.len()
    pairs = iter(joined([*texts(names.cast(pl.String).to_list()), *_plain(numbers, "long")]) if len(names) else [])
    counts = iter(joined(_plain(sizes.fill_null(0).cast(pl.Int64), "long")))
    rows = []
    for size, count in zip(sizes.to_list(), counts, strict=True):
        block = (count,) if size else ()
        rows.append(NULL if size is None else b"".join((SOME, *block, *islice(pairs, size), STOP)))
    return rows
