"""One life of the real flow on an atomic log: real readers, intake, fold and sink, run by the engine. In: a Life. Out: its end.

What is not the product's: the topic (events.py instead of a broker's fetches), the log (file_log.py), and the seeded faults.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any, cast

from bytewax.recovery import RecoveryConfig
from bytewax.run import cli_main

from flows import recovery, sink, source, vault
from flows.declaration import READERS
from flows.edge import Marker
from flows.intake import Position, Reading
from flows.reader import Duty, Emission
from flows.records import Barrier, Record
from flows.sink import Item, KafkaSink, State, WriteAhead
from flows.slices import Events
from flows.source import KafkaSource
from flows.topology import FOLD, kpi_flow
from flows.watermark import Mark
from tests.kills.events import PARTITIONS, SPEC, TOPIC, Written, planned, schema_of
from tests.kills.fate import PARTS, Fate, Life
from tests.kills.file_log import FileEdge

MOST, TICKS = 120, 0.1  # messages of a batch; share of the turns without any that tell the time
SETTLE_TURNS = 40  # of a reader after it has read everything


class Unchecked(WriteAhead):
    """What the seeded faults have in common: the marker is not compared, and nothing is claimed."""

    def _check(self, marker: Marker | None, *, fresh: bool) -> None:
        pass

    def _claim(self) -> None:
        pass


class CommitPerBatch(Unchecked):
    """Seeded fault: rows are committed as they come."""

    def write_batch(self, values: list[Item]) -> None:
        for value in values:
            if not isinstance(value, Barrier) and value:
                sequence = 1 + (self._transactions.marker.sequence if self._transactions.marker else 0)
                self._transactions.commit([(*row,) for row in value], Marker(self._lineage, sequence, self._run, self._run))

    def snapshot(self) -> State:
        return self._lineage, (0, ""), []


class SkipEpochs(Unchecked):
    """Seeded fault: rows are committed in snapshot() with the epoch's number, and an epoch is skipped whose number is committed already."""

    def write_batch(self, values: list[Item]) -> None:
        super().write_batch([value for value in values if not isinstance(value, Barrier)])

    def snapshot(self) -> State:
        epoch, marker = self._committed[0] + 1, self._transactions.marker
        if marker is None or epoch > marker.sequence:
            self._transactions.commit([row for rows in self._open for row in rows], Marker(self._lineage, epoch, self._run, self._run))
        self._open, self._committed = [], (epoch, self._run)
        return self._lineage, self._committed, []


class CommitInSnapshot(Unchecked):
    """Seeded fault: what is pending is committed in snapshot(), before that is durable."""

    def snapshot(self) -> State:
        lineage, _, _ = super().snapshot()
        self._transactions.marker = None
        self._commit()
        return lineage, (0, ""), []


SINKS: dict[str, type[WriteAhead]] = {
    "commit per batch": CommitPerBatch,
    "epoch skip": SkipEpochs,
    "commit before durability": CommitInSnapshot,
}


class FileTopic:
    """What the readers of a life read, in place of Services: a function of the clock."""

    def __init__(self, life: Life) -> None:
        self.life, self.written, self.plan = life, Written(life.seed, life.begin_ms), planned(life.update)
        self.schema = schema_of(0)
        self.by_the_clock = life.seeded == "wall-clock watermark"
        self.left, self.lock, self.all_read = READERS, threading.Lock(), threading.Event()

    def clock_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.life.skipped_ms

    def end(self) -> int:
        end = self.written.end(self.clock_ms())
        return min(end, self.life.limit) if self.life.limit else end

    def keep_books(self, positions: dict[int, Position]) -> None:
        """A reader has read everything."""
        for partition, at in positions.items():
            books = Path(self.life.log).with_name(f"books-{partition}.json")
            books.write_text(json.dumps(at.fates))
        with self.lock:
            self.left -= 1
            if self.left == 0:
                self.all_read.set()


def read_topic(duty: Duty, services: FileTopic, put: Callable[[Emission], None], ends: Callable[[], bool]) -> None:
    """What flows.reader.read_topics is for topics of a broker. Batches of random size, so that no epoch is ever computed alike twice."""
    topic, dice, reading = services, Random(), Reading(TOPIC)
    _, _, resumed = duty.resumed.get(TOPIC, ("", 0, {}))
    for partition in duty.mine(TOPIC, PARTITIONS, READERS):
        reading.meet(partition, 0, topic.clock_ms())
    reading.positions |= {p: replace(at, moved_ms=topic.clock_ms()) for p, at in resumed.items()}
    settled = 0
    while not ends():
        end, clock_ms = topic.end(), topic.clock_ms()
        upto = {p: min(end, at.offset + dice.randrange(1, MOST)) for p, at in reading.positions.items()}
        batches = [topic.written.batch(p, at.offset, upto[p]) for p, at in reading.positions.items() if at.offset < upto[p]]
        reading.fresh = {p for p in upto if upto[p] == end}
        if batches:
            events, aside = reading.read(topic.plan, PARTITIONS, batches, lambda _: topic.schema, clock_ms)
            put(_emission(topic, duty, reading, events, aside))
        elif dice.random() < TICKS:
            put(_emission(topic, duty, reading, reading.tick(topic.plan, PARTITIONS, {}, clock_ms), []))
        settled += not batches and end == topic.life.limit
        if settled == SETTLE_TURNS:
            topic.keep_books(reading.positions)
        time.sleep(dice.uniform(0, 0.01))  # the pace of the readers


def _emission(topic: FileTopic, duty: Duty, reading: Reading, events: Events, aside: list[Record]) -> Emission:
    told = closed_by_the_clock(events) if topic.by_the_clock else events
    items: list[Any] = [told, (str(duty.number % PARTS), aside)] if aside else [told]
    return Emission(TOPIC, "id", PARTITIONS, dict(reading.positions), items)


def closed_by_the_clock(events: Events) -> Events:
    """Seeded fault: how far event time has come is read off the clock."""
    reached_ms = events.clock_ms - SPEC.lateness_ms
    return replace(events, marks=dict.fromkeys(events.marks, Mark(reached_ms, reached_ms)))


def live(life: Life) -> None:
    """Run until all is read, or die."""
    directory = Path(life.recovery)
    recovery.forget_unfinished(directory)  # as flows.kpi does
    vault.tidy(directory, recovery.states(directory, FOLD))
    vault.LARGE_BYTES = 0  # every table has its file
    fate = Fate(life, Random())
    base = SINKS.get(life.seeded, WriteAhead)

    class Watched(base):  # type: ignore[misc, valid-type] # one of the above
        """The sink part, and a point behind its snapshots."""

        def snapshot(self) -> State:
            state: State = super().snapshot()
            fate.snapshot(self._edge.part)
            return state

    sink.WriteAhead = Watched  # type: ignore[misc] # it is one
    source.read_topics = cast("Any", read_topic)  # type: ignore[attr-defined] # what the source imported
    topic = FileTopic(life)
    ends = KafkaSource(cast("Any", topic), PARTS, durable=True, declared="kills")
    settings = {"log": life.log, "fate": fate, "fences": life.seeded != "no fencing"}
    flow = kpi_flow(ends, KafkaSink(settings, "kills", durable=True, parts=PARTS, edge=FileEdge), PARTS, directory)

    def stop() -> None:
        topic.all_read.wait()
        ends.stopping.set()

    threading.Thread(target=stop, daemon=True).start()
    cli_main(  # type: ignore[no-untyped-call]
        flow,
        workers_per_process=life.workers,
        epoch_interval=timedelta(milliseconds=life.epoch_ms),
        recovery_config=RecoveryConfig(life.recovery),  # type: ignore[no-untyped-call]
    )
