"""The topic that is measured: 35-byte clicks of many groups. In: how many. Out: a full topic on a real broker."""

import io
import json
import random
from collections.abc import Sequence
from functools import lru_cache

import fastavro
from confluent_kafka import Producer

from flows import topics
from flows.registry import Registry

TOPIC = "bench.clicks"
PARTITIONS = 4
START_MS = 1_700_000_000_000
EVENTS_A_SECOND = 5_000  # of event time
DISORDER_MS = 500
HOUR_MS = 3_600_000
SCHEMA = {
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
CONFIG = """
[defaults]
windows = ["10s", "1m", "5m"]
groups = 1000000

[topics."bench.clicks"]
by = [["country"]]

[topics."bench.clicks".kpis]
clicks = { count = "*" }
revenue = { sum = "amount" }
basket = { mean = "amount" }
smallest = { min = "amount" }
largest = { max = "amount" }
"""


def fill(  # noqa: PLR0913 - what is filled, and with what
    bootstrap: str, registry_url: str, events: int, groups: int, a_second: int = EVENTS_A_SECOND, *, topic: str = TOPIC
) -> None:
    """Create the topic and write `events` clicks, `a_second` of event time, in its order up to half a second; last an event an hour later
    a partition, so that every window closes by data.
    """
    schema_id = Registry(registry_url).register(f"{topic}-value", json.dumps(SCHEMA))
    topics.ensure(topics.administrator({"bootstrap.servers": bootstrap}), {topic: (PARTITIONS, {"retention.ms": "-1"})})
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "linger.ms": 50,
            "batch.size": 1_000_000,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 2_000_000,
        }
    )
    head, tails, dice = b"\0" + schema_id.to_bytes(4, "big"), _tails(groups), random.Random(1)
    jitter = [dice.randrange(DISORDER_MS) for _ in range(10_007)]
    spelled = lru_cache(4 * DISORDER_MS)(lambda time_ms: head + _zigzag(time_ms))  # neighbours share their times
    for number in range(events):
        time_ms = START_MS + number * 1000 // a_second
        value = spelled(time_ms - jitter[number % len(jitter)]) + tails[number * 7919 % len(tails)]
        producer.produce(topic, value, partition=number % PARTITIONS, timestamp=time_ms)
        if number % 20_000 == 0:
            producer.poll(0)
    last_ms = START_MS + events * 1000 // a_second + HOUR_MS
    for partition in range(PARTITIONS):
        producer.produce(topic, head + _zigzag(last_ms) + tails[0], partition=partition, timestamp=last_ms)
    if producer.flush(120):
        raise TimeoutError("the broker did not take the events")


def _tails(groups: int, count: int = 200_000) -> Sequence[bytes]:
    """Encoded clicks without their first field."""
    dice, parsed, tails = random.Random(2), fastavro.parse_schema(SCHEMA), []
    for number in range(count):
        out = io.BytesIO()
        click = {
            "event_time": 0,
            "country": f"k{dice.randrange(groups):06d}",
            "user_id": dice.randrange(10**7),
            "amount": dice.random() * 100,
            "items": dice.randrange(10),
            "coupon": None if number % 3 else "SALE10",
        }
        fastavro.schemaless_writer(out, parsed, click)
        tails.append(out.getvalue()[1:])
    return tails


def _zigzag(number: int) -> bytes:
    number <<= 1
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - seven bits a byte
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])
