"""A run as real bytes and as a real declaration. In: runs. Out: Confluent-framed messages in record batches, and kpi.toml. Pure."""

import io
import json
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

import fastavro

from tests.oracle import Kpi, Message
from tests.oracle_windows import duration
from tests.strategies import Run, Where

TOPIC = "t.events"
UNKNOWN_SCHEMA_ID = 999


class Encoded(NamedTuple):
    """A message as the broker keeps it."""

    key: bytes | None
    value: bytes | None
    timestamp_ms: int
    offset: int


def encode(run: Run) -> list[dict[int, list[list[Encoded]]]]:
    """For each step: partition -> record batches -> messages, cut as the run says. Broken messages are broken here."""
    lengths = cycle(run.batch_lengths)
    return [
        {p: [[_encoded(run, m) for m in batch] for batch in _batches(ms, lengths)] for p, ms in step.polled.items()} for step in run.steps
    ]


def _batches(messages: Sequence[Message], lengths: "cycle[int]") -> list[Sequence[Message]]:
    batches = []
    while messages:
        length = next(lengths)
        batches.append(messages[:length])
        messages = messages[length:]
    return batches


def _encoded(run: Run, message: Message) -> Encoded:
    return Encoded(message.key, _value(run, message), message.timestamp_ms, message.offset)


def _value(run: Run, message: Message) -> bytes | None:  # noqa: PLR0911 - a way to break it a return
    if message.event is None:
        return None
    body = _body(run.schema, message.event)
    good = frame(run.schema_id, body)
    way = message.offset // 2 + message.partition
    match message.broken:
        case None:
            return good
        case "short":
            return good[: way % 5]
        case "magic":
            return (b"\x01" + good[1:], b'{"n": 1}', b"plain text", b"\xff" * 40)[way % 4]
        case "schema":
            return frame(UNKNOWN_SCHEMA_ID, body)
        case "malformed":
            cut = 1 + way % len(body)
            return good[:-cut] if way % 3 else good + bytes(1 + way % 7)
        case "range":
            return frame(run.schema_id, _beyond_range(run.schema, message.event))
        case other:
            raise ValueError(f"broken: got {other}")


def frame(schema_id: int, body: bytes) -> bytes:
    """Confluent's wire format: 0, the schema id in four bytes, the Avro body."""
    return b"\0" + schema_id.to_bytes(4, "big") + body


def _body(schema: Mapping[str, object], event: Mapping[str, object]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, dict(schema), dict(event))
    return buffer.getvalue()


def _beyond_range(schema: Mapping[str, object], event: Mapping[str, object]) -> bytes:
    """The event with a `price` of one digit too many: 10^precision, written as the bytes that a decimal is."""
    fields = schema["fields"]
    assert isinstance(fields, list)
    price = next(f for f in fields if f["name"] == "price")
    decimal = price["type"] if isinstance(price["type"], dict) else next(t for t in price["type"] if t != "null")
    bare = ["null" if t == "null" else "bytes" for t in price["type"]] if isinstance(price["type"], list) else "bytes"
    unscaled = 10 ** decimal["precision"]
    raw = unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)
    plain = {**schema, "fields": [{**f, "type": bare} if f is price else f for f in fields]}
    return _body(plain, {**event, "price": raw})


def declaration(run: Run, topic: str = TOPIC) -> str:
    """The run's part of kpi.toml."""
    spec = run.spec
    lines = [
        f"[topics.{json.dumps(topic)}]",
        f"windows = {json.dumps([window.spelling for window in spec.windows])}",
        f"lateness = {json.dumps(duration(spec.lateness_ms))}",
        f"idle = {json.dumps(duration(spec.idle_ms))}",
        f"max_future = {json.dumps(duration(spec.max_future_ms))}",
        f"groups = {spec.max_groups}",
        f"shards = {spec.shards}",
        f"by = {json.dumps([list(group_set) for group_set in spec.group_sets])}",
    ]
    if run.time_declared and spec.time:
        lines.append(f"time = {json.dumps(spec.time)}")
    if isinstance(spec.where, Where):
        lines.append(f"where = {json.dumps(spec.where.sql)}")
    lines += ["", f"[topics.{json.dumps(topic)}.kpis]", *dict.fromkeys(_declared(kpi, spec.kpis) for kpi in spec.kpis), ""]
    return "\n".join(lines)


def _declared(kpi: Kpi, kpis: Sequence[Kpi]) -> str:
    """A KPI's line; the quantiles of a family have one together."""
    of, more = json.dumps(kpi.field), ""
    match kpi.aggregate:
        case "ratio":
            of = json.dumps(kpi.told.parts)
        case "quantile":
            more = f", q = {json.dumps([other.told.q for other in kpis if other.family == kpi.family])}"
        case "top":
            more = f", k = {kpi.told.k}"
        case "histogram":
            more = f", edges = {json.dumps(kpi.told.edges)}"
    return f"{kpi.family or kpi.name} = {{ {kpi.aggregate} = {of}{more} }}"
