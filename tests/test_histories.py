"""Several versions and record types in one window, bytes to rows: what fastavro reads of each under one resolved schema, the rows count."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import fastavro
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.declaration import parse
from flows.fields import Schema, read_schema
from flows.plan import plan
from tests.batches import batch, confluent
from tests.core import MILLIS, TOPIC, money
from tests.differences import compare
from tests.ends import Poll, run
from tests.oracle import Kpi, Message, Spec, Step, expect
from tests.oracle_aggregates import Told
from tests.oracle_windows import Window

T0 = 1_800_000_000_000
REFUND = 90  # the schema id of another record type in the same topic
NUMBERS = ("int", "long", "double")
SYMBOLS = ("WEB", "APP", "SHOP", "PHONE")
EXTRAS: Mapping[str, Any] = {  # fields that a version has, or not
    "extra": "long",
    "day": {"type": "int", "logicalType": "date"},
    "opens": {"type": "int", "logicalType": "time-millis"},
    "shuts": {"type": "long", "logicalType": "time-micros"},
    "id": {"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"},
    "ref": {"type": "string", "logicalType": "uuid"},
    "seen": {"type": "long", "logicalType": "timestamp-micros"},
    "local": {"type": "long", "logicalType": "local-timestamp-millis"},
    "span": {"type": "fixed", "name": "Span", "size": 12, "logicalType": "duration"},
    "odd": {"type": "long", "logicalType": "of-our-own"},
}
UNIONS: Mapping[str, Any] = {"u": ["null", "int", "double"], "mixed": ["null", "string", "long"]}
GROUPS = ("day", "opens", "shuts", "id", "channel", "extra")
MEASURES = {
    **dict.fromkeys(("n", "u", "price"), ("sum", "min", "last", "distinct")),
    **dict.fromkeys(("extra", "odd", "refund"), ("sum", "max", "distinct")),
    **dict.fromkeys(("day", "opens", "shuts", "id", "ref"), ("min", "max", "first", "last", "distinct")),
    "channel": ("counts", "last"),
    "span": ("count",),
    "city": ("top", "first"),
}


@dataclass(frozen=True)
class Version:
    """One version of the schema: where its fields have come to, and in which order it has them."""

    number: int  # index into NUMBERS
    scale: int
    name: str  # "city", or "town" when it was renamed
    symbols: int
    extras: tuple[str, ...]
    seed: int

    def fields(self) -> dict[str, Any]:
        enum = {"type": "enum", "name": "Channel", "symbols": list(SYMBOLS[: self.symbols])}
        own = {"ts": MILLIS, "n": NUMBERS[self.number], "price": money(self.scale, 12), self.name: "string", "channel": enum}
        more = {name: ["null", EXTRAS[name]] if name in EXTRAS else UNIONS[name] for name in self.extras}
        names = [*own, *more]
        Random(self.seed).shuffle(names)
        return {name: (own | more)[name] for name in names}

    def schema(self) -> dict[str, Any]:
        fields = [{"name": name, "type": it, **({"aliases": ["city"]} if name == "town" else {})} for name, it in self.fields().items()]
        return {"type": "record", "name": "Order", "namespace": "shop", "fields": fields}


@st.composite
def histories(draw: st.DrawFn) -> list[Version]:
    """One to five versions, each after the one before: numbers and enums only grow, a name changes once, other fields come and go."""
    count = draw(st.integers(1, 5))
    numbers, scales = (sorted(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))) for _ in range(2))
    symbols = sorted(draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)))
    renamed = draw(st.integers(0, count))
    extras = [tuple(draw(st.sets(st.sampled_from([*EXTRAS, *UNIONS])))) for _ in range(count)]
    return [
        Version(numbers[i], scales[i], "town" if i >= renamed else "city", symbols[i], tuple(sorted(extras[i])), draw(st.integers(0, 99)))
        for i in range(count)
    ]


def value(name: str, version: Version, rnd: Random) -> Any:  # noqa: C901, PLR0911, PLR0912 - a case a field
    """A value of a field as fastavro takes it."""
    if name in EXTRAS and rnd.random() < 0.2:
        return None
    match name:
        case "n":
            return rnd.choice([0.5, -2.25, 1e9]) if version.number == 2 else rnd.choice([0, 7, -3, 2**31 - 1] + [2**40] * version.number)
        case "price":
            return Decimal(rnd.randint(-999, 999)).scaleb(-version.scale)
        case "city" | "town":
            return rnd.choice(["Oslo", "Bergen", ""])
        case "channel":
            return rnd.choice(SYMBOLS[: version.symbols])
        case "day":
            return rnd.choice([date(1, 1, 1), date(2026, 3, 1), date(9999, 12, 31)])
        case "opens":
            return rnd.choice([time(0), time(8, 30), time(23, 59, 59, 999_000)])
        case "shuts":
            return rnd.choice([time(0), time(17, 0, 0, 1), time(23, 59, 59, 999_999), time(12, 0, 0, 500_000)])
        case "id":
            return rnd.choice([bytes(16), bytes(range(16)), b"\xff" * 16])
        case "ref":
            return str(UUID(int=rnd.randrange(3)))
        case "span":
            return bytes(12)
        case "u":
            return rnd.choice([None, 3, -1, 0.125])
        case "mixed":
            return rnd.choice([None, "x", 2**40])
    return rnd.randrange(-5, 5) if name in {"extra", "odd"} else T0


def resolved(history: Sequence[Version]) -> Any:
    """The schema that every version is read under: all fields, each of its widest type, null where a version has none.

    Without decimals: Avro knows no change of their scale.
    """
    widest = {"n": NUMBERS[history[-1].number], "u": "double", "town": "string"} | dict(EXTRAS) | {"mixed": UNIONS["mixed"][1:]}
    widest["channel"] = {"type": "enum", "name": "Channel", "symbols": list(SYMBOLS)}
    fields: list[dict[str, Any]] = [{"name": "ts", "type": "long"}]
    for name, it in widest.items():
        declared = ["null", *it] if isinstance(it, list) else ["null", it]
        fields.append({"name": name, "type": declared, "default": None, "aliases": ["city"] if name == "town" else []})
    return fastavro.parse_schema({"type": "record", "name": "Order", "namespace": "shop", "fields": fields})


def expected(writer: Any, reader: Any, body: bytes) -> dict[str, Any]:
    """The event as the specification takes it."""
    read: Any = fastavro.schemaless_reader(io.BytesIO(body), writer, None)
    event: Any = fastavro.schemaless_reader(io.BytesIO(body), writer, reader)
    uuid = event["id"]
    event["id"] = str(UUID(bytes=uuid)) if isinstance(uuid, bytes) else uuid and str(uuid)
    event["ref"] = event["ref"] and str(event["ref"])
    event["span"] = event["span"] and 1
    return {**event, "price": read["price"], "city": event["town"], "refund": None}


@settings(max_examples=60, deadline=None)
@given(histories(), st.data(), st.integers(0, 1 << 32))
def test_versions_and_record_types_in_one_window_count_as_fastavro_reads_them(
    history: list[Version], data: st.DataObject, seed: int
) -> None:
    rnd = Random(seed)
    schemas = {number: read_schema(number, json.dumps(version.schema())) for number, version in enumerate(history, 1)}
    refund = [{"name": name, "type": kind} for name, kind in (("ts", MILLIS), ("refund", "long"), ("n", "int"))]
    schemas[REFUND] = read_schema(REFUND, json.dumps({"type": "record", "name": "Refund", "namespace": "shop", "fields": refund}))
    reader, empty = resolved(history), dict.fromkeys([*MEASURES, *EXTRAS, *UNIONS, "town"])
    messages, values = [], []
    for offset, number in enumerate([*data.draw(st.lists(st.sampled_from([*schemas]), max_size=30)), 1]):
        ts = T0 + offset if offset < 30 else T0
        if number == REFUND:
            event: dict[str, Any] = {"ts": ts, "refund": rnd.randrange(9), "n": rnd.randrange(9)}
            body = confluent(number, schemas[number].parsed, event)
            event = {**empty, **event, "n": float(event["n"]) if history[-1].number == 2 else event["n"]}
        else:
            version = history[number - 1]
            written = {name: value(name, version, rnd) for name in version.fields()} | {"ts": ts}
            body = confluent(number, schemas[number].parsed, written)
            event = {**expected(schemas[number].parsed, reader, body[5:]), "ts": ts}
        messages.append(Message(0, offset, ts, None, event))
        values.append(body)
    has = {path for schema in schemas.values() for path in schema.leaves}
    kpis = [Kpi(f"{of}_{it}", it, of, *_told(it)) for of, aggregates in MEASURES.items() if of in has for it in aggregates]
    groups = [(name,) for name in GROUPS if name in has]
    spec = Spec((Window("tumbling", 60_000),), (Kpi("events_", "count", "*"), *kpis), "ts", group_sets=((), *groups))
    end = Message(0, len(messages), T0 + 600_000, None, {**empty, "ts": T0 + 600_000, "refund": 1, "n": 1})
    end_value = confluent(REFUND, schemas[REFUND].parsed, {"ts": T0 + 600_000, "refund": 1, "n": 1})
    steps = [Step(T0 + 601_000, {0: messages}, 1), Step(T0 + 602_000, {0: [end]}, 1)]
    said = [f'windows = ["1m"]\ntime = "ts"\nby = {json.dumps([list(it) for it in spec.group_sets])}\n[topics.{TOPIC}.kpis]']
    said += [
        f"{kpi.name} = {{ {kpi.aggregate} = {json.dumps(kpi.field)}{', k = 3' if kpi.aggregate == 'top' else ''} }}" for kpi in spec.kpis
    ]
    made = plan(parse(f"[topics.{TOPIC}]\n" + "\n".join(said)), TOPIC, list(schemas.values()))
    cut = rnd.randint(0, len(values))
    parts = [[(None, it, T0, ()) for it in part] for part in (values[:cut], values[cut:])]
    batches = [batch(part, 0, at) for part, at in zip(parts, (0, cut), strict=True) if part]
    polls = [Poll(T0 + 601_000, batches, 1), Poll(T0 + 602_000, [batch([(None, end_value, T0 + 600_000, ())], 0, len(values))], 1)]

    def schema_of(schema_id: int) -> Schema:
        return schemas[schema_id]

    result = run(made, polls, schema_of)
    assert (result.late, result.dead) == ([], [])
    assert compare(expect(spec, steps).finals, result.finals) == []


def _told(aggregate: str) -> tuple[Any, ...]:
    return (Told(k=3),) if aggregate == "top" else ()
