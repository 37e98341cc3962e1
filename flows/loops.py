"""The loops over records, messages and rows, compiled. In: bytes, and where each of them lies; numbers. Out: the same. Pure.

Plain loops, as numba compiles them: once for each kind of processor, into its cache beside this file (or in NUMBA_CACHE_DIR), and they run
without the interpreter's lock. None reads beyond the `end` that it is given; IndexError where a place is not in the bytes at all.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit, types

Octets = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

WHOLE, UNEVEN, NO_RECORD = 0, 1, 2  # what is found of batches: all is well, lengths that do not add up, something that is no record
FIELDS = 8  # of a record: see `records`
HEADER_BYTES = 5  # of a message: magic 0 and the schema id, before the Avro bytes (Confluent wire format)
NUMBER, TEXT, OCTETS, SIZED, FLAG = range(5)  # kinds of values: a varint, text, bytes, as many bytes as always, a boolean
TOMBSTONE, SHORT, MAGIC = -1, -2, -3  # in place of a schema id, of messages that have none

_OCTETS, _INT, _INTS = types.Array(types.uint8, 1, "C", readonly=True), types.int64, types.int64[::1]
_Loop = TypeVar("_Loop", bound=Callable[..., Any])


def _compiled(*signature: Any) -> Callable[[_Loop], _Loop]:  # noqa: ANN401 - numba has no types
    """Compiled now, for arguments of these types."""

    def compiled(loop: _Loop) -> _Loop:
        types_of = signature[0](*signature[1:])
        try:
            return cast("_Loop", njit(types_of, nogil=True, cache=True)(loop))
        except RuntimeError:  # nowhere may be written: then it takes a second at each start
            return cast("_Loop", njit(types_of, nogil=True)(loop))

    return compiled


@_compiled(types.Tuple((_INT, _INT)), _OCTETS, _INT, _INT)  # type: ignore[no-untyped-call] # numba has no types
def varint(octets: Octets, at: int, end: int) -> Any:  # noqa: ANN401 - two numbers; numba and mypy count differently
    """A zigzag varint, and where it ends: -1 where it is truncated, has more than ten bytes or 64 bits. (Avro 1.12, binary encoding.)"""
    value = shift = np.uint64(0)
    while at < end:
        octet = np.uint64(octets[at])
        at += 1
        if shift == 63 and octet > 1:  # noqa: PLR2004 - the tenth byte has the last bit
            return 0, -1
        value |= (octet & np.uint64(0x7F)) << shift
        if octet < 0x80:  # noqa: PLR2004 - the continuation bit
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at
        shift += np.uint64(7)
    return 0, -1


@_compiled(_INT, types.uint64, types.uint8[::1], _INT)
def _write(left: Any, written: Octets, at: int) -> int:  # noqa: ANN401 - an unsigned number
    """Write a varint that is zigzag already; result: where it ends."""
    while left > np.uint64(0x7F):  # the continuation bit
        written[at] = left & np.uint64(0x7F) | np.uint64(0x80)
        left >>= np.uint64(7)
        at += 1
    written[at] = left
    return at + 1


@_compiled(_INT, _OCTETS, _INT, _INT)
def _schema_id(octets: Octets, at: int, length: int) -> int:
    if length < HEADER_BYTES:
        return TOMBSTONE if length < 0 else SHORT
    if octets[at] != 0:
        return MAGIC
    found = 0
    for index in range(1, HEADER_BYTES):
        found = found << 8 | octets[at + index]
    return found


@_compiled(_INT, _OCTETS, _INTS, _INTS, _INTS, types.int64[:, ::1])
def records(octets: Octets, begin: Ints, end: Ints, counts: Ints, found: Ints) -> int:
    """Cut batches, each from `begin` to `end`, into records of Kafka's format v2; WHOLE, or what is wrong with the first that is none.

    `found`: a row each of FIELDS: where it starts in its batch; timestamp and offset delta; place
    and length of key and of value, a length of -1 is null; the message's schema id, or why there is none.
    """
    row = 0
    for batch in range(len(counts)):
        at, stop, last = begin[batch], end[batch], -1
        for _ in range(counts[batch]):
            found[0, row] = at - begin[batch]
            length, at = varint(octets, at, stop)
            if at < 0 or length < 1 or length > stop - at:
                return UNEVEN
            after = at + length
            since, at = varint(octets, at + 1, after)  # behind the attributes
            if at < 0:
                return NO_RECORD
            delta, at = varint(octets, at, after)
            if at < 0 or delta <= last:
                return NO_RECORD
            last = delta
            found[1, row], found[2, row] = since, delta
            for field in (3, 5):
                size, at = varint(octets, at, after)
                if at < 0 or size < -1 or size > after - at:
                    return NO_RECORD
                found[field, row], found[field + 1, row] = at, size
                at += max(size, 0)
            found[7, row] = _schema_id(octets, found[5, row], found[6, row])
            at = after
            row += 1
        if at != stop:
            return UNEVEN
    return WHOLE


@_compiled(types.void, _OCTETS, _INTS, _INTS, types.int64[:, ::1], types.boolean[::1])
def varints(octets: Octets, at: Ints, end: Ints, found: Ints, doubt: Flags) -> None:
    """A varint of each message, and where it ends; one that has none stays where it is, in doubt. `found`: these two in a row each."""
    for row in range(len(at)):
        value, behind = varint(octets, at[row], end[row])
        if behind < 0:
            doubt[row] = True
            behind = at[row]
        found[0, row], found[1, row] = value, behind


@_compiled(types.boolean, _OCTETS, _INT, _INT)
def _is_ascii(octets: Octets, start: int, end: int) -> bool:
    every = np.uint8(0)
    for octet in octets[start:end]:  # of a slice: so it is done sixteen at a time
        every |= octet
    return bool(every < 0x80)  # noqa: PLR2004 - the bit that ASCII has not


@_compiled(types.void, _OCTETS, _INTS, _INTS, types.boolean[::1])
def plain(octets: Octets, start: Ints, length: Ints, is_plain: Flags) -> None:
    """Whether each text is ASCII."""
    for row in range(len(start)):
        if not 0 <= start[row] <= start[row] + length[row] <= len(octets):
            raise IndexError
        is_plain[row] = _is_ascii(octets, start[row], start[row] + length[row])


@_compiled(types.void, _OCTETS, _INTS, _INTS, types.int64[:, ::1], _INTS)
def behind(octets: Octets, at: Ints, end: Ints, steps: Ints, found: Ints) -> None:  # noqa: C901, PLR0912 - a call takes 20 ns a value
    """Where values that nobody wants end in each message, or -1 where one of them is not plainly right.

    `steps`: a row a value: its kind; the index of null in a union of two branches, or -1; the lowest and the highest of a number, or the
    bytes of what always has as many.
    """
    for row in range(len(at)):
        place, stop = at[row], end[row]
        for step in range(len(steps)):
            kind, null, value = steps[step, 0], steps[step, 1], steps[step, 2]
            if null >= 0:
                branch, place = varint(octets, place, stop)
                if branch == null and place >= 0:
                    continue
                if place < 0 or branch < 0 or branch > 1:
                    place = -1
                    break
            if kind == FLAG:
                value = 1
                if place == stop or octets[place] > 1:
                    place = -1
                    break
            elif kind != SIZED:
                value, place = varint(octets, place, stop)
                if place < 0:
                    break
            if kind == NUMBER:
                if value < steps[step, 2] or value > steps[step, 3]:
                    place = -1
                    break
            elif value < 0 or value > stop - place or (kind == TEXT and not _is_ascii(octets, place, place + value)):
                place = -1
                break
            else:
                place += value
        found[row] = place


@_compiled(_INT, _OCTETS, _INTS, _INTS, types.uint8[::1])
def prefixed(octets: Octets, start: Ints, length: Ints, written: Octets) -> int:
    """Write stretches of bytes one behind the other, each behind its length as a varint; result: how many bytes that takes."""
    at = 0
    for row in range(len(start)):
        if not 0 <= start[row] <= start[row] + length[row] <= len(octets):
            raise IndexError
        at = _write(np.uint64(length[row] << 1), written, at)
        for index in range(length[row]):
            written[at + index] = octets[start[row] + index]
        at += length[row]
    return at


@_compiled(_INT, types.Array(types.int64, 1, "C", readonly=True), types.uint8[::1], _INTS)
def zigzags(numbers: Ints, written: Octets, length: Ints) -> int:
    """Write varints one behind the other; result: how many bytes that takes, ten a number at most. `length`: of each."""
    at = 0
    for row in range(len(numbers)):
        begin = at
        at = _write(np.uint64((numbers[row] << 1) ^ (numbers[row] >> 63)), written, at)
        length[row] = at - begin
    return at


@_compiled(types.void, _OCTETS, types.int64[:, ::1], types.int64[:, ::1], types.uint8[::1])
def rows(octets: Octets, start: Ints, length: Ints, written: Octets) -> None:
    """Write rows one behind the other, each put together of stretches of bytes. `start`, `length`: a column a row."""
    at = 0
    for row in range(start.shape[1]):
        for cell in range(len(start)):
            begin, size = start[cell, row], length[cell, row]
            if not 0 <= begin <= begin + size <= len(octets):
                raise IndexError
            for index in range(size):
                written[at + index] = octets[begin + index]
            at += size
