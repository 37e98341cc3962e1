"""Avro, written in columns. In: arrays of a field's values. Out: every record's bytes. Pure.

a column of cells        flattened, row by row, without what pads them: all records at once
[2 'h' 'i' .  . ]
[4 'h' 'e' 'l' 'l']      (Avro 1.12: "Binary Encoding")
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
SEVEN_BITS, LONGEST = 0x7F, 10  # of a varint's byte, and bytes of a varint


class Cells(NamedTuple):
    """A value of one field in each row: its bytes from the left, and how many of them count."""

    bytes: NDArray[np.uint8]
    lengths: Integers

    def take(self, rows: NDArray[np.integer]) -> "Cells":
        """The values at these places, as from a table."""
        return Cells(self.bytes[rows], self.lengths[rows])

    def nowhere(self, rows: NDArray[np.bool_]) -> "Cells":
        """The same of a union with null, its first branch, null in some rows."""
        return Cells(np.where(rows[:, None], np.uint8(0), self.bytes), np.where(rows, 1, self.lengths))


def records(columns: Sequence[Cells]) -> list[bytes]:
    """The bytes of each row, its fields one after the other."""
    cells = np.concatenate([column.bytes for column in columns], axis=1)
    counts = np.concatenate([np.arange(column.bytes.shape[1]) < column.lengths[:, None] for column in columns], axis=1)
    body, ends = cells[counts].tobytes(), [0, *np.cumsum(counts.sum(axis=1)).tolist()]
    return [body[start:end] for start, end in pairwise(ends)]


def longs(values: NDArray[np.integer]) -> Cells:
    r"""Numbers of up to 64 bits, zigzag and in sevens of bits, low ones first.

    >>> records([longs(np.array([0, -1, 1, 64]))])
    [b'\x00', b'\x01', b'\x02', b'\x80\x01']
    """
    values = values.astype(np.int64)
    zigzag = ((values << 1) ^ (values >> 63)).view(np.uint64)
    width = max(1, -(-int(zigzag.max(initial=0)).bit_length() // 7))
    sevens = zigzag[:, None] >> (7 * np.arange(width, dtype=np.uint64))
    lengths = 1 + (sevens[:, 1:] > 0).sum(axis=1)
    goes_on = np.arange(width) < lengths[:, None] - 1
    return Cells((sevens & np.uint64(SEVEN_BITS)).astype(np.uint8) | goes_on.astype(np.uint8) << 7, lengths)


def doubles(values: NDArray[np.float64]) -> Cells:
    """Eight bytes each."""
    return _whole(values.astype("<f8").view(np.uint8).reshape(-1, 8))


def flags(values: NDArray[np.bool_]) -> Cells:
    """A byte each."""
    return _whole(values.astype(np.uint8).reshape(-1, 1))


def texts(values: "NDArray[np.bytes_] | Sequence[str]") -> Cells:
    r"""Strings, each behind its length. An array is of bytes of UTF-8, none of which ends in a zero.

    >>> records([texts(["hi", "", "ü"])])
    [b'\x04hi', b'\x00', b'\x04\xc3\xbc']
    """
    found = values if isinstance(values, np.ndarray) else np.array([value.encode() for value in values], np.bytes_)
    lengths = np.char.str_len(found).astype(np.int64)
    return joined(longs(lengths), Cells(np.ascontiguousarray(found).view(np.uint8).reshape(len(found), found.itemsize), lengths))


def decimals(unscaled: Integers) -> Cells:
    r"""Bytes of numbers from zero on, behind how many there are: big-endian two's complement, no longer than it must be.

    >>> records([decimals(np.array([0, 127, 128]))])
    [b'\x02\x00', b'\x02\x7f', b'\x04\x00\x80']
    """
    big = unscaled.astype(">i8").view(np.uint8).reshape(-1, 8)
    lengths = 1 + (unscaled[:, None] >> (8 * np.arange(1, 8) - 1) > 0).sum(axis=1)
    places = np.minimum(8 - lengths[:, None] + np.arange(8), 7)
    return joined(longs(lengths), Cells(np.take_along_axis(big, places, axis=1), lengths))


def joined(first: Cells, second: Cells) -> Cells:
    """Two columns as one, without a gap."""
    if (first.lengths == first.bytes.shape[1]).all():
        return Cells(np.concatenate([first.bytes, second.bytes], axis=1), first.lengths + second.lengths)
    return table(records([first, second]))


def table(values: Sequence[bytes]) -> Cells:
    """Anything, encoded already."""
    lengths = np.array([len(value) for value in values], np.int64)
    width = int(lengths.max(initial=0))
    return Cells(np.frombuffer(b"".join(value.ljust(width, b"\0") for value in values), np.uint8).reshape(len(values), width), lengths)


def _whole(cells: NDArray[np.uint8]) -> Cells:
    return Cells(cells, np.full(len(cells), cells.shape[1], np.int64))
