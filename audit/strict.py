"""One message checked against its schema, to the last byte. In: a wire type and bytes. Out: whether they are exactly one value of it. Pure.

fastavro decodes what is sound, and lets pass what Avro does not allow: negative indices, ints beyond 32 bits, booleans of 2, decimals
beyond their precision. So what the flow called malformed or out of range is judged here, slowly and without trusting a length.
"""

from collections.abc import Mapping

from flows.fields import MAX_DEPTH, Schema, Wire

LONGEST_DECIMAL, MOST_DIGITS = 64, 38  # bytes; digits of a decimal column
LONGEST_VARINT = 10  # bytes


class Wrong(ValueError):  # noqa: N818 - a verdict
    """The message is not what its schema says; the text is the fate: "malformed" or "range"."""


def verdict(schema: Schema, message: bytes) -> str | None:
    """The fate "malformed" or "range", or None for a sound message (the bytes behind the five of the header)."""
    walk = _Walk(message, schema.names)
    try:
        walk.over(schema.wire, 0)
    except Wrong as wrong:
        return str(wrong)
    return None if walk.place == len(message) else "malformed"


class _Walk:
    """Goes over a message without keeping its values."""

    def __init__(self, message: bytes, names: Mapping[str, Wire]) -> None:
        self.message, self.names, self.place = message, names, 0

    def over(self, wire: Wire, depth: int) -> None:
        """One value."""
        if depth > MAX_DEPTH:
            raise Wrong("malformed")
        if wire.type == "record":
            for _, inner in wire.fields:
                self.over(inner, depth + 1)
        elif wire.type == "name":
            self.over(self.names[wire.name], depth)
        elif wire.type == "union":
            self.over(wire.fields[self.between(0, wire.high)][1], depth + 1)
        elif wire.type == "array":
            self.blocks(wire.fields[0][1], depth + 1)
        elif wire.type == "integer":
            self.between(wire.low, wire.high)
        elif wire.type == "decimal":
            self.decimal(wire)
        else:
            self.plain(wire)

    def plain(self, wire: Wire) -> None:
        """A value that holds no other."""
        if wire.type == "string":
            try:
                self.bytes(self.between(0, len(self.message))).decode()
            except UnicodeDecodeError:
                raise Wrong("malformed") from None
        elif wire.type == "bytes":
            self.bytes(self.between(0, len(self.message)))
        elif wire.type == "boolean":
            if self.bytes(1) not in (b"\0", b"\1"):
                raise Wrong("malformed")
        else:
            self.bytes({"null": 0, "float": 4, "double": 8}.get(wire.type, wire.size))

    def decimal(self, wire: Wire) -> None:
        """At most 64 bytes, and no more digits than the type has, or a column."""
        octets = self.bytes(wire.size if wire.size >= 0 else self.between(0, len(self.message)))
        if len(octets) > LONGEST_DECIMAL or abs(int.from_bytes(octets, "big", signed=True)) >= 10 ** min(wire.precision, MOST_DIGITS):
            raise Wrong("range")

    def blocks(self, item: Wire, depth: int) -> None:
        """An array, or a map: blocks of items up to an empty one."""
        while count := self.number():
            if count < 0:
                self.number()  # the size of the block, for those who skip it
            if abs(count) * item.width > len(self.message) - self.place:
                raise Wrong("malformed")
            for _ in range(abs(count)):
                self.over(item, depth)

    def between(self, low: int, high: int) -> int:
        """A number within bounds."""
        number = self.number()
        if not low <= number <= high:
            raise Wrong("malformed")
        return number

    def number(self) -> int:
        """A zigzag varint of at most 64 bits."""
        raw = shift = 0
        while True:
            octet = self.bytes(1)[0]
            raw |= (octet & 127) << shift
            shift += 7
            if octet < 128:  # noqa: PLR2004 - the bit that says there is more
                break
            if shift == 7 * LONGEST_VARINT:
                raise Wrong("malformed")
        if raw >= 1 << 64:
            raise Wrong("malformed")
        return raw // 2 if raw % 2 == 0 else -(raw // 2) - 1

    def bytes(self, count: int) -> bytes:
        """So many bytes."""
        if self.place + count > len(self.message):
            raise Wrong("malformed")
        self.place += count
        return self.message[self.place - count : self.place]
