"""A point of `make bench-scale` on a real broker: what is written is what is counted, and the figures are there."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Consumer, TopicPartition

from bench.clicks import fill, schema
from bench.curves import Point
from bench.running import Published, cost
from bench.scale import Runner
from flows import topics
from infra import embedded

EVENTS = 20_000


@pytest.mark.parametrize(("partitions", "padding"), [(3, 0), (1, 265)])
def test_a_filled_topic_has_its_events_in_order_and_of_their_size(cluster: embedded.Cluster, partitions: int, padding: int) -> None:
    name, wanted = f"scale.filled{padding}", EVENTS + partitions
    fill(cluster.bootstrap, cluster.registry_url, EVENTS, 10, topic=name, partitions=partitions, padding=padding)
    consumer = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": name, "check.crcs": True, "enable.partition.eof": True})
    consumer.assign([TopicPartition(name, partition, 0) for partition in range(partitions)])
    parsed: Any = fastavro.parse_schema(schema(padding))
    found: list[Any] = []
    ended = 0
    while ended < partitions:
        for message in consumer.consume(10_000, 5):
            ended += message.error() is not None
            found += [] if message.error() else [message]
    consumer.close()
    assert len(found) == wanted
    rows: list[Any] = [fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), parsed, None) for message in found]
    assert {row["country"] for row in rows} == {f"k{group:06d}" for group in range(10)}
    assert {len(message.value()) for message in found} <= set(range(31 + padding, 41 + padding))
    behind_ms = {message.timestamp()[1] - row["event_time"].timestamp() * 1000 for message, row in zip(found, rows, strict=True)}
    assert -2 < min(behind_ms) <= max(behind_ms) < 502


def test_a_point_of_two_topics_is_measured_and_rows_that_count_other_events_are_no_result(
    cluster: embedded.Cluster, tmp_path: Path
) -> None:
    runner, point = Runner(cluster, EVENTS, tmp_path), Point(2, "2", topics=2, groups=10)
    with runner.filled([point]) as full:
        figures = cost(full[point], runner.environ, tmp_path, "scale-point")
        assert figures["events"] == EVENTS
        assert min(figures[name] for name in ("rate", "cpu_s", "peak_mb", "rows", "epoch_s", "snapshot_s", "snapshot_mb")) > 0
        with Published(full[point], runner.environ) as published:
            published.before.clear()
            assert published.check() == figures["rows"]
        with Published(replace(full[point], events=EVENTS + 2), runner.environ) as published:
            published.before.clear()
            with pytest.raises(RuntimeError, match="final rows count"):
                published.check()
    assert not [name for name in topics.names(topics.administrator({"bootstrap.servers": cluster.bootstrap})) if "clicks0" in name]
