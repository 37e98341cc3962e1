"""Avro schemas and values that Hypothesis draws, without regard to what is wanted of them. In: draws. Out: schemas, values. Pure.

Values are those of the bare schema: an Avro library that knows no logical types writes and reads them, decimals as bytes.
"""

import io
import math
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import fastavro
from hypothesis import strategies as st

from flows.fields import Leaf
from tests.batches import varint

Values = st.SearchStrategy[Any]
Drawn = tuple[Any, Values]  # a type as a schema declares it, and its values

LONG = st.one_of(st.integers(-70, 70), st.sampled_from([-(1 << 63), (1 << 63) - 1]), st.integers(-(1 << 63), (1 << 63) - 1))
INT = st.one_of(st.integers(-70, 70), st.sampled_from([-(1 << 31), (1 << 31) - 1]))
TEXT = st.one_of(st.text(max_size=3), st.text("aé漢😀", max_size=30), st.just("x" * 70))
BREAKS = (b"", b"\x00", b"\x01", b"\x04", b"\x7f", b"\x80", b"\xff", b"\xff" * 9 + b"\x01", b"\x80" * 9 + b"\x02")
EPOCH_DAY, DAY_US = date(1970, 1, 1).toordinal(), 86_400_000_000
TIMES = [(kind, name) for name in ("millis", "micros", "nanos") for kind in ("timestamp-", "local-timestamp-")]
PRIMITIVES: list[Drawn] = [
    ("int", INT),
    ("long", LONG),
    ("float", st.floats(width=32)),
    ("double", st.floats()),
    ("boolean", st.booleans()),
    ("string", TEXT),
    ("bytes", st.binary(max_size=20)),
    ({"type": "string", "logicalType": "uuid"}, TEXT),
    ({"type": "int", "logicalType": "date"}, INT | st.sampled_from([-719_162, -719_163, 2_932_896, 2_932_897, 20_000])),
    ({"type": "int", "logicalType": "time-millis"}, INT | st.sampled_from([0, 86_399_999, 86_400_000, -1])),
    ({"type": "long", "logicalType": "time-micros"}, LONG | st.sampled_from([0, 86_399_999_999, 86_400_000_000, -1])),
    *(({"type": "long", "logicalType": kind + unit}, LONG) for kind, unit in TIMES),
]
NUMBERS = {"int": INT, "long": LONG, "float": st.floats(width=32), "double": st.floats()}
FIXED = {"uuid": 16, "duration": 12, "of-our-own": 5}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
# A field's type, bytes, and what they are: a value, or why they are none.
WELL_FORMED: list[Any] = [
    ("long", b"\x88" + b"\x80" * 8 + b"\x00", 4),  # longer than need be
    ("long", b"\xff" * 9 + b"\x01", -(1 << 63)),
    ("int", b"\xff\xff\xff\xff\x0f", -(1 << 31)),
    (["null", "long"], b"\x00", None),
    (["null", "long"], b"\x02\x08", 4),
    ({"type": "enum", "name": "E", "symbols": ["X", "Y"]}, b"\x02", 1),
    ({"type": "array", "items": "long"}, b"\x04\x02\x04\x02\x06\x00", [1, 2, 3]),  # two blocks
    ({"type": "array", "items": "long"}, b"\x03\x04\x02\x04\x00", [1, 2]),  # a block that says its size
    ({"type": "map", "values": "null"}, b"\x02\x02k\x00", [{"key": "k", "value": None}]),
    (DECIMAL, b"\x00", 0),
    (DECIMAL, b"\x04\x27\x0f", 9999),
    (DECIMAL, varint(64) + b"\xff" * 64, -1),
    ({"type": "record", "name": "Empty", "fields": []}, b"", {}),
]
MALFORMED: list[Any] = [
    ("long", b"", "truncated"),
    ("long", b"\x80", "truncated"),
    ("long", b"\x02\x00", "1 bytes left over"),
    ("long", b"\x80" * 10 + b"\x00", "more than ten bytes"),
    ("long", b"\x80" * 9 + b"\x02", "more than 64 bits"),
    ("int", varint(1 << 31), "2147483648 is not in"),
    ("int", varint(1 << 40), "1099511627776 is not in"),
    (["null", "long"], b"\x04\x08", "2 is not in 0 to 1"),
    (["null", "long"], b"\x01\x08", "-1 is not in 0 to 1"),
    ({"type": "enum", "name": "E", "symbols": ["X", "Y"]}, b"\x04", "2 is not in 0 to 1"),
    ({"type": "enum", "name": "E", "symbols": ["X", "Y"]}, b"\x01", "-1 is not in 0 to 1"),
    ("boolean", b"\x02", "a boolean of 2"),
    ("string", b"\x02\xff", "invalid UTF-8"),
    ("string", b"\x06\xed\xa0\x80", "invalid UTF-8"),  # half of a surrogate pair
    ("string", b"\x01", "a length of -1"),
    ("bytes", varint(1 << 40), "truncated"),
    ("double", b"\x00" * 7, "truncated"),
    ({"type": "fixed", "name": "F", "size": 3}, b"ab", "truncated"),
    ({"type": "array", "items": "long"}, varint(30_000_000), "30000000 items in 0 bytes"),
    ({"type": "array", "items": "long"}, varint(-30_000_000) + b"\x00", "30000000 items in 0 bytes"),
    ({"type": "array", "items": "long"}, varint(-(1 << 63)) + b"\x00", "items in 0 bytes"),
    ({"type": "map", "values": "null"}, varint(1 << 62), "items in 0 bytes"),
    ({"type": "array", "items": "long"}, b"\x02\x02", "truncated"),  # without an end
    (NODE, b"\x02" * 1_500 + b"\x00", "nested deeper than 64"),
]
OUT_OF_RANGE: list[Any] = [
    (DECIMAL, b"\x04\x27\x10"),  # 10000
    (DECIMAL, b"\x04\xd8\xf0"),  # -10000
    (DECIMAL, varint(65) + bytes(65)),
    (DECIMAL, varint(1 << 20) + bytes(1 << 20)),
    ({**DECIMAL, "precision": 60}, varint(17) + b"\x7f" + bytes(16)),  # more than a frame can hold
]


@dataclass(frozen=True, slots=True)
class Shape:
    """A record's schema, and values that can be written with it."""

    schema: dict[str, Any]
    values: Values


@dataclass(slots=True)
class _Names:
    """What is declared so far, and a number for the next one."""

    declared: dict[str, Values] = field(default_factory=dict)

    def add(self, kind: str) -> str:
        return f"{kind}{len(self.declared)}"

    def named(self, declared: dict[str, Any], values: Values) -> Drawn:
        self.declared[declared["name"]] = values
        return declared, values


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Any record: nested, nullable, with unions of several types, arrays, maps, decimals, enums, and names used twice."""
    schema, values = draw(_records(_Names(), 0))
    return Shape(schema, values)


@st.composite
def _records(draw: st.DrawFn, names: _Names, depth: int) -> Drawn:
    """A record; one below the top begins with a number, so that no array can hold nothing."""
    name = names.add("R")
    names.declared[name] = st.nothing()
    drawn = [draw(st.sampled_from(PRIMITIVES))] if depth else []
    drawn += [draw(_types(names, depth + 1)) for _ in range(draw(st.integers(0, 3)))]
    values = st.fixed_dictionaries({f"f{index}": values for index, (_, values) in enumerate(drawn)})
    fields = [{"name": f"f{index}", "type": declared} for index, (declared, _) in enumerate(drawn)]
    return names.named({"type": "record", "name": name, "fields": fields}, values)


@st.composite
def _types(draw: st.DrawFn, names: _Names, depth: int, *, union: bool = True) -> Drawn:  # noqa: C901, PLR0911 - a case a type
    usable = [(name, values) for name, values in names.declared.items() if not values.is_empty]
    kinds = ["primitive"] * 3 + ["decimal", "enum", "fixed"] + ["named"] * bool(usable)
    kinds += ["logical"] + ["record", "array", "map"] * (depth < 4) + ["nullable", "nullable", "several", "numbers"] * union
    match draw(st.sampled_from(kinds)):
        case "decimal":
            return draw(_decimals(names))
        case "enum":
            symbols = [f"S{index}" for index in range(draw(st.integers(1, 70)))]
            return names.named({"type": "enum", "name": names.add("E"), "symbols": symbols}, st.sampled_from(symbols))
        case "fixed":
            size = draw(st.integers(1, 20))
            return names.named({"type": "fixed", "name": names.add("F"), "size": size}, st.binary(min_size=size, max_size=size))
        case "logical":
            logical, size = draw(st.sampled_from(sorted(FIXED.items())))
            fixed = {"type": "fixed", "name": names.add("L"), "size": size, "logicalType": logical}
            return names.named(fixed, st.binary(min_size=size, max_size=size))
        case "numbers":
            chosen = draw(st.lists(st.sampled_from(sorted(NUMBERS)), min_size=2, unique=True))
            null = draw(st.integers(-1, len(chosen)))  # where it is, or nowhere
            branches = st.one_of([st.tuples(st.just(name), NUMBERS[name]) for name in chosen])
            return [*chosen[:null], "null", *chosen[null:]] if null >= 0 else chosen, branches | st.none() if null >= 0 else branches
        case "named":
            return draw(st.sampled_from(usable))
        case "record":
            return draw(_records(names, depth))
        case "nullable":
            inner, values = draw(_types(names, depth + 1, union=False))
            return draw(st.permutations(["null", inner])), st.none() | values
        case "several":
            return ["null", "string", "long", "double"], st.none() | TEXT | LONG | st.floats()
        case "array":
            inner, values = draw(_types(names, depth + 1))
            return {"type": "array", "items": inner}, st.lists(values, max_size=6)
        case "map":
            inner, values = draw(_types(names, depth + 1))
            return {"type": "map", "values": inner}, st.dictionaries(TEXT, values, max_size=6)
    return draw(st.sampled_from(PRIMITIVES))


@st.composite
def _decimals(draw: st.DrawFn, names: _Names) -> Drawn:
    precision = draw(st.integers(1, 38))
    logical = {"logicalType": "decimal", "precision": precision, "scale": draw(st.integers(0, precision))}
    most = 10**precision - 1
    size = (most.bit_length() + 8) // 8
    number = st.integers(-most, most) | st.sampled_from([-most, most, 0, -1])
    if draw(st.booleans()):
        fixed = {"type": "fixed", "name": names.add("D"), "size": size, **logical}
        return names.named(fixed, number.map(lambda n: n.to_bytes(size, "big", signed=True)))
    more = st.sampled_from([0, 0, 0, 1, 7, 64 - size])
    return {"type": "bytes", **logical}, st.builds(
        lambda n, m: b"" if n == m == 0 else n.to_bytes(size + m, "big", signed=True), number, more
    )


def bare(declared: Any) -> Any:
    """A schema without its logical types."""
    if isinstance(declared, list):
        return [bare(branch) for branch in declared]
    if isinstance(declared, dict):
        return {key: bare(value) for key, value in declared.items() if key not in {"logicalType", "precision", "scale"}}
    return declared


def write(schema: Any, value: Any) -> bytes:
    """A message of a bare schema, as fastavro writes it."""
    message = io.BytesIO()
    fastavro.schemaless_writer(message, fastavro.parse_schema(bare(schema)), value)
    return message.getvalue()


def broken(message: bytes, rnd: Random) -> bytes:
    """A message with some of its bytes changed, removed or added."""
    for _ in range(rnd.randint(1, 3)):
        at = rnd.randint(0, len(message))
        message = message[:at] + rnd.choice(BREAKS) + message[at + rnd.randint(0, 2) :]
    return message


def read(schema: Any, message: bytes) -> Any:
    """What fastavro reads; bytes left over are a ValueError."""
    stream = io.BytesIO(message)
    value = fastavro.schemaless_reader(stream, fastavro.parse_schema(bare(schema)), None)
    if stream.read():
        raise ValueError("bytes left over")
    return value


def look_up(value: Any, leaf: Leaf) -> Any:  # noqa: PLR0911 - a case a kind
    """What a frame is to hold of a bare value: times in ms, floored; dates; times of day; decimals unscaled."""
    for name in leaf.path.split("."):
        value = None if value is None else value[name]
    if value is None:
        return None
    if leaf.kind == "time":
        return value // (1_000_000 // leaf.unit_ns)
    if leaf.kind == "date":
        return date.fromordinal(value + EPOCH_DAY) if 0 < value + EPOCH_DAY <= date.max.toordinal() else None
    if leaf.kind == "daytime":
        micros = value * leaf.unit_ns // 1_000
        return (datetime(1, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).time() if 0 <= micros < DAY_US else None
    if leaf.kind == "uuid":
        return str(UUID(bytes=value))
    if leaf.kind == "float" and isinstance(value, int):
        return float(value)
    if leaf.kind == "decimal":
        return int.from_bytes(value, "big", signed=True)
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return value


def examined(schema: Any, value: Any) -> Any:
    """A bare value as `message.examine` gives it: an enum's index, a decimal unscaled, a map as pairs."""
    names: dict[str, Any] = {}
    return _examined(fastavro.parse_schema(schema, named_schemas=names), value, names)


def _examined(declared: Any, value: Any, names: dict[str, Any]) -> Any:  # noqa: PLR0911 - a case a type
    if isinstance(declared, list):
        several = [branch for branch in declared if branch != "null"]
        return value if value is None or len(several) > 1 else _examined(several[0], value, names)
    declared = names.get(declared, declared) if isinstance(declared, str) else declared
    match declared if isinstance(declared, str) else declared["type"]:
        case "record":
            return {f["name"]: _examined(f["type"], value[f["name"]], names) for f in declared["fields"]}
        case "array":
            return [_examined(declared["items"], item, names) for item in value]
        case "map":
            return [{"key": key, "value": _examined(declared["values"], item, names)} for key, item in value.items()]
        case "enum":
            return declared["symbols"].index(value)
        case "bytes" | "fixed" if isinstance(declared, dict) and declared.get("logicalType") == "decimal":
            return int.from_bytes(value, "big", signed=True)
    return value
