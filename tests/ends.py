"""Ends for tests: a topic in memory, and a sink that keeps everything. The flow between them is the real one, bytes to bytes."""

import io
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import fastavro
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

from flows.fields import Schema
from flows.intake import Position, Reading
from flows.plan import Output, TopicPlan
from flows.records import DEAD, LATE, Barrier, Record, output_topic, schemas
from flows.slices import Events
from flows.topology import kpi_flow
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
        return [f"reader-{number:02}" for number in range(self.readers)]

    def build_part(self, _step_id: str, for_part: str, resume_state: int | None) -> "MemoryReader":
        reading = self.readings.setdefault(for_part, Reading(self.plan.topic))
        return MemoryReader(self, int(for_part.removeprefix("reader-")), reading, resume_state or 0)

    @property
    def positions(self) -> dict[int, Position]:
        return {partition: position for reading in self.readings.values() for partition, position in reading.positions.items()}


class MemoryReader(StatefulSourcePartition[Any, int]):
    def __init__(self, topic: MemoryTopic, number: int, reading: Reading, polled: int) -> None:
        self.topic, self.number, self.reading, self.polled = topic, number, reading, polled
        self.steps = self.items()

    def items(self) -> Iterable[list[Any]]:
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
        return next(self.steps)  # type: ignore[call-overload, no-any-return]

    def snapshot(self) -> int:
        return self.polled


class Kept(DynamicSink[Any]):
    """Every record that reached the sink."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> StatelessSinkPartition[Any]:
        records = self.records

        class Part(StatelessSinkPartition[Any]):
            def write_batch(self, items: list[Any]) -> None:
                records.extend(record for _, item in items if not isinstance(item, Barrier) for record in item)

        return Part()


@dataclass(frozen=True)
class Result:
    """KPI rows as a reader of the topics sees them, records set aside, and the books."""

    rows: list[dict[str, Any]]
    late: list[dict[str, str]]
    dead: list[dict[str, str]]
    positions: dict[int, Position]

    @property
    def finals(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["final"]]


def run(  # noqa: PLR0913 - a whole run
    plan: TopicPlan,
    polls: Sequence[Poll],
    schema_of: Callable[[int], Schema],
    *,
    readers: int = 1,
    shards: int = 2,
    restarts: Sequence[int] = (),
) -> Result:
    """The real flow from record batches to records, in this process; ended and started again, from its snapshots, before some polls."""
    ready = replace(plan, outputs=tuple(Output(output_topic(plan.topic, w), 2 * i + 1, 2 * i + 2) for i, w in enumerate(plan.windows)))
    source, sink = MemoryTopic(ready, polls, schema_of, readers), Kept()
    if not restarts:
        run_main(kpi_flow(source, sink, 2, shards))  # type: ignore[no-untyped-call]
        return _result(ready, source, sink)
    with tempfile.TemporaryDirectory() as directory:
        init_db_dir(directory, 1)
        for source.until in (*sorted(restarts), len(polls)):
            config = RecoveryConfig(directory)  # type: ignore[no-untyped-call]
            run_main(kpi_flow(source, sink, 2, shards), epoch_interval=timedelta(0), recovery_config=config)  # type: ignore[no-untyped-call]
    return _result(ready, source, sink)


def _result(ready: TopicPlan, source: MemoryTopic, sink: Kept) -> Result:
    set_aside = {topic: [_headers(record) for record in sink.records if record.topic == topic] for topic in (LATE, DEAD)}
    rows = [row for window in ready.windows for row in _rows(ready, window, sink.records)]
    return Result(rows, set_aside[LATE], set_aside[DEAD], source.positions)


def _headers(record: Record) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


def _rows(plan: TopicPlan, window: Any, records: Iterable[Record]) -> Iterable[dict[str, Any]]:
    """Decoded as docs/contracts.md says, knowing nothing but the schemas; the key must be the beginning of the value."""
    key_schema, value_schema = (json.loads(text) for text in schemas(plan, window))
    groups = {f["name"]: f["group"] for f in key_schema["fields"] if "group" in f}
    topic = output_topic(plan.topic, window)
    parsed = fastavro.parse_schema(key_schema), fastavro.parse_schema(value_schema)
    for record in records:
        if record.topic == topic:
            assert record.key is not None
            assert record.value is not None
            key: Mapping[str, Any] = _read(parsed[0], record.key)
            value: dict[str, Any] = _read(parsed[1], record.value)
            assert {name: value[name] for name in key} == key
            row = {name: it for name, it in value.items() if name not in groups}
            row["window"] = window.label
            row["window_start"], row["window_end"] = (round(value[name].timestamp() * 1000) for name in ("window_start", "window_end"))
            row["group"] = {path: value[name] for name, path in groups.items()}
            yield row


def _read(schema: Any, message: bytes) -> Any:
    assert message[0] == 0
    body = io.BytesIO(message[5:])
    value = fastavro.schemaless_reader(body, schema, None)
    assert not body.read()
    return value


def events_of(items: Iterable[Any]) -> list[Events]:
    return [item for item in items if isinstance(item, Events)]
