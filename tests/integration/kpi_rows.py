"""KPI topics as the contract describes them, written without the flow: what the dashboard's tests feed it."""

import io
import json
import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fastavro
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from flows.registry import Registry

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
TEXT = {"type": ["null", "string"], "default": None}


@dataclass
class KpiTopic:
    """One KPI topic. `kpis`: name -> (Avro type, what it is). `kind`: what its schema says of its windows beside their size."""

    bootstrap: str
    registry: Registry
    source: str
    window: str
    size_ms: int
    kpis: Mapping[str, tuple[Any, Mapping[str, Any]]]
    groups: Sequence[str] = ()
    partitions: int = 1
    doc: str = ""
    kind: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.name = f"kpi.{self.source if self.source.replace('.', '').isalnum() else 'strange'}.{self.window}"
        create(self.bootstrap, self.name, self.partitions)
        self.producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 0, "log_level": 0})
        self.define(self.kpis)

    def define(self, kpis: Mapping[str, tuple[Any, Mapping[str, Any]]]) -> None:
        """Register the schemas for these KPIs."""
        self.kpis = kpis
        groups = [{"name": path.replace(".", "_"), **TEXT, "group": path} for path in self.groups]
        key = [{"name": "group_by", "type": "string"}, *groups, *({"name": f"window_{at}", "type": MILLIS} for at in ("start", "end"))]
        said = [{"name": name, "type": ["null", it[0]], "default": None, "doc": self.doc, "kpi": dict(it[1])} for name, it in kpis.items()]
        rest = [{"name": "revision", "type": "int"}, {"name": "final", "type": "boolean"}, {"name": "closed_by", **TEXT}]
        value = [*key, {"name": "events", "type": "long"}, *said, *rest]
        about = {"topic": self.source, "window": self.window, "size_ms": self.size_ms, **self.kind}
        schemas: list[dict[str, Any]] = [
            {"type": "record", "name": "Key", "fields": key},
            {"type": "record", "name": "Value", "fields": value, "doc": self.doc, "kpi": about},
        ]
        texts = [json.dumps(schema) for schema in schemas]
        self.ids = [self.registry.register(f"{self.name}-{part}", text) for part, text in zip(("key", "value"), texts, strict=True)]
        self.parsed = [fastavro.parse_schema(schema) for schema in schemas]

    def send(
        self,
        start_ms: int,
        values: Mapping[str, object],
        group: Mapping[str, str | None] | None = None,
        **said: object,
    ) -> None:
        """Write one row, at `at_ms` if that is said.

        `said` overrides window_end, events (100), revision (0), final (True), closed_by ("data").
        """
        group, at_ms = group or {}, int(str(said.pop("at_ms", 0)))  # 0: now
        row: dict[str, object] = {"group_by": ",".join(group), "window_start": start_ms, "window_end": start_ms + self.size_ms}
        row |= {path.replace(".", "_"): it for path, it in group.items()}
        row |= {"events": 100, "revision": 0, "final": True, "closed_by": "data", **values, **said}
        key, value = (struct.pack(">bI", 0, its_id) + _avro(schema, row) for its_id, schema in zip(self.ids, self.parsed, strict=True))
        self.producer.produce(self.name, value, key, timestamp=at_ms)

    def flush(self) -> float:
        """Wait until everything is written; returns the moment."""
        assert self.producer.flush(20) == 0
        return time.time()


def create(bootstrap: str, name: str, partitions: int = 1) -> None:
    """Make sure a topic is there."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if name not in admin.list_topics(timeout=10).topics:
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(20)


def set_aside(bootstrap: str, topic: str, source: str, reason: str, count: int, **said: str) -> None:
    """Write messages to kpi.late or kpi.dead-letters."""
    create(bootstrap, topic)
    producer = Producer({"bootstrap.servers": bootstrap})
    texts = {"topic": source, "reason": reason, **said}
    headers: list[tuple[str, str | bytes | None]] = [(f"kpi.{name.replace('_', '-')}", text.encode()) for name, text in texts.items()]
    for _ in range(count):
        producer.produce(topic, b"original", headers=headers)
    assert producer.flush(20) == 0


def _avro(schema: Any, row: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, row)
    return out.getvalue()
