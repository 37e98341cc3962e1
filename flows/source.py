"""Kafka to events: the Bytewax source. In: every chosen topic. Out: events to fold, records set aside, barriers.

    consumer ──► batches ──► intake (decode, judge) ──► bounded queue ──► next_batch      one thread a reader; next_batch only pops

A fixed number of readers, each with its own assigned consumer; a partition belongs to reader
(crc32(topic) + partition mod the topic's `readers`) mod READERS.
What a reader remembers is what next_batch has emitted, never what its thread has read ahead.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from flows import metrics
from flows.declaration import READERS
from flows.errors import ConfigError
from flows.evolution import Change, changes, refusal
from flows.intake import Position
from flows.reader import Duty, Emission, read_topics
from flows.records import Barrier
from flows.services import Services
from flows.slices import Events
from flows.stop import BEGIN_ANEW, MISMATCH, REFUSED, Stop, leave

LOG = logging.getLogger(__name__)
AHEAD = 4  # emissions a reader may be ahead of the flow: bounds its memory
STATE_VERSION = 5
PAUSE_MS, LONGEST_MS = 5, 40  # of a reader that has nothing: each look wakes a worker
TICK_MS = 200

Item = Events | tuple[str, Any]
State = dict[str, Any]


def next_tick(now_s: float) -> datetime:
    """The next multiple of TICK_MS: the same time in all workers.

    >>> [next_tick(now_s).timestamp() for now_s in (1000.0, 1000.05, 1000.199, 1000.2)]
    [1000.2, 1000.2, 1000.2, 1000.4]
    """
    return datetime.fromtimestamp((int(now_s * 1000) // TICK_MS + 1) * TICK_MS / 1000, UTC)


def next_pause(before_ms: int, found: int) -> int:
    """How long a reader is left alone: PAUSE_MS after it had something, then twice as long each time, up to LONGEST_MS.

    >>> next_pause(40, found=1), next_pause(5, found=0), next_pause(10, found=0), next_pause(40, found=0)
    (5, 10, 20, 40)
    """
    return PAUSE_MS if found else min(2 * before_ms, LONGEST_MS)


@dataclass
class KafkaSource(FixedPartitionedSource[Item, State]):
    """`durable`: rows wait for barriers. `stopping`: when set, readers end. `declared`: what is declared now (see spelling.canonical).

    `ticks`: each call of next_batch is an epoch (-s 0), at the same times in all workers. Otherwise the epochs of several workers drift.
    """

    services: Services
    sink_parts: int
    durable: bool
    declared: str
    stopping: threading.Event = field(default_factory=threading.Event)
    ticks: bool = False
    told: set[Change] = field(default_factory=set)

    def list_parts(self) -> list[str]:
        """`reader-00` to `reader-03`, whatever topics there are: a part that vanished would make every resume fail."""
        return [f"reader-{number:02}" for number in range(READERS)]

    def build_part(self, step_id: str, for_part: str, resume_state: State | None) -> "Reader":  # noqa: ARG002 - Bytewax's signature
        """A reader that goes on where the state says. A state that cannot go on under what is declared ends the process with the way on."""
        try:
            state = going_on(resume_state, self.declared, self._say)
        except ValueError as error:
            leave(Stop(MISMATCH, f"the recovery directory belongs to another declaration: {error}"))
        if state["generation"]:
            self.services.planner.begin(state["generation"])
        return Reader(int(for_part.removeprefix("reader-")), state, self)

    def _say(self, change: Change) -> None:
        """One line for each change, however many readers meet it."""
        if change not in self.told:
            self.told.add(change)
            LOG.info("declared anew: %s (%s): %s", change.path, change.kind, change.why)


def going_on(state: State | None, declared: str, say: Callable[[Change], None]) -> State:
    """What a reader begins with: its state, under what is declared now. Raises ValueError, one line, where the state cannot follow."""
    if state is None:
        return {"version": STATE_VERSION, "declared": declared, "generation": 0, "topics": {}}
    if state["version"] != STATE_VERSION:
        raise ConfigError(f"it is of another version of this program: bring that back, or begin anew: {BEGIN_ANEW}")
    if state["declared"] == declared:
        return state
    found = changes(state["declared"], declared, {name: known.get("time") for name, known in state["topics"].items()})
    if refused := refusal(found):
        raise refused
    for change in found:
        say(change)
    return {**state, "declared": declared, "generation": state["generation"] + 1}


class Reader(StatefulSourcePartition[Item, State]):
    """Pops what its thread has read, and remembers how far that goes."""

    def __init__(self, number: int, state: State, source: KafkaSource) -> None:
        topics: Mapping[str, Any] = state["topics"]
        self.source, self.generation = source, state["generation"]
        self.topics: dict[str, dict[str, Any]] = {name: dict(known) for name, known in topics.items()}
        self.queue: queue.Queue[Emission | BaseException] = queue.Queue(AHEAD)
        self.number = number
        self.barrier = True
        self.pause_ms = PAUSE_MS
        self.told_s = time.monotonic()
        self.closing = threading.Event()
        self.offsets = self._offsets()
        resumed = {
            name: (known["id"], known["partitions"], {p: Position(*at) for p, at in known["positions"].items()})
            for name, known in topics.items()
        }
        duty = Duty(number, READERS, resumed, {name: tuple(known["version"]) for name, known in topics.items() if "version" in known})
        self.thread = threading.Thread(target=self._run, args=(duty,), name=f"reader-{number:02}", daemon=True)
        self.thread.start()

    def _run(self, duty: Duty) -> None:
        try:
            read_topics(duty, self.source.services, self._put, self._ends)
        except BaseException as error:  # noqa: BLE001 - raised again where Bytewax can see it
            self._put(error)

    def _put(self, emission: "Emission | BaseException") -> None:
        while not self._ends():
            with contextlib.suppress(queue.Full):
                self.queue.put(emission, timeout=0.1)
                return

    def _ends(self) -> bool:
        return self.closing.is_set() or self.source.stopping.is_set()

    def next_batch(self) -> list[Item]:
        """What was read, with a barrier for every sink part in front when all earlier epochs are durable."""
        if self.source.stopping.is_set():
            raise StopIteration
        items: list[Item] = self._barriers()
        for _ in range(AHEAD if self.source.ticks else 1):
            try:
                emission = self.queue.get_nowait()
            except queue.Empty:
                break
            if isinstance(emission, ConfigError):
                leave(Stop(REFUSED, f"kpi: {emission}"))
            if isinstance(emission, BaseException):
                raise emission
            self._remember(emission)
            items += emission.items
        self.pause_ms = next_pause(self.pause_ms, len(items))
        return items

    def next_awake(self) -> datetime | None:
        """At once while there is something to pop, else soon, and less and less soon; with ticks, at the next one."""
        if self.source.ticks:
            return next_tick(time.time())
        return None if self.barrier or not self.queue.empty() else datetime.now(UTC) + timedelta(milliseconds=self.pause_ms)

    def snapshot(self) -> State:
        """Positions after the last item emitted. The engine calls next_batch again only when this is durable."""
        if self.source.durable:
            self.barrier = True
        topics = {name: {**known, "positions": dict(known["positions"])} for name, known in self.topics.items()}
        self.offsets = self._offsets()
        return {"version": STATE_VERSION, "declared": self.source.declared, "generation": self.generation, "topics": topics}

    def _barriers(self) -> list[Item]:
        """One for every sink part; the offsets, which are for display only, go with one of them."""
        if not self.source.durable and time.monotonic() - self.told_s >= 1:
            self.barrier, self.told_s, self.offsets = True, time.monotonic(), self._offsets()
        if not self.barrier:
            return []
        self.barrier = False
        parts = self.source.sink_parts
        return [(str(part), Barrier(self.offsets if part == self.number % parts else ())) for part in range(parts)]

    def _offsets(self) -> tuple[tuple[str, int, int], ...]:
        return tuple((name, p, at[0]) for name, known in self.topics.items() for p, at in known["positions"].items())

    def _remember(self, emission: Emission) -> None:
        known = self.topics.setdefault(emission.topic, {"positions": {}})
        if known.get("id") != emission.topic_id:
            known["positions"] = {}
        known |= {"id": emission.topic_id, "partitions": emission.partitions}
        for item in emission.items:
            if isinstance(item, Events):
                known |= {"version": item.plan.version, "time": item.plan.time}
        for partition, position in emission.positions.items():
            before = known["positions"].get(partition)
            metrics.count(emission.topic, partition, Position(*before).fates if before else {}, position.fates)
            known["positions"][partition] = astuple(position)
        metrics.watermarks(emission.topic, emission.positions)

    def close(self) -> None:
        """End the thread; the flow is over."""
        self.closing.set()
        self.thread.join(10)
