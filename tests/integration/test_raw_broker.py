"""Whole batches from a real broker: keys, headers, every compression, transactions; and the frame that they decode to."""

import json
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from kafka import KafkaConsumer, TopicPartition

from flows.fields import read_schema
from flows.raw import Packed, raw_consumer
from flows.wire import decode, original
from infra.embedded import Cluster
from tests.batches import confluent

ORDER = read_schema(
    7,
    json.dumps(
        {
            "type": "record",
            "name": "Order",
            "fields": [
                {"name": "number", "type": "long"},
                {"name": "channel", "type": {"type": "enum", "name": "Channel", "symbols": ["WEB", "APP"]}},
                {"name": "total", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
                {"name": "tags", "type": {"type": "map", "values": "string"}},
            ],
        }
    ),
)
COLUMNS = {path: leaf.dtype for path, leaf in ORDER.leaves.items()}


def order(number: int) -> bytes:
    tags = {str(tag): "x" * tag for tag in range(number % 4)}
    return confluent(
        7, ORDER.parsed, {"number": number, "channel": ["WEB", "APP"][number % 2], "total": Decimal(number) / 100, "tags": tags}
    )


@pytest.fixture
def topic(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """A new topic of two partitions; `indirect` parameters are its configuration."""
    name = f"raw.{uuid.uuid4().hex[:8]}"
    config = getattr(request, "param", {})
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
    admin.create_topics([NewTopic(name, 2, 1, config=config)])[name].result(30)
    return name


def polled(consumer: KafkaConsumer, topic: str, offsets: dict[int, int]) -> Iterator[Any]:
    """The values from these offsets up to the end."""
    partitions = {TopicPartition(topic, partition): offset for partition, offset in offsets.items()}
    consumer.assign(list(partitions))
    for partition, offset in partitions.items():
        consumer.seek(partition, offset)
    ends = consumer.end_offsets(list(partitions))
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for records in consumer.poll(timeout_ms=500).values():
            yield from (record.value.unpacked() if isinstance(record.value, Packed) else record.value for record in records)
    consumer.close()


def frame_of(cluster: Cluster, topic: str, **offsets: int) -> pl.DataFrame:
    consumer = raw_consumer({"bootstrap_servers": cluster.bootstrap})
    batches = list(polled(consumer, topic, {0: offsets.get("p0", 0), 1: offsets.get("p1", 0)}))
    found = decode(batches, COLUMNS, lambda _: ORDER)
    assert found.rejected == []
    return found.frame


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_message_is_a_row_with_its_own_values(cluster: Cluster, topic: str, compression: str) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "compression.type": compression, "linger.ms": 20})
    for number in range(3_000):
        headers: list[tuple[str, str | bytes | None]] = [("trace", b"\x00\x01"), ("empty", None)] if number % 3 else []
        key = f"k{number}" if number % 5 else None
        producer.produce(topic, order(number), key, number % 2, timestamp=1_000 + number, headers=headers)
    assert producer.flush(30) == 0
    frame = frame_of(cluster, topic)
    assert frame["__offset"].to_list() == [*range(1_500)] * 2
    numbers = [*range(0, 3_000, 2), *range(1, 3_000, 2)]
    assert frame.select("__partition", "__timestamp", "number", "channel", "total").rows() == [
        (number % 2, 1_000 + number, number, ["WEB", "APP"][number % 2], Decimal(number) / 100) for number in numbers
    ]


def test_what_was_aborted_is_not_there_and_what_was_committed_is(cluster: Cluster, topic: str) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "transactional.id": topic, "compression.type": "lz4", "linger.ms": 5})
    producer.init_transactions(30)
    for transaction in range(6):
        producer.begin_transaction()
        for number in range(transaction * 100, transaction * 100 + 100):
            producer.produce(topic, order(number), partition=0)
        producer.flush(30)
        (producer.abort_transaction if transaction % 2 else producer.commit_transaction)(30)
    frame = frame_of(cluster, topic)
    assert frame["number"].to_list() == [*range(100), *range(200, 300), *range(400, 500)]
    assert frame["__offset"][100] == 202  # two markers stand between


def test_a_consumer_that_starts_inside_a_batch_gets_all_of_it_and_each_batch_once(cluster: Cluster, topic: str) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "linger.ms": 200})
    for half in range(2):
        for number in range(10):
            producer.produce(topic, order(half * 10 + number), f"k{number}", 0)
        assert producer.flush(30) == 0
    batches = list(polled(raw_consumer({"bootstrap_servers": cluster.bootstrap}), topic, {0: 13}))
    assert [(batch.base_offset, batch.count) for batch in batches] == [(10, 10)]
    frame = decode(batches, COLUMNS, lambda _: ORDER).frame
    assert [original(batches, *place) for place in frame.select("__batch", "__at").rows()] == [
        (b"k%d" % n, order(10 + n)) for n in range(10)
    ]


@pytest.mark.parametrize("topic", [{"message.timestamp.type": "LogAppendTime"}], indirect=True)
def test_where_the_broker_tells_the_time_it_is_the_timestamp(cluster: Cluster, topic: str) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "linger.ms": 1_000})  # one batch, which has one time: sent by the flush
    for number in range(3):
        producer.produce(topic, order(number), partition=1, timestamp=5 + number)
    assert producer.flush(30) == 0
    stamps = frame_of(cluster, topic)["__timestamp"]
    assert stamps.n_unique() == 1
    assert stamps[0] > 1_600_000_000_000


def test_other_consumers_of_the_same_process_are_as_they_were(cluster: Cluster, topic: str) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    producer.produce(topic, order(1), "k", 0)
    assert producer.flush(30) == 0
    assert len(frame_of(cluster, topic)) == 1
    assert list(polled(KafkaConsumer(bootstrap_servers=cluster.bootstrap), topic, {0: 0})) == [order(1)]
