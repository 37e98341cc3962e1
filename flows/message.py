"""One Avro message, read strictly. In: a schema and bytes. Out: its values, or the first reason why it is none. Pure.

The authority on what is malformed: `flows.cursor` reads many messages at once and asks here about each one that it doubts.
"""

import struct
from collections.abc import Mapping
from typing import Any

from flows.fields import MAX_DEPTH, Schema, Wire

DECIMAL_BYTES = 64  # a decimal of a megabyte takes a minute to turn into digits
DIGITS = 38  # of a decimal in a frame
_VARINT_BYTES = 10


class Malformed(ValueError):  # noqa: N818 - a verdict, not a fault of ours
    """The message is not what its schema says. `reason`: "malformed", or "range" for a decimal with too many digits."""

    def __init__(self, error: str, reason: str = "malformed") -> None:
        super().__init__(error)
        self.reason = reason
        self.path: list[str] = []  # the fields that it lies in

    def __str__(self) -> str:
        return f"{'.'.join(self.path)}: {super().__str__()}" if self.path else super().__str__()


def examine(schema: Schema, message: bytes) -> dict[str, Any]:
    """The values of a message (the bytes behind the header): plain, an enum as its index, a decimal unscaled.

    Raises Malformed: truncated, bytes left over, a varint of more than ten bytes or 64 bits, an int beyond 32 bits, an index of a union
    or an enum that is negative or beyond the last, a negative length, a length or count beyond what the bytes can hold, a boolean
    that is neither 0 nor 1, invalid UTF-8, types nested deeper than 64, a decimal of more digits than its precision (or than 38) or of
    more than 64 bytes.
    """
    reader = Reader(message, schema.names)
    value = reader.read(schema.wire, 0)
    if reader.at != len(message):
        raise Malformed(f"{len(message) - reader.at} bytes left over")
    return dict(value)


class Reader:
    """A place in a message; each method reads what stands there and moves behind it, or raises Malformed."""

    def __init__(self, message: bytes, names: Mapping[str, Wire], at: int = 0) -> None:
        self.message, self.names, self.at = message, names, at

    def read(self, wire: Wire, depth: int) -> Any:  # noqa: ANN401, C901, PLR0911, PLR0912 - any Avro value, a case a type
        """A value of a type."""
        if depth > MAX_DEPTH:
            raise Malformed(f"nested deeper than {MAX_DEPTH}")
        match wire.type:
            case "integer":
                return self.integer(wire.low, wire.high)
            case "string":
                return self.text()
            case "union":
                return self.read(wire.fields[self.integer(0, wire.high)][1], depth + 1)
            case "record":
                return self.record(wire, depth + 1)
            case "name":
                return self.read(self.names[wire.name], depth)
            case "array":
                return self.items(wire.fields[0][1], depth + 1)
            case "null":
                return None
            case "decimal":
                return self.decimal(wire)
            case "bytes":
                return self.take(self.length())
            case "fixed":
                return self.take(wire.size)
            case "boolean":
                return self.boolean()
            case "float":
                return struct.unpack("<f", self.take(4))[0]
            case "double":
                return struct.unpack("<d", self.take(8))[0]

    def record(self, wire: Wire, depth: int) -> dict[str, Any]:
        """The fields of a record, by name."""
        values, name = {}, ""
        try:
            for name, field in wire.fields:
                values[name] = self.read(field, depth)
        except Malformed as malformed:
            malformed.path.insert(0, name)
            raise
        return values

    def take(self, count: int) -> bytes:
        """So many bytes."""
        if count > len(self.message) - self.at:
            raise Malformed(f"truncated: want {count} bytes, {len(self.message) - self.at} are left")
        self.at += count
        return self.message[self.at - count : self.at]

    def varint(self) -> int:
        """A zigzag varint. (Avro 1.12, binary encoding; the same in Kafka's record format v2.)"""
        value = 0
        for index in range(_VARINT_BYTES):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:  # noqa: PLR2004 - the continuation bit
                break
        else:
            raise Malformed("a varint of more than ten bytes")
        if value >> 64:
            raise Malformed("a varint of more than 64 bits")
        return (value >> 1) ^ -(value & 1)

    def integer(self, low: int, high: int) -> int:
        """A number within bounds, both inclusive."""
        value = self.varint()
        if not low <= value <= high:
            raise Malformed(f"{value} is not in {low} to {high}")
        return value

    def length(self) -> int:
        """A number that is not negative."""
        value = self.varint()
        if value < 0:
            raise Malformed(f"a length of {value}")
        return value

    def text(self) -> str:
        """A string."""
        try:
            return self.take(self.length()).decode()
        except UnicodeDecodeError as error:
            raise Malformed(f"invalid UTF-8: {error.reason}") from None

    def boolean(self) -> bool:
        """One byte, 0 or 1."""
        byte = self.take(1)[0]
        if byte > 1:
            raise Malformed(f"a boolean of {byte}")
        return byte == 1

    def decimal(self, wire: Wire) -> int:
        """An unscaled decimal."""
        octets = self.take(self.length() if wire.size < 0 else wire.size)
        if len(octets) > DECIMAL_BYTES:
            raise Malformed(f"a decimal of {len(octets)} bytes", "range")
        value, digits = int.from_bytes(octets, "big", signed=True), min(wire.precision, DIGITS)
        if abs(value) >= 10**digits:
            raise Malformed(f"a decimal of more than {digits} digits", "range")
        return value

    def items(self, item: Wire, depth: int) -> list[Any]:
        """The items of an array, or the pairs of a map: blocks up to an empty one."""
        values: list[Any] = []
        while count := self.varint():
            if count < 0:  # then the block says its size, so that readers may skip it
                count = -count
                self.varint()
            if count * item.width > len(self.message) - self.at:
                raise Malformed(f"{count} items in {len(self.message) - self.at} bytes")
            values += [self.read(item, depth) for _ in range(count)]
        return values
