"""KPI rows as Avro records. In: rows, plans. Out: schemas; keys and values in Confluent's wire format. Pure.

The contract with every reader is written here, and in docs/contracts.md for people.
"""

import json
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, repeat
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import polars as pl

from flows import encoder
from flows.fold import Rows, alike
from flows.plan import Kpi, Output, TopicPlan
from flows.said import avro_name
from flows.tallies import MOST
from flows.windows import END, START, WINDOW, Window

LATE, DEAD, PROGRESS = "kpi.late", "kpi.dead-letters", "kpi.progress"
UNKNOWN, BEGUN = "kpi.unknown", "kpi.begun"  # headers of KPI rows after a change of what is declared
HEAD_BYTES = 5  # zero, and the schema id
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
OWN = {  # kind -> type of its min, max, first and last
    "integer": "long",
    "float": "double",
    "boolean": "boolean",
    "string": "string",
    "enum": "string",
    "time": MILLIS,
    "date": {"type": "int", "logicalType": "date"},
    "daytime": {"type": "long", "logicalType": "time-micros"},
}
LISTED = {"top": ("value", "top"), "histogram": ("bin", "bin")}  # aggregate -> field that names a number, end of the record's name
ERRORS = {  # aggregate -> by how much it may miss: a share of the value, of a top one of the events
    "quantile": {"error": 0.01},
    "distinct": {"error": 0.02, "exact_up_to": MOST},
    "top": {"error": 1 / (MOST + 1), "exact_up_to": MOST},
}


# What a sink writes: topic, key, value, headers. A Record is one; so is the plain tuple, which costs and pickles a fraction.
Row: TypeAlias = tuple[str, bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]


class Record(NamedTuple):
    """A row that is made alone: topic, key, value and headers (name, UTF-8 bytes)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Block(Collection[Row]):
    """Rows of KPI topics, packed: as long as they wait, and in a snapshot, they are a few stretches of bytes, not ten objects each.

    `heads`: topic, and what every key there begins with; `which`: of each row, the number of its head (uint16). `values`: one behind the
    other; `ends`: where each ends (int64), `key_ends`: and in it the key's fields (int64). `headers`: of each row; none where it is empty.
    """

    heads: tuple[tuple[str, bytes], ...]
    which: bytes
    values: bytes
    ends: bytes
    key_ends: bytes
    headers: tuple[tuple[tuple[str, bytes], ...], ...]

    def __len__(self) -> int:
        return len(self.ends) // 8

    def __iter__(self) -> Iterator[Row]:
        values, start = self.values, 0
        which = memoryview(self.which).cast("H").tolist()
        ends, key_ends = (memoryview(it).cast("q").tolist() for it in (self.ends, self.key_ends))
        for number, end, key_end, headers in zip(which, ends, key_ends, self.headers or repeat(()), strict=False):
            topic, head = self.heads[number]
            yield topic, head + values[start + HEAD_BYTES : start + key_end], values[start:end], headers
            start = end

    def __contains__(self, row: object) -> bool:
        return any(row == it for it in self)


@dataclass(frozen=True, slots=True)
class Joined(Collection[Row]):
    """Rows of several collections, one after the other; each row of a Block is made when it is wanted, and gone after that."""

    parts: tuple[Collection[Row], ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(self.parts)

    def __contains__(self, row: object) -> bool:
        return any(row in part for part in self.parts)


class Barrier(NamedTuple):
    """Everything before it is durable. `offsets`: (topic, partition, next offset) that may be shown to Kafka's tools."""

    offsets: tuple[tuple[str, int, int], ...] = ()


class Origin(NamedTuple):
    """Where a message that is not folded came from, and why it is not."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    reason: str
    error: str
    schema_id: int | None = None


def output_topic(topic: str, window: Window) -> str:
    """The KPI topic of a source topic and window size: `kpi.<topic>.<window>`."""
    return f"kpi.{topic}.{window.label}"


def set_aside(topic: str, key: bytes | None, value: bytes | None, origin: Origin) -> Record:
    """The original message for kpi.late or kpi.dead-letters, with headers that say where from and why."""
    said = {f"kpi.{name.replace('_', '-')}": it for name, it in origin._asdict().items() if it is not None}
    return Record(topic, key, value, tuple((name, str(it).encode("utf-8", "replace")) for name, it in said.items()))


def field_names(plan: TopicPlan) -> dict[str, str]:
    """Column -> Avro field name of every group and KPI of a plan; a name taken already gets underscores behind it."""
    taken = {"group_by", "window_start", "window_end", "events", "revision", "final", "closed_by"}
    names: dict[str, str] = {}
    for column, wanted in [*((f"by:{path}", path) for path in plan.groups), *((f"kpi:{kpi.name}", kpi.name) for kpi in plan.kpis)]:
        name = avro_name(wanted)
        while name in taken:
            name += "_"
        taken.add(name)
        names[column] = name
    return names


def fields(plan: TopicPlan) -> tuple[list[Any], list[Any]]:
    """The Avro fields of key and value."""
    names = field_names(plan)
    text = {"type": ["null", "string"], "default": None}
    groups = [{"name": names[f"by:{path}"], **text, "group": path} for path in plan.groups]
    bounds = [{"name": "window_start", "type": MILLIS}, {"name": "window_end", "type": MILLIS}]
    key = [{"name": "group_by", "type": "string"}, *groups, *bounds]
    kpis = [_field(names[f"kpi:{kpi.name}"], kpi) for kpi in plan.kpis]
    rest = [{"name": "revision", "type": "int"}, {"name": "final", "type": "boolean"}, {"name": "closed_by", **text}]
    return key, [*key, {"name": "events", "type": "long"}, *kpis, *rest]


def schemas(plan: TopicPlan, window: Window) -> tuple[str, str]:
    """The Avro schemas of key and value of the KPI topic of one window size.

    Adding a KPI adds a nullable field with default null, which every compatibility mode that allows optional fields accepts.
    """
    key, value = fields(plan)
    about = {"topic": plan.topic, "window": window.label, "size_ms": window.size_ms, "kind": window.kind, "step_ms": window.step_ms}
    about |= {"zone": window.zone, "unit": window.unit}
    name = avro_name(f"{plan.topic}_{window.label}")
    record = {"type": "record", "namespace": "kpi"}
    return (
        json.dumps({**record, "name": f"{name}_key", "fields": key}),
        json.dumps({**record, "name": f"{name}_value", "kpi": about, "fields": value}),
    )


def encode(rows: Rows) -> Block:
    """One row a row, in Confluent's wire format, for the KPI topic of its window size. (Plain tuples: of Records there are too many.)

    A value begins with the fields of its key, so a key is the beginning of its value, behind another head.
    """
    plan, table = rows.plan, rows.table
    heads = [_heads(output) for output in plan.outputs]
    key_fields, value_fields = fields(plan)
    sources = {name: column for column, name in field_names(plan).items()}
    absent = {f"by:{path}": None for path in plan.groups if path not in rows.group_set}
    same = {name: alike(name, it, pl.String(), len(table)) for name, it in {"group_by": ",".join(rows.group_set), **absent}.items()}
    known = {name: table[name] for name in table.columns} | {"window_start": table[START], "window_end": table[END]} | same
    cells = [encoder.column(known[sources.get(field["name"], field["name"])], field["type"]) for field in value_fields]
    windows = table[WINDOW].to_numpy()
    values, ends = encoder.packed([encoder.chosen([head for _, _, head in heads], windows), *chain(*cells)])
    key_ends = HEAD_BYTES + np.sum([cell.length for cell in chain(*cells[: len(key_fields)])], axis=0)
    known_heads = tuple((topic, head) for topic, head, _ in heads)
    return Block(known_heads, windows.astype(np.uint16).tobytes(), values, ends.tobytes(), key_ends.tobytes(), _headers(rows))


def _headers(rows: Rows) -> tuple[tuple[tuple[str, bytes], ...], ...]:
    """Of each row: what is null in it only because a change brought it later, and from when on there are windows of its size at all."""
    since = rows.since
    if not since.kpis and not since.windows:
        return ()

    @cache
    def of(number: int, start_ms: int) -> tuple[tuple[str, bytes], ...]:
        unknown, begun = since.unknown(start_ms), since.begun(rows.plan.windows[number], start_ms)
        told = {UNKNOWN: ",".join(unknown) or None, BEGUN: begun}
        return tuple((name, str(it).encode()) for name, it in told.items() if it is not None)

    return tuple(map(of, rows.table[WINDOW].to_list(), rows.table[START].to_list()))


def _heads(output: Output) -> tuple[str, bytes, bytes]:
    """Topic, and what every key and value there begins with."""
    key_head, value_head = (struct.pack(">bI", 0, schema_id) for schema_id in (output.key_id, output.value_id))
    return output.topic, key_head, value_head


def _field(name: str, kpi: Kpi) -> dict[str, Any]:
    return {"name": name, "type": ["null", _avro_type(kpi, name)], "default": None, "kpi": _said(kpi)}


def _said(kpi: Kpi) -> dict[str, Any]:
    """What a KPI is: what it was told, and how far it may miss (see sketches.py)."""
    said = {name: told for name in ("unit", "q", "family", "k", "edges", "parts") if (told := getattr(kpi, name)) not in (None, "", 0, ())}
    return {"aggregate": kpi.aggregate, "of": kpi.of, **said, **ERRORS.get(kpi.aggregate, {})}


def _avro_type(kpi: Kpi, name: str) -> Any:  # noqa: ANN401 - Avro's JSON
    """Counts and integer sums are long; min, max, first and last have the column's own type; what divides is double."""
    if kpi.aggregate in LISTED:
        label, of = LISTED[kpi.aggregate]
        fields = [{"name": label, "type": "string"}, {"name": "events", "type": "long"}]
        return {"type": "array", "items": {"type": "record", "name": f"{name}_{of}", "fields": fields}}
    if kpi.aggregate == "counts":
        return {"type": "map", "values": "long"}
    if kpi.aggregate in ("count", "distinct"):
        return "long"
    if kpi.aggregate not in ("sum", "min", "max", "first", "last", "increase"):
        return "double"
    if kpi.kind == "decimal":
        return {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": kpi.scale}
    return OWN[kpi.kind]
