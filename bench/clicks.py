"""The topic that is measured: 35-byte clicks of many groups. In: how many. Out: a full topic on a real broker."""

import io
import json
import random
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import fastavro
import numpy as np

from bench.batches import Broker, Template
from bench.figures import EVENTS_A_SECOND
from flows import topics
from flows.registry import Registry

TOPIC = "bench.clicks"
PARTITIONS = 4
START_MS = 1_700_000_000_000
DISORDER_MS = 500
HOUR_MS = 3_600_000
BATCH_EVENTS = 10_000  # as many as librdkafka puts into a batch by itself
BATCH_BYTES = 900_000  # a broker takes a megabyte
TAILS = 200_000  # events that differ in more than their time
PADDED = 100  # bytes from which on fewer of them do: they are held in memory
NOTE_BYTES = 50
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Click",
    "namespace": "bench",
    "fields": [
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "country", "type": "string"},
        {"name": "user_id", "type": "long"},
        {"name": "amount", "type": "double"},
        {"name": "items", "type": "int"},
        {"name": "coupon", "type": ["null", "string"], "default": None},
    ],
}
DECLARED = """
[topics."{topic}"]
by = [["country"]]

[topics."{topic}".kpis]
clicks = {{ count = "*" }}
revenue = {{ sum = "amount" }}
basket = {{ mean = "amount" }}
smallest = {{ min = "amount" }}
largest = {{ max = "amount" }}
"""
CONFIG = '\n[defaults]\nwindows = ["10s", "1m", "5m"]\ngroups = 1000000\n' + DECLARED.format(topic=TOPIC)


def fill(  # noqa: PLR0913 - the keywords are what bench.scale turns, one at a time
    bootstrap: str,
    registry_url: str,
    events: int,
    groups: int,
    a_second: int = EVENTS_A_SECOND,
    *,
    topic: str = TOPIC,
    partitions: int = PARTITIONS,
    padding: int = 0,
    closes: bool = True,
) -> None:
    """Create the topic and write `events` clicks, `a_second` of event time, in its order up to half a second; last an event an hour later
    a partition, so that every window closes by data. `padding`: bytes of further fields in each, that no KPI reads.
    """
    schema_id = Registry(registry_url).register(f"{topic}-value", json.dumps(schema(padding)))
    topics.ensure(topics.administrator({"bootstrap.servers": bootstrap}), {topic: (partitions, {"retention.ms": "-1"})})
    head, tails = b"\0" + schema_id.to_bytes(4, "big"), _tails(groups, padding, TAILS if padding < PADDED else TAILS // 4)
    a_batch = min(BATCH_EVENTS, BATCH_BYTES // max(map(len, tails)), -(-events // partitions))
    starts = range(0, min(len(tails), max(events, a_batch)) - a_batch + 1, a_batch)
    templates = [Template(head, tails[at : at + a_batch], partitions * 1000 / a_second) for at in starts]
    jitter_ms = np.random.default_rng(1).integers(0, DISORDER_MS, 10_007)
    with Broker(bootstrap) as broker:
        for number, begin in enumerate(range(0, events, partitions * a_batch)):
            for partition in range(min(partitions, events - begin)):
                which = np.arange(begin + partition, min(events, begin + partitions * a_batch), partitions)
                times = START_MS + which * 1000 // a_second
                template = templates[(number * partitions + partition) % len(templates)]
                broker.write(topic, {partition: template.batch(times - jitter_ms[which % len(jitter_ms)], int(times[0]))})
    if closes:
        close(bootstrap, schema_id, START_MS + events * 1000 // a_second + HOUR_MS, topic=topic, partitions=partitions, padding=padding)


def close(  # noqa: PLR0913 - as above
    bootstrap: str, schema_id: int, last_ms: int, *, topic: str, partitions: int, padding: int = 0
) -> None:
    """One more event a partition, so late that every window before it closes."""
    template = Template(b"\0" + schema_id.to_bytes(4, "big"), _tails(1, padding, 1), 0)
    with Broker(bootstrap) as broker:
        broker.write(topic, {partition: template.batch(np.array([last_ms]), last_ms) for partition in range(partitions)})


def schema(padding: int) -> dict[str, Any]:
    """The clicks' schema; with padding, that many bytes of further text fields."""
    notes = [{"name": f"note{number}", "type": "string"} for number in range(-(-padding // NOTE_BYTES))]
    return {**SCHEMA, "fields": [*SCHEMA["fields"], *notes]}


@lru_cache(3)
def _tails(groups: int, padding: int, different: int) -> Sequence[bytes]:
    """Encoded clicks without their first field."""
    dice, parsed, tails = random.Random(2), fastavro.parse_schema(schema(padding)), []
    count = -(-padding // NOTE_BYTES)
    lengths = [min(NOTE_BYTES, padding - number * NOTE_BYTES) - 1 for number in range(count)]  # a byte says the length
    for number in range(different):
        out = io.BytesIO()
        click = {
            "event_time": 0,
            "country": f"k{dice.randrange(groups):06d}",
            "user_id": dice.randrange(10**7),
            "amount": dice.random() * 100,
            "items": dice.randrange(10),
            "coupon": None if number % 3 else "SALE10",
            **{f"note{note}": dice.randbytes(length).hex()[:length] for note, length in enumerate(lengths)},
        }
        fastavro.schemaless_writer(out, parsed, click)
        tails.append(out.getvalue()[1:])
    return tails
