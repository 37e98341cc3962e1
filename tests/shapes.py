"""Avro fields of every kind that Hypothesis draws, with all the edges of their values. In: draws. Out: columns, schema, events. Pure."""

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from random import Random

from hypothesis import strategies as st

Draw = Callable[[Random], object]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A field of an event. `value` draws one; a dotted path lies in nested records."""

    path: str
    kind: str  # "integer", "float", "decimal", "boolean", "string", "enum" or "other"
    type: object  # Avro
    value: Draw


@dataclass(frozen=True, slots=True)
class Time:
    """The field of event time, or none: then the Kafka timestamp is it."""

    path: str | None
    type: object = "long"
    unit_ns: int = 1_000_000
    declared: bool = True  # else it is found by its name or its logical type
    nullable: bool = False

    def raw(self, time_ms: int, rnd: Random) -> int:
        """The field's value for a time: finer units get a rest that must be floored away."""
        units = 1_000_000 // self.unit_ns
        return time_ms * units + rnd.randrange(units)


def _either(edges: Iterable[object], otherwise: Draw, share: float = 0.15) -> Draw:
    chosen = tuple(edges)
    return lambda rnd: rnd.choice(chosen) if rnd.random() < share else otherwise(rnd)


def single(value: float) -> float:
    """The nearest 4-byte float: what Avro's `float` keeps."""
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


# Magnitudes stay where squares of differences are doubles: DESIGN says nothing of sums that overflow one.
PROFILES: Mapping[str, Draw] = {
    "plain": lambda rnd: rnd.uniform(-100, 100),
    "far": lambda rnd: rnd.gauss(1e9, 1),
    "money": lambda rnd: rnd.randrange(-10_000, 10_000) / 100,
    "wild": lambda rnd: rnd.choice((-1, 1)) * 10 ** rnd.uniform(-30, 30),
}
NOT_FINITE = (math.nan, math.inf, -math.inf)
LONG = "ü" * 500 + "€" * 50  # 1,150 bytes; the 1,024th is in the middle of a character
EDGES = ("\0", "\x1f", "\u202e<script>", "__other__", LONG + "1", LONG + "2")
TEXTS = ("", "a", "b", "TEST", "Ünï", 'say "x"', "line\nbreak", "null", " ", *EDGES)
SYMBOLS = ("WEB", "APP", "SHOP")


@st.composite
def _whole(draw: st.DrawFn, path: str) -> Column:
    wide = path == "total"
    top = 2**63 - 1 if wide else 2**31 - 1
    edges = draw(st.sampled_from([(0, 1, -1), (0, top, -top - 1, -1), (top, top - 1)]))
    return Column(path, "integer", "long" if wide else "int", _either(edges, lambda rnd: rnd.randint(-1000, 1000)))


@st.composite
def _floating(draw: st.DrawFn, path: str) -> Column:
    wide = path != "ratio"
    plain = PROFILES[draw(st.sampled_from(sorted(PROFILES)))]
    edges = draw(st.sampled_from([(0.0, -0.0), NOT_FINITE, (*NOT_FINITE, 0.0, 1e30, 1e-30)]))
    value = _either(edges, plain)
    return Column(path, "float", "double" if wide else "float", value if wide else lambda rnd: single(float(str(value(rnd)))))


@st.composite
def _decimal(draw: st.DrawFn, path: str) -> Column:
    precision = draw(st.integers(1, 24))
    scale = draw(st.integers(0, precision))
    top = 10**precision - 1
    value = _either((0, top, -top), lambda rnd: rnd.randint(-min(top, 9999), min(top, 9999)))
    avro = {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}
    return Column(path, "decimal", avro, lambda rnd: Decimal(str(value(rnd)) + f"E-{scale}"))


def _text(path: str) -> st.SearchStrategy[Column]:
    return st.just(Column(path, "string", "string", lambda rnd: rnd.choice(TEXTS)))


def _enum(path: str) -> st.SearchStrategy[Column]:
    avro = {"type": "enum", "name": path.replace(".", "_"), "symbols": list(SYMBOLS)}
    return st.just(Column(path, "enum", avro, lambda rnd: rnd.choice(SYMBOLS)))


def _boolean(path: str) -> st.SearchStrategy[Column]:
    return st.just(Column(path, "boolean", "boolean", lambda rnd: rnd.random() < 0.5))


def _small(path: str) -> st.SearchStrategy[Column]:
    return st.just(Column(path, "integer", "int", lambda rnd: rnd.randint(-1, 2)))


MEASURES = {
    "quantity": _whole,
    "total": _whole,
    "ratio": _floating,
    "level": _floating,
    "price": _decimal,
    "paid": _boolean,
    "city": _text,
    "channel": _enum,
    "address.country": _text,
    "address.zone": _small,
    "address.place.height": _floating,
}
GROUPS = ("paid", "city", "channel", "address.country", "address.zone")  # few values each

# Nobody measures these; they must be read over.
UNREAD = (
    Column("tags", "other", {"type": "map", "values": "long"}, lambda rnd: {f"k{i}": i for i in range(rnd.randrange(3))}),
    Column("marks", "other", {"type": "array", "items": "string"}, lambda rnd: ["x"] * rnd.randrange(3)),
    Column("blob", "other", "bytes", lambda rnd: rnd.randbytes(rnd.randrange(5))),
)
LATER = Column("billed_at", "other", {"type": "long", "logicalType": "timestamp-millis"}, lambda rnd: rnd.randrange(2**40))


@st.composite
def columns(draw: st.DrawFn) -> tuple[Column, ...]:
    """Two or more fields in any order, some nullable."""
    paths = draw(st.lists(st.sampled_from(sorted(MEASURES)), min_size=2, max_size=len(MEASURES), unique=True))
    drawn = [_maybe_null(draw(MEASURES[path](path)), draw(st.sampled_from(["never", "never", "first", "last"]))) for path in paths]
    unread = draw(st.lists(st.sampled_from(UNREAD), max_size=2, unique=True))
    return tuple(draw(st.permutations([*drawn, *unread])))


def _maybe_null(column: Column, null: str) -> Column:
    if null == "never":
        return column
    union = ["null", column.type] if null == "first" else [column.type, "null"]
    return Column(column.path, column.kind, union, lambda rnd: None if rnd.random() < 0.25 else column.value(rnd))


@st.composite
def times(draw: st.DrawFn) -> Time:
    """Event time declared, found by name, found by logical type, or Kafka's."""
    unit = draw(st.sampled_from(["millis", "micros", "nanos"]))
    stamp: object = {"type": "long", "logicalType": f"timestamp-{unit}"}
    unit_ns = {"millis": 1_000_000, "micros": 1000, "nanos": 1}[unit]
    by_name = st.sampled_from(["event_time", "timestamp", "ts", "occurred_at", "created_at"])
    match draw(st.sampled_from(["declared", "plain", "name", "plain name", "logical", "kafka"])):
        case "declared":
            return Time("placed_at", stamp, unit_ns, nullable=draw(st.sampled_from([False, False, True])))
        case "plain":
            return Time("placed_at")
        case "name":
            return Time(draw(by_name), stamp, unit_ns, declared=False)
        case "plain name":
            return Time(draw(by_name), declared=False)
        case "logical":
            return Time("moment", stamp, unit_ns, declared=False)
        case _:
            return Time(None, declared=False)


def schema_of(time: Time, fields: Iterable[Column]) -> dict[str, object]:
    """The Avro record of these fields, the time first; paths with dots become nested records."""
    flat: list[tuple[str, object]] = [(column.path, column.type) for column in fields]
    if time.path:
        flat.insert(0, (time.path, ["null", time.type] if time.nullable else time.type))
        flat.append((LATER.path, LATER.type))  # a time that must not be taken for the event's
    return _record("Event", flat)


def _record(name: str, flat: Iterable[tuple[str, object]]) -> dict[str, object]:
    own: dict[str, object] = {}
    nested: dict[str, list[tuple[str, object]]] = {}
    for path, avro in flat:
        head, _, rest = path.partition(".")
        if rest:
            nested.setdefault(head, []).append((rest, avro))
        own[head] = avro
    own.update({head: _record(f"{name}_{head}", inner) for head, inner in nested.items()})
    return {"type": "record", "name": name, "fields": [{"name": head, "type": avro} for head, avro in own.items()]}


def event_of(time: Time, raw_time: int | None, fields: Iterable[Column], rnd: Random) -> dict[str, object]:
    """One event with a value in each field."""
    event: dict[str, object] = {time.path: raw_time, LATER.path: LATER.value(rnd)} if time.path else {}
    for column in fields:
        *parents, name = column.path.split(".")
        record = event
        for parent in parents:
            inner = record.setdefault(parent, {})
            assert isinstance(inner, dict)
            record = inner
        record[name] = column.value(rnd)
    return event
