"""Quix Streams, written well. In: PEER_*. Out: rows in PEER_OUT. Runs in the environment of bench/requirements.lock, not in ours.

One process, as an application is one thread. Events go by country through a topic, as `group_by` does it, but one of a single partition and
with nothing but the amount: Quix keeps state by partition and key, and closes windows by the time of a partition. All four aggregates of a
window are one state; only closed windows are written.
"""

import io
import json
import struct
from typing import Any

import fastavro
from quixstreams import Application, message_context
from quixstreams.dataframe.windows.aggregations import Count, Max, Min, Sum
from quixstreams.models import Deserializer, SerializationContext, Serializer, TopicConfig

from bench.peers import SCHEMA, Closing, Reads, told

GRACE_MS = 1_800_000  # partitions are not read in step, and nothing may be dropped
PARTITIONS = 4
FIGURES = ("events", "sum", "min", "max")
PARSED = fastavro.parse_schema(SCHEMA)


class Clicks(Deserializer):
    """Avro after the five bytes of Confluent's frame."""

    def __call__(self, value: bytes, ctx: SerializationContext) -> Any:  # noqa: ANN401, ARG002 - Quix' interface
        """A click as a dict."""
        return fastavro.schemaless_reader(io.BytesIO(value[5:]), PARSED, None)


class Amounts(Serializer):
    """Of a click only what is folded."""

    def __call__(self, value: Any, ctx: SerializationContext) -> bytes:  # noqa: ANN401, ARG002 - Quix' interface
        """Eight bytes, as Quix' own double."""
        return struct.pack(">d", value["amount"])


class Figures(Serializer):
    """Of a row only its figures; its key stands beside them until here."""

    def __call__(self, value: Any, ctx: SerializationContext) -> bytes:  # noqa: ANN401, ARG002 - Quix' interface
        """JSON."""
        return json.dumps({name: value[name] for name in FIGURES}).encode()


class OneClosing:
    """Lets clicks pass, and of the closing ones only the last: its time may count when all partitions are read."""

    def __init__(self, reads: Reads) -> None:
        self.reads, self.closing, self.seen = reads, Closing(), 0

    def __call__(self, click: Any) -> bool:  # noqa: ANN401 - a click as fastavro gives it
        """Whether it goes on."""
        if not self.closing.is_last(message_context().partition, click["event_time"]):
            return True
        self.seen += 1
        if self.seen < PARTITIONS:
            self.reads.add(1)
        return self.seen == PARTITIONS


def main() -> None:
    """Run until SIGTERM."""
    given = told()
    reads, between = Reads(given.total), f"{given.out}-by-country"
    app = Application(
        given.bootstrap,
        consumer_group=given.out,
        auto_offset_reset="earliest",
        state_dir=f"{given.home}/state",
        on_message_processed=lambda topic, _partition, _offset: reads.add(1) if topic == between else None,
        producer_extra_config={"linger.ms": 50, "compression.type": "lz4"},
        loglevel="WARNING",
    )
    clicks = app.topic(given.topic, value_deserializer=Clicks(), timestamp_extractor=lambda click, *_: int(click["event_time"]))
    grouped = app.topic(
        between,
        key_serializer="string",
        key_deserializer="string",
        value_serializer=Amounts(),
        value_deserializer="double",
        config=TopicConfig(num_partitions=1, replication_factor=1),
    )
    out = app.topic(given.out, key_serializer="string", value_serializer=Figures())

    app.dataframe(clicks).filter(OneClosing(reads)).to_topic(grouped, key=lambda click: click["country"])
    amounts = app.dataframe(grouped)
    for window_ms in given.windows_ms:
        window = amounts.tumbling_window(window_ms, grace_ms=GRACE_MS, name=f"of{window_ms}")
        closed = window.agg(events=Count(), sum=Sum(), min=Min(), max=Max()).final(closing_strategy="partition")
        named = closed.apply(
            lambda row, key, _time, _headers, size=window_ms: {**row, "key": f"{size}|{row['start']}|{key}"},
            metadata=True,
        )
        named.to_topic(out, key=lambda row: row["key"])
    app.run()


if __name__ == "__main__":
    main()
