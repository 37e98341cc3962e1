"""One reader's thread. In: its partitions of every chosen topic. Out: emissions, in order, each with the positions behind it.

It finds topics and partitions, reads whole record batches, holds a topic back while registry or cluster is away, pauses what runs
too far ahead, and lets quiet partitions promise. What a message means is decided in intake.py.
"""

import logging
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from kafka import TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError, TopicAuthorizationFailedError

from flows import metrics, topics
from flows.errors import ConfigError
from flows.fields import Schema
from flows.intake import Position, Reading, quiet
from flows.plan import TopicPlan
from flows.raw import Packed, heard_id, look_again, raw_consumer
from flows.records import Record
from flows.registry import Away, Refused
from flows.services import DISCOVER_S, Services
from flows.slices import Events
from flows.strangers import IN_A_ROW, SAMPLED
from flows.watermark import NEVER, Ends, Mark
from flows.windows import slice_ms
from flows.wire import RawBatch

LOG = logging.getLogger(__name__)
TICK_S = 1.0
RETRY_S = 1.0
RETRY_REFUSED_S = 30.0  # a topic that may not be read is tried again: rights change without a restart
ASK_MS = 5_000
GATHER_S = 0.1  # a topic, how long small fetches are put together: a frame costs 10 ms however small, and this is the latency it may cost
GATHER_MOST_S = 0.5  # a frame of what is far behind is as large as it can be
LINGER_S = 3.0  # a topic that was just read is told the time a little longer, for its provisional rows
FRAME_EVENTS = 200_000  # a frame this large keeps the cost of each step per event low
FRAME_BYTES = 32 << 20  # and of no more bytes than this, but for one batch
FRESH_MS = 10_000
AHEAD_SLICES = 60


@dataclass(frozen=True, slots=True)
class Emission:
    """Items of one topic, and where its partitions stand once they are emitted."""

    topic: str
    topic_id: str
    partitions: int
    positions: Mapping[int, Position]
    items: list[Events | tuple[str, list[Record]]]


@dataclass
class Share:
    """A reader's share of one topic: what was read of it, and what waits."""

    reading: Reading
    topic_id: str
    partitions: int
    waiting: list[Packed] = field(default_factory=list)
    retry_s: float = 0.0
    refused: bool = False  # the declaration does not fit its schema, or it may not be read
    again_s: float = math.inf  # when one that may not be read is tried again
    tried: bool = False  # again, and nobody knows yet
    emitted_s: float = 0.0
    ends: Ends = field(default_factory=Ends)
    told: set[str] = field(default_factory=set)  # fields whose type changed to one of no use
    ticked: Mapping[int, Mark] = field(default_factory=dict)
    stamps: dict[int, int] = field(default_factory=dict)  # partition -> Kafka timestamp of the newest batch read

    def next_offset(self, partition: int) -> int:
        """The offset behind all that was read of a partition, or waits."""
        waiting = (batch.last_offset + 1 for batch in self.waiting if batch.partition == partition)
        return max(waiting, default=self.reading.positions[partition].offset)


def is_frame(waiting: Sequence[Packed]) -> bool:
    """Whether no more should be fetched before some of it is handed on: of large messages a frame has few."""
    return sum(batch.count for batch in waiting) >= FRAME_EVENTS or sum(len(batch.packed) for batch in waiting) >= FRAME_BYTES


class _NewSchema(Exception):  # noqa: N818 - news, not an error
    def __init__(self, schema_id: int) -> None:
        super().__init__(schema_id)
        self.schema_id = schema_id


@dataclass(frozen=True, slots=True)
class Duty:
    """Which reader of how many, and where its topics go on: topic -> (id, partitions known, positions), and the schema ids met in it."""

    number: int
    readers: int
    resumed: Mapping[str, tuple[str, int, dict[int, Position]]]
    versions: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def mine(self, topic: str, partitions: int, readers: int) -> set[int]:
        """The partitions of a topic that are this reader's: (crc32(topic) + partition mod its readers) mod all, the same for ever."""
        first = zlib.crc32(topic.encode())
        return {p for p in range(partitions) if (first + p % readers) % self.readers == self.number}


def read_topics(duty: Duty, services: Services, put: Callable[[Emission], None], ends: Callable[[], bool]) -> None:
    """Read until `ends()`. Raises what cannot be mended by trying again."""
    reader = _Reader(duty, services, put, ends)
    try:
        while not ends():
            reader.turn()
    finally:
        reader.consumer.close(autocommit=False)


class _Reader:
    def __init__(self, duty: Duty, services: Services, put: Callable[[Emission], None], ends: Callable[[], bool]) -> None:
        self.duty, self.resumed, self.name = duty, dict(duty.resumed), f"reader-{duty.number:02}"
        self.services, self.put, self.ends = services, put, ends
        for topic, ids in duty.versions.items():
            services.planner.remember(topic, ids)
        self.consumer = raw_consumer(services.kafka_python)
        self.shares: dict[str, Share] = {}
        self.discovered_s = self.tick_s = float("-inf")

    def turn(self) -> None:
        """One round: find, read, hand on, tell the time."""
        now_s = time.monotonic()
        try:
            if now_s - self.discovered_s >= DISCOVER_S:
                self._discover()
                self.discovered_s = now_s
            self._read()
            if now_s - self.tick_s >= TICK_S:
                self.tick_s = now_s
                self._tick()
        except (topics.Unreachable, KafkaError) as error:
            self.services.outage.failed(self.name, str(error), now_s)
            time.sleep(RETRY_S)
        else:
            self.services.outage.worked(self.name)

    def _discover(self) -> None:
        """Take up new topics and partitions, drop those that are gone; a topic created again (another id) begins anew."""
        found = self.services.topics()
        self._try_again()
        for name in [name for name, share in self.shares.items() if name not in found or found[name][0] != share.topic_id]:
            LOG.warning("%s is gone or was created again", name)
            gone = self.shares.pop(name)
            if gone.topic_id:  # it may come back as it was, as after a right was taken away: then it goes on, and is not read twice
                self.resumed[name] = (gone.topic_id, gone.partitions, gone.reading.positions)
            self.services.reached_ms.pop(name, None)
            self.services.forbidden.pop(name, None)
            # A topic of the same name and partitions would be read on from where the old one was.
            self.consumer.assign([tp for tp in self.consumer.assignment() if tp.topic != name])
        for name, (topic_id, _) in found.items():
            if name not in self.shares:
                self.shares[name] = Share(Reading(name), topic_id, 0)
        grown = {name: partitions for name, (_, partitions) in found.items() if partitions > self.shares[name].partitions}
        self.services.planner.foresee(name for name, partitions in grown.items() if self._mine(name, partitions))
        starts = self._starts(grown)
        for name, partitions in grown.items():
            self._meet(self.shares[name], partitions, starts[name])
        read = {name: share for name, share in self.shares.items() if not share.refused}
        assigned = {TopicPartition(name, p) for name, share in read.items() for p in share.reading.positions}
        if assigned != self.consumer.assignment():
            fresh = assigned - self.consumer.assignment()
            self.consumer.assign(list(assigned))
            for tp in fresh:
                self.consumer.seek(tp, self.shares[tp.topic].reading.positions[tp.partition].offset)

    def _try_again(self) -> None:
        """Topics that may not be read: try now and then; it works when a fetch is answered."""
        for tp in self.consumer.assignment():
            share = self.shares.get(tp.topic)
            if share is not None and share.tried and not share.refused and self.consumer.highwater(tp) is not None:
                share.tried = False
                if self.services.forbidden.pop(tp.topic, None) is not None:
                    LOG.warning("%s: reading goes on", tp.topic)
        for share in self.shares.values():
            if share.refused and time.monotonic() >= share.again_s:
                share.refused, share.again_s, share.tried = False, math.inf, True

    def _forbidden(self, name: str) -> None:
        """A topic that may not be read: one line, whoever of the readers meets it first."""
        share = self.shares[name]
        if self.services.forbidden.setdefault(name, self.duty.number) == self.duty.number and not share.tried:
            LOG.error("%s is not read: not authorised; allow Read and Describe on it", name)
        share.refused, share.again_s = True, time.monotonic() + RETRY_REFUSED_S

    def _mine(self, name: str, partitions: int) -> set[int]:
        return self.duty.mine(name, partitions, self.services.planner.declared(name).readers)

    def _known(self, share: Share) -> tuple[int, Mapping[int, Position]]:
        """How many partitions of a topic are known, and where this reader's are: an earlier life's, until they are taken up."""
        topic_id, known, positions = self.resumed.get(share.reading.topic, (None, 0, {}))
        return (known, positions) if topic_id == share.topic_id else (share.partitions, share.reading.positions)

    def _meet(self, share: Share, partitions: int, starts: Mapping[int, int]) -> None:
        """New partitions of a topic: where it goes on, or from `starts`; one that appears while the flow runs promises at once."""
        name, clock_ms = share.reading.topic, self.services.clock_ms()
        known, positions = self._known(share)
        if self.resumed.pop(name, None):
            share.reading.positions |= {p: replace(position, moved_ms=clock_ms) for p, position in positions.items()}
        lateness_ms = self.services.planner.declared(name).lateness
        for partition, offset in starts.items():
            joined = known > 0 and partition >= known
            share.reading.meet(partition, offset, clock_ms, joined_behind_ms=lateness_ms if joined else None)
        share.partitions = partitions
        # Remembered also by a reader that has none of them: after a restart it must know which ones are new.
        self.put(Emission(name, share.topic_id, partitions, dict(share.reading.positions), []))

    def _starts(self, grown: Mapping[str, int]) -> dict[str, dict[int, int]]:
        """Where this reader's new partitions begin, by topic. Asks for all at once: one by one, the client took 0.1 s for each topic."""
        wanted: dict[TopicPartition, str | int] = {}
        for name, partitions in grown.items():
            known, positions = self._known(self.shares[name])
            start = self.services.planner.declared(name).start if known == 0 else "earliest"
            wanted |= {TopicPartition(name, p): start for p in sorted(self._mine(name, partitions) - set(positions))}
        first = [tp for tp, start in wanted.items() if start == "earliest"]
        later = {tp: start for tp, start in wanted.items() if start != "earliest"}
        try:
            offsets: dict[TopicPartition, int] = self.consumer.beginning_offsets(first) if first else {}
            offsets |= self.consumer.end_offsets(list(later)) if later else {}
            times = {tp: start for tp, start in later.items() if start != "latest"}
            at = self.consumer.offsets_for_times(times) if times else {}
        except KeyError as error:  # so the client says that it knows no leader of this one, but of others
            raise topics.Unreachable(f"{error.args[0]}: no leader yet") from None
        offsets |= {tp: found.offset for tp, found in at.items() if found is not None}
        starts: dict[str, dict[int, int]] = {name: {} for name in grown}
        for tp, offset in offsets.items():
            starts[tp.topic][tp.partition] = offset
        return starts

    def _read(self) -> None:
        """Poll for a while, and hand on what came, topic by topic, about FRAME_EVENTS at a time."""
        deadline_s = time.monotonic() + self._gather_s()
        try:
            while self._poll(deadline_s) and not is_frame(self._waiting()) and time.monotonic() < deadline_s:
                continue
        except OffsetOutOfRangeError as error:
            self._gap(error.args[0])
            return
        except TopicAuthorizationFailedError as error:
            for name in error.args[0]:
                self._forbidden(name)
            self.discovered_s = float("-inf")
            return
        now_s = time.monotonic()
        for share in list(self.shares.values()):
            while share.waiting and now_s >= share.retry_s and not self.ends():
                if not self._hand_on(share):
                    break
        self._pace()

    def _gather_s(self) -> float:
        """GATHER_S a topic; longer while some partition is far behind, as nobody waits for its rows."""
        read = [share.reading for share in self.shares.values() if share.reading.positions and not share.refused]
        is_behind = any(reading.positions.keys() - reading.fresh for reading in read)
        return GATHER_MOST_S if is_behind else min(GATHER_S * max(1, len(read)), GATHER_MOST_S)

    def _poll(self, deadline_s: float) -> bool:
        polled = self.consumer.poll(timeout_ms=max(1, int((deadline_s - time.monotonic()) * 1000)))
        for tp, fetched in polled.items():
            if tp.topic in self.shares:
                share = self.shares[tp.topic]
                if self._is_another(share):
                    self.consumer.seek(tp, share.next_offset(tp.partition))
                    continue
                share.waiting += [record.value for record in fetched]
                share.stamps[tp.partition] = fetched[-1].timestamp
        return bool(polled)

    def _is_another(self, share: Share) -> bool:
        """Whether client and discovery have heard of two topics of a name, as it was created again: both look again before more is read."""
        heard = heard_id(self.consumer, share.reading.topic)
        if heard in {"", share.topic_id} or not share.topic_id:
            return False
        self.services.look_again()
        look_again(self.consumer)
        self.discovered_s = float("-inf")
        return True

    def _waiting(self) -> list[Packed]:
        return [batch for share in self.shares.values() for batch in share.waiting]

    def _hand_on(self, share: Share) -> bool:
        """One frame of the oldest waiting batches; False when the topic has to wait for registry or cluster."""
        name = share.reading.topic
        try:
            with ExitStack() as alone:
                batches = self._unpacked(share.waiting, alone)
                packed, share.waiting = share.waiting[: len(batches)], share.waiting[len(batches) :]
                self._refresh(share)
                plan = self.services.planner.plan(name)
                made, aside = self._decode(share, plan, batches)
        except ConfigError as error:
            self._refuse(share, error)
            return False
        except (Away, topics.Unreachable) as error:
            if not share.retry_s:
                LOG.warning("%s: reading pauses: %s", name, error)
            share.waiting = [*packed, *share.waiting]
            share.retry_s = time.monotonic() + RETRY_S
            return False
        if share.retry_s:
            LOG.warning("%s: reading goes on", name)
        share.retry_s = 0.0
        self._tell(share)
        self._emit(share, [made, *self._for_sink(name, aside)])
        return True

    def _refuse(self, share: Share, error: ConfigError) -> None:
        """Leave out a topic that nobody named and what is declared does not fit. Raises the error where it concerns more."""
        name = share.reading.topic
        if isinstance(error, Refused) or self.services.planner.is_named(name):
            raise error
        LOG.error("%s is not read: %s", name, error)
        share.refused, share.waiting, self.discovered_s = True, [], float("-inf")

    def _unpacked(self, waiting: Sequence[Packed], alone: ExitStack) -> list[RawBatch]:
        """The oldest batches, about a frame. One that is larger comes alone, and one at a time in this process: `alone` holds its lock."""
        batches: list[RawBatch] = []
        events = size = 0
        while len(batches) < len(waiting) and events < FRAME_EVENTS and size < FRAME_BYTES:
            batch = waiting[len(batches)].unpacked(FRAME_BYTES)
            if batch is None:
                if not batches:
                    alone.enter_context(self.services.heavy)
                    batches += [whole for whole in [waiting[0].unpacked()] if whole is not None]
                break
            batches.append(batch)
            events, size = events + batch.count, size + len(batch.body)
        return batches

    def _tell(self, share: Share) -> None:
        """What people should hear of what was just read: a line in the log, a number on the metrics page."""
        name, notes = share.reading.topic, share.reading.notes
        for error in notes.faults:
            LOG.error("%s: a batch cannot be read: %s", name, error)
        for partition, offset in notes.strange.items():
            LOG.warning(
                "%s[%d]: non-Avro: %d messages in a row up to offset %d; dead letters of one offset in %d only, until Avro comes",
                name,
                partition,
                IN_A_ROW,
                offset,
                SAMPLED,
            )
        for (of, cause), count in notes.unmeasured.items():
            metrics.unmeasured.labels(name, of, cause).inc(count)
            if cause == "type" and of not in share.told:
                share.told.add(of)
                LOG.warning("%s: field %r has changed to a type that cannot be used; its values are left out", name, of)

    def _decode(self, share: Share, plan: TopicPlan, batches: Sequence[RawBatch]) -> tuple[Events, list[Record]]:
        """Once more with a larger plan whenever a schema is met that the plan was not made for."""
        while True:
            version = set(plan.version)

            def schema_of(schema_id: int, version: set[int] = version) -> Schema:
                schema = self.services.registry.schema(schema_id)
                if schema_id not in version:
                    raise _NewSchema(schema_id)
                return schema

            try:
                return share.reading.read(plan, share.partitions, batches, schema_of, self.services.clock_ms())
            except _NewSchema as news:
                plan = self.services.planner.plan(share.reading.topic, news.schema_id)

    def _refresh(self, share: Share) -> None:
        """A partition is fresh when nothing unread in it can be older than 10 s: its end is near, or what was read last is young."""
        reading, young_ms = share.reading, self.services.clock_ms() - FRESH_MS
        ended = set() if share.waiting else {p for p in reading.positions if self._at_end(share, p)}
        reading.fresh = ended | {p for p, stamp_ms in share.stamps.items() if stamp_ms >= young_ms}

    def _at_end(self, share: Share, partition: int) -> bool:
        tp = TopicPartition(share.reading.topic, partition)
        highwater = self.consumer.highwater(tp)  # as the last fetch said; None before the first
        return highwater is not None and self.consumer.position(tp) >= highwater

    def _tick(self) -> None:
        """Each second: promises of quiet partitions that are read to an end, and the time for windows that wait for nothing else."""
        now_s, clock_ms = time.monotonic(), self.services.clock_ms()
        plans: dict[str, TopicPlan] = {}
        for name, share in self.shares.items():
            if share.refused or share.waiting or share.retry_s > now_s or not share.reading.positions or self._is_another(share):
                continue
            try:
                plans[name] = self.services.planner.plan(name)
            except ConfigError as error:  # before any message is there
                self._refuse(share, error)
            except (Away, topics.Unreachable):
                continue
        asked = [
            TopicPartition(name, p)
            for name, plan in plans.items()
            for p, position in self.shares[name].reading.positions.items()
            if quiet(plan, position, clock_ms)
        ]
        # All in one question: one a topic took a reader of 50 quiet topics 50 round trips a second.
        ends: dict[str, dict[int, int]] = {name: {} for name in plans}
        at: dict[str, dict[int, int]] = {name: {} for name in plans}
        for tp, end in (self.consumer.end_offsets(asked, timeout_ms=ASK_MS) if asked else {}).items():
            ends[tp.topic][tp.partition], at[tp.topic][tp.partition] = end, self.consumer.position(tp)
        for name, plan in plans.items():
            share, reading = self.shares[name], self.shares[name].reading
            seen = share.ends.seen(ends[name], at[name], clock_ms)
            self._refresh(share)
            events = reading.tick(plan, share.partitions, seen, clock_ms)
            if events.marks != share.ticked or now_s - share.emitted_s < LINGER_S:
                share.ticked = events.marks
                self._emit(share, [events])

    def _pace(self) -> None:
        """Pause what waits for the registry, and what is more than 60 slices ahead of the slowest partition heard of."""
        pause: set[TopicPartition] = set()
        for name, share in self.shares.items():
            if share.refused:
                continue
            reached = {p: ms for p, ms in self.services.reached_ms.get(name, {}).items() if ms != NEVER}
            edge_ms = min(reached.values(), default=0) + AHEAD_SLICES * slice_ms(self.services.planner.declared(name).windows)
            ahead = {p for p in share.reading.positions if reached.get(p, NEVER) > edge_ms}
            pause |= {TopicPartition(name, p) for p in (share.reading.positions if share.waiting else ahead)}
        paused = self.consumer.paused()
        self.consumer.pause(*(pause - paused))
        self.consumer.resume(*(paused - pause))
        metrics.waiting.labels(self.duty.number).set(sum(bool(share.waiting) for share in self.shares.values()))

    def _gap(self, asked: Mapping[TopicPartition, int]) -> None:
        """Offsets that expired before they were read: counted, said, and reading goes on from the earliest there is."""
        if any(self._is_another(self.shares[tp.topic]) for tp in asked):
            return
        first, end = self.consumer.beginning_offsets(list(asked)), self.consumer.end_offsets(list(asked))
        for tp, offset in asked.items():
            to = first[tp] if first[tp] > offset else end[tp]
            LOG.warning("%s[%d]: offset %d is not there any more, going on from %d", tp.topic, tp.partition, offset, to)
            metrics.gap.labels(tp.topic, tp.partition).inc(max(0, to - offset))
            self.consumer.seek(tp, to)
            share = self.shares[tp.topic]
            if not any(batch.partition == tp.partition for batch in share.waiting):  # else those would count as read before
                share.reading.positions[tp.partition] = replace(share.reading.positions[tp.partition], offset=to)

    def _emit(self, share: Share, items: list[Any]) -> None:
        reading, share.emitted_s = share.reading, time.monotonic() if len(items) > 1 or items[0].frame is not None else share.emitted_s
        self.services.reached_ms.setdefault(reading.topic, {}).update({p: position.reached_ms for p, position in reading.positions.items()})
        self.put(Emission(reading.topic, share.topic_id, share.partitions, dict(reading.positions), items))

    def _for_sink(self, name: str, aside: list[Record]) -> list[tuple[str, list[Record]]]:
        return [(str(zlib.crc32(name.encode()) % self.services.planner.sink_parts), aside)] if aside else []
