"""What a flow must have said, from the raw records alone. In: a topic read back. Out: rows and fates. Nothing of `flows` in it.

The rules are those of docs/time.md as tests/oracle.py spells them, once over the whole topic: without promises (idle is an hour) a
result is a property of the data.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import fastavro
import requests
from confluent_kafka import Consumer, IsolationLevel, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from infra.embedded import Cluster
from tests.chaos.feeder import LATENESS_MS, SALE
from tests.oracle import Fate, Kpi, Message, Outcome, Spec, Step, expect
from tests.oracle_windows import tumbling

SIZES = {"1s": 1_000, "5s": 5_000}
KPIS = (
    Kpi("n", "count", "*"),
    Kpi("amount", "sum", "amount"),
    Kpi("least", "min", "amount"),
    Kpi("takings", "sum", "price"),
    Kpi("dearest", "max", "price"),
)
SPEC = Spec(tumbling(*SIZES.values()), KPIS, "event_time", lateness_ms=LATENESS_MS, idle_ms=2**60, group_sets=((), ("shop",)))
FAR_MS = 2**62  # the clock of the reference: it decides nothing


class Raw(NamedTuple):
    """A record as it stands in a topic."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, str]


def ends(cluster: Cluster, topic: str, *, committed: bool = False) -> dict[int, int]:
    """Partition -> high watermark, or last stable offset; nothing when there is no such topic."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    found = admin.list_topics(timeout=20).topics.get(topic)
    if found is None or found.error is not None:
        return {}
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = admin.list_offsets({TopicPartition(topic, p): latest for p in found.partitions}, isolation_level=level)
    return {tp.partition: answer.result(30).offset for tp, answer in asked.items()}


def raw(cluster: Cluster, topic: str) -> list[Raw]:
    """Everything in a topic, read_committed, in partition and offset order; nothing when there is no such topic."""
    until = ends(cluster, topic, committed=True)
    left = {partition for partition, end in until.items() if end > 0}
    consumer = Consumer(
        {
            "bootstrap.servers": cluster.bootstrap,
            "group.id": "chaos",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "log_level": 0,
        }
    )
    found = []
    try:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        while left:
            messages = consumer.consume(10_000, 1.0)
            for message in messages:
                error, partition, offset = message.error(), message.partition() or 0, message.offset() or 0
                if error is None:
                    found.append(
                        Raw(partition, offset, message.timestamp()[1], message.key(), message.value(), _texts(message.headers() or []))
                    )
                elif error.code() == KafkaError._PARTITION_EOF and offset >= until[partition]:
                    left.discard(partition)
    finally:
        consumer.close()
    return sorted(found, key=lambda one: one[:2])


def _texts(headers: Any) -> dict[str, str]:
    return {name: (value or b"").decode() for name, value in headers}


def judged(one: Raw, schema_id: int) -> Message:
    """A record of the source topic as the oracle takes it."""
    value = one.value
    reason, event = None, None
    if value is None:
        pass
    elif len(value) < 5:
        reason = "short"
    elif value[0] != 0:
        reason = "magic"
    elif int.from_bytes(value[1:5], "big") != schema_id:
        reason = "schema"
    else:
        event = decoded(value[5:])
        reason = None if event is not None else "malformed"
    return Message(one.partition, one.offset, one.timestamp_ms, one.key, event, reason)


PARSED = fastavro.parse_schema({**SALE, "fields": [{"name": "event_time", "type": "long"}, *SALE["fields"][1:]]})


def decoded(body: bytes) -> Mapping[str, object] | None:
    """The event; None when the bytes are not exactly one."""
    stream = io.BytesIO(body)
    try:
        event = fastavro.schemaless_reader(stream, PARSED, None)
    except (EOFError, ValueError, IndexError, TypeError, UnicodeDecodeError, OverflowError):
        return None
    return event if stream.tell() == len(body) and isinstance(event, Mapping) else None


@dataclass(frozen=True, slots=True)
class Expected:
    """The reference's outcome and the records it was made from."""

    records: dict[tuple[int, int], Raw]
    outcome: Outcome

    def set_aside(self, *kinds: str) -> dict[tuple[int, int], Fate]:
        """(partition, offset) -> fate, of these kinds."""
        return {at: fate for at, fate in self.outcome.fates.items() if fate.kind in kinds}


def expected(cluster: Cluster, topic: str, schema_id: int, spec: Spec = SPEC) -> Expected:
    """What the flow must say of a topic as it now stands."""
    records = raw(cluster, topic)
    partitions = len(ends(cluster, topic))
    polled: dict[int, list[Message]] = {partition: [] for partition in range(partitions)}
    for one in records:
        polled[one.partition].append(judged(one, schema_id))
    return Expected({one[:2]: one for one in records}, expect(spec, [Step(FAR_MS, polled, partitions)]))


def decoded_rows(cluster: Cluster, topic: str) -> list[tuple[Raw, dict[str, Any]]]:
    """The rows of a KPI topic, each with its record, by the schema whose id it names."""
    schemas: dict[int, Any] = {}
    rows = []
    for one in raw(cluster, topic):
        value = one.value or b""
        schema_id = int.from_bytes(value[1:5], "big")
        if schema_id not in schemas:
            schemas[schema_id] = fetched(cluster, schema_id)
        row = fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas[schema_id], None)
        assert isinstance(row, dict)
        rows.append((one, row))
    return rows


def fetched(cluster: Cluster, schema_id: int) -> Any:
    """A schema of the registry, ready to read with."""
    answer = requests.get(f"{cluster.registry_url}/schemas/ids/{schema_id}", timeout=30)
    answer.raise_for_status()
    return fastavro.parse_schema(json.loads(answer.json()["schema"]))
