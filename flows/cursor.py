"""Avro values of many messages, read side by side. In: where each message lies in one buffer. Out: columns, and doubts. Pure.

One step reads the same field of every message (compiled: loops.py), so no Python object is made for a value. Whatever is
not plainly right is a doubt, and `flows.message` decides about that message alone; so a verdict never depends on its neighbours.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from flows import loops
from flows.fields import Wire
from flows.loops import Flags, Ints
from flows.message import DIGITS

PADDING = 16  # bytes that the buffer must have behind the last message
FEW = 128  # fewer arrays than this that go on beyond STEPS items are read one by one: a step costs as much as 128 items there
STEPS = 8

ALWAYS_AS_MANY = ("float", "double", "fixed")  # bytes
STEPS_OF = {"integer": loops.NUMBER, "string": loops.TEXT, "bytes": loops.OCTETS, "boolean": loops.FLAG}
STEPS_OF |= dict.fromkeys(ALWAYS_AS_MANY, loops.SIZED)

Step = tuple[int, int, int, int]
Words = npt.NDArray[np.uint64]

_NONE: Ints = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Found:
    """One leaf's values, for the messages `rows` (None: for all).

    Of text and bytes `values` are the starts and `more` the lengths, of a decimal the upper and the lower halves.
    """

    rows: Ints | None
    values: npt.NDArray[Any]
    more: npt.NDArray[Any]


@dataclass(slots=True)
class Columns:
    """What reading gives: the wanted leaves by path, and text that may not be UTF-8: (rows, starts, lengths)."""

    wanted: Collection[str]
    found: dict[str, Found] = field(default_factory=dict)
    texts: list[tuple[Ints, Ints, Ints]] = field(default_factory=list)
    above: set[str] = field(init=False)  # the wanted leaves, and all that they lie in

    def __post_init__(self) -> None:
        self.above = {path[:end] for path in self.wanted for end in (*(at for at, sign in enumerate(path) if sign == "."), len(path))}


def windows(buffer: bytes) -> Words:
    """The eight bytes from each place on, as little-endian numbers; no copy."""
    return np.ndarray(len(buffer) - 7, np.dtype("<u8"), buffer, 0, (1,))


class Cursor:
    """One place in each of many messages: `at` moves up to `end`; `doubt` marks those that are not plainly right."""

    __slots__ = ("at", "bytes", "doubt", "end", "rows", "words")

    def __init__(self, buffer: bytes, at: Ints, end: Ints) -> None:
        self.bytes = np.frombuffer(buffer, np.uint8)
        self.words = windows(buffer)
        self.at, self.end = at, end
        self.doubt: Flags = np.zeros(len(at), np.bool_)
        self.rows: Ints | None = None

    def part(self, rows: Ints) -> "Cursor":
        """A cursor of some of the messages; `join` brings it back."""
        part = object.__new__(Cursor)
        part.bytes, part.words, part.at, part.end = self.bytes, self.words, self.at[rows], self.end[rows]
        part.doubt = np.zeros(len(rows), np.bool_)
        part.rows = rows if self.rows is None else self.rows[rows]
        return part

    def join(self, rows: Ints, part: "Cursor") -> None:
        """Move the messages of a part to where it has come."""
        self.at[rows] = part.at
        self.doubt[rows] |= part.doubt

    def skip(self, count: Ints | int) -> None:
        """Move on; what would leave its message stays at its end, in doubt."""
        self.at = self.at + count
        self.doubt |= self.at > self.end
        np.minimum(self.at, self.end, out=self.at)

    def integers(self) -> Ints:
        """A zigzag varint of each. (Avro 1.12, binary encoding; the same in Kafka's record format v2.)"""
        found = np.empty((2, len(self.at)), np.int64)
        loops.varints(self.bytes, self.at, self.end, found, self.doubt)
        values, self.at = found
        return values

    def spans(self) -> tuple[Ints, Ints]:
        """Start and length of length-prefixed bytes of each."""
        length = self.integers()
        if len(wrong := np.flatnonzero((length < 0) | (length > self.end - self.at))):
            self.doubt[wrong] = True
            length[wrong] = 0
        start = self.at
        self.at = start + length
        return start, length

    def fixed(self, size: int) -> Words:
        """The first eight bytes from here, as a little-endian number; moves on by `size`."""
        word = self.words[self.at]
        self.skip(size)
        return word


def read(wire: Wire, cursor: Cursor, columns: Columns, path: str | None = "") -> None:  # noqa: C901 - a case a type
    """Read a value of this type from every message; `path` is None where there can be no leaf, "" for the message itself."""
    match wire.type:
        case "integer":
            values = cursor.integers()
            cursor.doubt |= (values < wire.low) | (values > wire.high)
            _found(columns, path, cursor, values)
        case "string" | "bytes":
            start, length = cursor.spans()
            if not _found(columns, path, cursor, start, length) and wire.type == "string":
                _check(columns, cursor, start, length)
        case "double":
            _found(columns, path, cursor, cursor.fixed(8).view(np.float64))
        case "float":
            single = cursor.fixed(4).astype(np.uint32).view(np.float32)
            with np.errstate(invalid="ignore"):  # a signalling NaN is a NaN
                _found(columns, path, cursor, single.astype(np.float64))
        case "boolean":
            octet = cursor.fixed(1).astype(np.uint8)
            cursor.doubt |= octet > 1
            _found(columns, path, cursor, octet == 1)
        case "fixed":
            start = cursor.at
            cursor.skip(wire.size)
            _found(columns, path, cursor, start, cursor.at - start)
        case "decimal":
            _found(columns, path, cursor, *_decimals(wire, cursor))
        case "record":
            _record(wire, cursor, columns, path)
        case "union":
            _union(wire, cursor, columns, path)
        case "array":
            _array(wire, cursor, columns)
        case "name":  # recursive
            cursor.doubt[:] = True


def _record(wire: Wire, cursor: Cursor, columns: Columns, path: str | None) -> None:
    """Field by field; those side by side that nobody wants and that are simple, message by message."""
    unwanted: list[Wire] = []
    steps: list[Step] = []
    for name, inner in wire.fields:
        at = None if path is None else f"{path}.{name}".lstrip(".")
        more = None if at in columns.above else _steps(inner)
        if more is not None:
            unwanted.append(inner)
            steps += more
            continue
        _pass(unwanted, steps, cursor, columns)
        unwanted, steps = [], []
        read(inner, cursor, columns, at)
    _pass(unwanted, steps, cursor, columns)


def _steps(wire: Wire) -> list[Step] | None:
    """A value as steps of `loops.behind`; None where it has other parts."""
    if wire.type in STEPS_OF:
        return [(STEPS_OF[wire.type], -1, wire.width if wire.type in ALWAYS_AS_MANY else wire.low, wire.high)]
    if wire.type not in {"record", "union"}:
        return None
    parts = [_steps(inner) for _, inner in wire.fields]
    if wire.type == "record":
        return None if None in parts else [step for part in parts for step in part or ()]
    types = [branch.type for _, branch in wire.fields]
    if len(types) != 2 or types.count("null") != 1:  # noqa: PLR2004 - null and another
        return None
    null = types.index("null")
    of = parts[1 - null]
    return [(of[0][0], null, *of[0][2:])] if of is not None and len(of) == 1 and of[0][1] < 0 else None


def _pass(wires: Sequence[Wire], steps: Sequence[Step], cursor: Cursor, columns: Columns) -> None:
    """Move behind values that nobody wants; in messages where one is not plainly right, value by value."""
    if not steps:
        return
    behind = np.empty(len(cursor.at), np.int64)
    loops.behind(cursor.bytes, cursor.at, cursor.end, np.array(steps), behind)
    rows = np.flatnonzero(behind < 0)
    before = cursor.at[rows]
    cursor.at = behind
    if len(rows):
        cursor.at[rows] = before
        part = cursor.part(rows)
        for wire in wires:
            read(wire, part, columns, None)
        cursor.join(rows, part)


def _found(columns: Columns, path: str | None, cursor: Cursor, values: npt.NDArray[Any], more: npt.NDArray[Any] = _NONE) -> bool:
    """Keep the values if they are wanted; whether they are."""
    if wanted := path in columns.wanted:
        columns.found[str(path)] = Found(cursor.rows, values, more)
    return wanted


def _check(columns: Columns, cursor: Cursor, start: Ints, length: Ints) -> None:
    """Note the text that is not ASCII."""
    is_plain = np.empty(len(start), np.bool_)
    loops.plain(cursor.bytes, start, length, is_plain)
    if len(rows := np.flatnonzero(~is_plain)):
        columns.texts.append((rows if cursor.rows is None else cursor.rows[rows], start[rows], length[rows]))


def _union(wire: Wire, cursor: Cursor, columns: Columns, path: str | None) -> None:
    index = cursor.integers()
    cursor.doubt |= (index < 0) | (index > wire.high)
    branches = [(number, branch) for number, (_, branch) in enumerate(wire.fields) if branch.type != "null"]
    if len(branches) > 1 and path in columns.wanted:
        _numbers(index, branches, cursor, columns, str(path))
        return
    for number, branch in branches:
        rows, inner = np.flatnonzero(index == number), path if len(branches) == 1 else None
        if len(rows) == len(index):
            read(branch, cursor, columns, inner)
        elif len(rows):
            part = cursor.part(rows)
            read(branch, part, columns, inner)
            cursor.join(rows, part)


def _numbers(index: Ints, branches: Sequence[tuple[int, Wire]], cursor: Cursor, columns: Columns, path: str) -> None:
    """A leaf of several branches: whole numbers, or doubles where one of them is no whole one."""
    whole = all(branch.type == "integer" for _, branch in branches)
    values = np.zeros(len(index), np.int64 if whole else np.float64)
    present = np.zeros(len(index), np.bool_)
    for number, branch in branches:
        rows, own = np.flatnonzero(index == number), Columns({path})
        part = cursor.part(rows)
        read(branch, part, own, path)
        cursor.join(rows, part)
        values[rows], present[rows] = own.found[path].values, True
    if len(there := np.flatnonzero(present)):
        columns.found[path] = Found(there if cursor.rows is None else cursor.rows[there], values[there], _NONE)


def _array(wire: Wire, cursor: Cursor, columns: Columns) -> None:
    """Blocks of items up to an empty one; leaves nothing but doubts. The n-th items of all messages are read in one step."""
    item = wire.fields[0][1]
    rows, left = np.arange(len(cursor.at)), np.zeros(len(cursor.at), np.int64)
    steps = 0
    while len(rows):
        steps += 1
        if len(rows) < FEW and steps > STEPS:
            cursor.doubt[rows] = True
            return
        part = cursor.part(rows)
        if len(fresh := np.flatnonzero(left == 0)):
            left[fresh] = _block(item, part, fresh)
        going = left > 0
        if not going.all():
            cursor.join(rows, part)
            rows, left = rows[going], left[going]
            part = cursor.part(rows)
        if item.type in {"float", "double", "fixed"} and len(rows):
            part.skip(left * item.width)
            left[:] = 0
        else:
            read(item, part, columns, None)
            left -= 1
        cursor.join(rows, part)
        sure = ~cursor.doubt[rows]
        rows, left = rows[sure], left[sure]


def _block(item: Wire, cursor: Cursor, rows: Ints) -> Ints:
    """How many items the next block of each has; 0 at the end, or in doubt."""
    part = cursor.part(rows)
    count = part.integers()
    if len(sized := np.flatnonzero(count < 0)):  # the block's size follows
        count[sized] = -count[sized]
        inner = part.part(sized)
        inner.integers()
        part.join(sized, inner)
    wrong = (count < 0) | (count > (part.end - part.at) // item.width)
    part.doubt |= wrong
    count[part.doubt] = 0
    cursor.join(rows, part)
    return count


def _decimals(wire: Wire, cursor: Cursor) -> tuple[Ints, Words]:
    """Upper and lower half of unscaled decimals: big-endian two's complement. More than 16 bytes, or digits, are a doubt."""
    if wire.size < 0:
        start, length = cursor.spans()
    else:
        start, length = cursor.at, np.full(len(cursor.at), wire.size)
        cursor.skip(wire.size)
    cursor.doubt |= length > 16  # noqa: PLR2004 - both halves
    length = np.minimum(length, 16)
    whole = length > 8  # noqa: PLR2004 - one half
    first = _signed(cursor.words[start], np.where(whole, length - 8, length))
    low = np.where(whole, cursor.words[start + np.where(whole, length - 8, 0)].byteswap().view(np.int64), first)
    high, unsigned = np.where(whole, first, first >> 63), low.view(np.uint64)
    most = 10 ** min(wire.precision, DIGITS) - 1
    for bound, sign in ((most, 1), (-most, -1)):
        upper, lower = np.int64(bound >> 64), np.uint64(bound & (1 << 64) - 1)
        beyond = unsigned > lower if sign > 0 else unsigned < lower
        cursor.doubt |= ((high > upper) if sign > 0 else (high < upper)) | ((high == upper) & beyond)
    return high, unsigned


def _signed(word: Words, length: Ints) -> Ints:
    """The first 0 to 8 bytes as a big-endian signed number."""
    shifted = word.byteswap().view(np.int64) >> np.minimum(64 - 8 * length, 63)
    return np.where(length == 0, 0, shifted)
