"""Ends in memory: topics that were polled, and a sink that keeps everything. The flow between them is the real one, bytes to bytes."""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import fastavro
from bytewax.inputs import FixedPartitionedSource, Source, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from flows.fields import Schema
from flows.intake import Position, Reading
from flows.plan import Output, TopicPlan
from flows.records import Barrier, Record, output_topic, schemas
from flows.topology import kpi_flow
from flows.windows import Window
from flows.wire import RawBatch


@dataclass(frozen=True)
class Poll:
    """What one poll of a topic gave."""

    clock_ms: int
    batches: Sequence[RawBatch]
    partitions: int
    seen: Mapping[int, int] = field(default_factory=dict)  # partition -> when its end was asked for that is read now


@dataclass
class MemoryTopic(FixedPartitionedSource[Any, Any]):
    """One topic, poll by poll; `readers` share its partitions. `readings` tell afterwards how far each came; a restart goes on with them.

    `until`: before which poll it stops, to be started again.
    """

    plan: TopicPlan
    polls: Sequence[Poll]
    schema_of: Callable[[int], Schema]
    readers: int = 1
    until: int = 2**60
    readings: dict[str, Reading] = field(default_factory=dict)

    def list_parts(self) -> list[str]:
        """One for each reader."""
        return [f"reader-{number:02}" for number in range(self.readers)]

    def build_part(self, _step_id: str, for_part: str, resume_state: int | None) -> "MemoryReader":
        """A reader, from the beginning or the poll where it was stopped."""
        reading = self.readings.setdefault(for_part, Reading(self.plan.topic))
        return MemoryReader(self, int(for_part.removeprefix("reader-")), reading, resume_state or 0)

    @property
    def positions(self) -> dict[int, Position]:
        """How far each partition was read, with its books."""
        return {partition: position for reading in self.readings.values() for partition, position in reading.positions.items()}


class MemoryReader(StatefulSourcePartition[Any, int]):
    """A reader's share of a topic: what it makes of each poll is what the flow's own readers make of it (intake.Reading)."""

    def __init__(self, topic: MemoryTopic, number: int, reading: Reading, polled: int) -> None:
        self.topic, self.number, self.reading, self.polled = topic, number, reading, polled
        self.steps = self.items()

    def items(self) -> Iterator[list[Any]]:
        """Of each poll the events, the records set aside, and how late it is then."""
        plan = self.topic.plan
        known = self.topic.polls[self.polled - 1].partitions if self.polled else 0
        for poll in self.topic.polls[self.polled : self.topic.until]:
            for partition in range(known, poll.partitions):
                if partition % self.topic.readers == self.number:
                    first = min((b.base_offset for p in self.topic.polls for b in p.batches if b.partition == partition), default=0)
                    self.reading.meet(partition, first, poll.clock_ms, joined_behind_ms=plan.lateness_ms if known else None)
            known = poll.partitions
            self.reading.fresh = set(self.reading.positions)
            mine = [batch for batch in poll.batches if batch.partition in self.reading.positions]
            events, aside = self.reading.read(plan, poll.partitions, mine, self.topic.schema_of, poll.clock_ms)
            seen = {partition: asked_ms for partition, asked_ms in poll.seen.items() if partition in self.reading.positions}
            self.polled += 1
            yield [events, ("0", aside), ("0", Barrier()), self.reading.tick(plan, poll.partitions, seen, poll.clock_ms)]

    def next_batch(self) -> list[Any]:
        """What the next poll gives. Raises StopIteration after the last."""
        return next(self.steps)

    def snapshot(self) -> int:
        """How many polls it has passed on."""
        return self.polled


class MemoryTopics(FixedPartitionedSource[Any, Any]):
    """Several topics as one source."""

    def __init__(self, topics: Sequence[MemoryTopic]) -> None:
        self._topics = {f"{topic.plan.topic}|{part}": (topic, part) for topic in topics for part in topic.list_parts()}

    def list_parts(self) -> list[str]:
        """Every reader of every topic."""
        return list(self._topics)

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> MemoryReader:
        """A reader of one of them."""
        topic, part = self._topics[for_part]
        return topic.build_part(step_id, part, resume_state)


class Kept(DynamicSink[Any]):
    """Every record that reached the sink."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> StatelessSinkPartition[Any]:
        """A part that keeps what comes; barriers are for Kafka."""
        records = self.records

        class Part(StatelessSinkPartition[Any]):
            def write_batch(self, items: list[Any]) -> None:
                records.extend(Record(*row) for _, item in items if not isinstance(item, Barrier) for row in item)

        return Part()


def ready(plan: TopicPlan, first_id: int = 1) -> TopicPlan:
    """A plan with KPI topics, under the ids that a registry would have given their schemas."""
    names = [output_topic(plan.topic, window) for window in plan.windows]
    outputs = (Output(name, first_id + 2 * number, first_id + 2 * number + 1) for number, name in enumerate(names))
    return replace(plan, outputs=tuple(outputs))


def records_of(source: Source[Any]) -> list[Record]:
    """Everything that the real flow writes, in order, when it reads this source to its end in this process."""
    sink = Kept()
    run_main(kpi_flow(source, sink))  # type: ignore[no-untyped-call]
    return sink.records


def decoded(plan: TopicPlan, window: Window, records: Iterable[Record]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Key and value of each record of a window's KPI topic, read as docs/contracts.md says, knowing nothing but the schemas."""
    topic = output_topic(plan.topic, window)
    key_schema, value_schema = (fastavro.parse_schema(json.loads(text)) for text in schemas(plan, window))
    for record in records:
        if record.topic == topic:
            yield _read(key_schema, record.key), _read(value_schema, record.value)


def _read(schema: Any, message: bytes | None) -> dict[str, Any]:  # noqa: ANN401 - fastavro's schema
    if message is None or message[0] != 0:
        raise ValueError(f"got {message!r}, want a message in Confluent's wire format")
    body = io.BytesIO(message[5:])
    value: dict[str, Any] = fastavro.schemaless_reader(body, schema, None)  # type: ignore[assignment]
    if rest := body.read():
        raise ValueError(f"got {rest!r} behind a record, want nothing")
    return value
