"""Read the KPI topics. In: Kafka and the schema registry. Out: a filled `series.Board`. One thread a process; it never gives up.

It joins no consumer group and commits nothing: it is assigned every partition of every `kpi.` topic, each from its newest records on, and
reads what is older beside that; it finds new topics by itself, and tries again whatever fails. How it is, `feed.state` says.
"""

import logging
import threading
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from flows.connection import Connection, connection
from flows.registry import Away, Refused, Registry
from serve.asides import FATES, read_aside
from serve.history import HISTORY, Part, Past, part_of, since, split
from serve.lag import Lag
from serve.rows import Rows
from serve.series import Board
from serve.state import State as State

LOG = logging.getLogger(__name__)

DISCOVERY_S = 3.0  # a new topic is looked for this often
ANSWER_S = 2.0  # a broker that does not answer within this time is away
FETCH = 5_000  # records taken from librdkafka at once
WAIT_S = 0.1  # a row waits at most this long for others before it is decoded
HURRY_S = 0.02  # the same, while history is read beside it
LOST = -1  # the offset of a partition that cannot be gone on with
READER = {
    "group.id": "kpi-dashboard",  # librdkafka wants one; no group is joined
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,  # the only way to know that all is read: the last record may be a transaction's marker
    "auto.offset.reset": "error",  # a lost position is decided here, not silently
    "isolation.level": "read_committed",
    "fetch.queue.backoff.ms": 50,  # the default of 1000 would hold back every topic while one fills the queue
    "queued.max.messages.kbytes": 16_384,
    "reconnect.backoff.max.ms": 2_000,  # the default of 10,000 would keep a page waiting that long for a broker that is back
    "log_level": 0,  # librdkafka says every failed connection again and again; what changes is logged here
}


class Feed:
    """The reader thread. `start` and `stop` it once; `board` and `state` may be read from any thread."""

    def __init__(self, connection: Connection, board: Board, clock: Callable[[], float] = time.time, flow_id: str = "kpi") -> None:
        url, user_info = connection.registry()
        self.board = board
        self.state = State(connection.librdkafka()["bootstrap.servers"], url)
        self._settings: dict[str, Any] = {**connection.librdkafka(), **READER, "error_cb": self._heard}
        self._rows = Rows(Registry(url, user_info))
        self._past = Past(self._settings)
        self._lag = Lag(connection.librdkafka(), flow_id, board.put_lags)
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._assigned: set[Part] = set()
        self._resume: dict[Part, int] = {}  # where partitions were left that cannot be read now
        self._reached: dict[Part, int] = {}  # how far the others are read
        self._ends: dict[Part, int] = {}  # where those end that have not been read to their end yet
        self._tables: dict[str, set[tuple[str, str]]] = {}  # KPI topic -> what its rows said that they are of: source topic and window
        self._missed: set[str] = set()  # KPI topics that were not there at the last look

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()
        self._lag.start()

    def stop(self) -> None:
        """End the thread; waits for a moment until it has left the broker, but not for one that does not answer."""
        self._stopping.set()
        self._thread.join(2 * ANSWER_S)
        self._lag.stop()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._read()
            except Exception as error:  # whatever it is: the charts must not freeze silently
                LOG.exception("the feed starts anew")
                self._trouble(f"the feed failed: {type(error).__name__}")
                self._stopping.wait(1)

    def _read(self) -> None:
        consumer = Consumer(self._settings)
        self._assigned.clear()
        try:
            look_s, looked = 0.0, False
            while not self._stopping.is_set():
                if time.monotonic() >= look_s:
                    self._past.go_on()  # also where a partition has no leader, and so no end
                    self._discover(consumer)
                    look_s, looked = time.monotonic() + DISCOVERY_S, True
                self._take(consumer.consume(FETCH, HURRY_S if self._past else WAIT_S), partial(self._leave, consumer))
                if looked and not self._ends:  # the newest first
                    self._past.go_on()
                    looked = False
                self._take(self._past.consume(FETCH, HURRY_S), self._past.leave, live=False)
                self._tell()
        finally:
            self._past.close()
            consumer.close()

    def _discover(self, consumer: Consumer) -> None:
        """Assign what is new: from where it was left, else from its newest records on. One that fails now is tried again next time."""
        try:
            topics = _topics(consumer)
            found = {(name, part) for name, topic in topics.items() if topic.error is None for part in topic.partitions}
            self._past.keep(topics)
            self._forget(consumer, topics)
            self._ends = {part: end for part, end in self._ends.items() if part[0] in topics}
            new = sorted(found - self._assigned)
            met = self._resume.keys() | self._reached.keys()
            oldest = since(consumer, [part for part in new if part not in met], int(self._clock() * 1000), ANSWER_S)
            begin = []
            for part in new:
                if self._stopping.is_set():
                    return  # each of many partitions may wait for its answer
                begin.append(TopicPartition(*part, self._beginning(consumer, part, oldest.get(part))))
            consumer.incremental_assign(begin)
        except KafkaException as error:
            if error.args[0].code() in {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}:  # noqa: SLF001 - their names
                self._trouble(f"Kafka does not answer at {self.state.address}")
            else:
                self._trouble(f"Kafka at {self.state.address} says: {error.args[0].str()}")
            return
        self._assigned |= found
        self._tell()  # before the first of their rows: who waits for the past must not take a part of it for the whole
        self.state = replace(self.state, topics=len({topic for topic, _ in found} - set(FATES)), looked=True)
        if not self._resume:  # nothing had to be left since the last look
            self._trouble("")
        self._resume.clear()

    def _forget(self, consumer: Consumer, topics: Container[str]) -> None:
        """Give up the rows of topics that are gone at two looks in a row: one that comes back is read anew."""
        missed = {name for name in self._tables if name not in topics}
        for name in missed & self._missed:
            for part in [part for part in self._assigned | self._resume.keys() if part[0] == name]:
                self._leave(consumer, part, LOST)
                self._resume.pop(part, None)
            gone = self._tables.pop(name)
            for table in gone - set().union(*self._tables.values()):
                self.board.forget(*table)
        self._missed = missed

    def _beginning(self, consumer: Consumer, part: Part, oldest: int | None) -> int:
        low, high = consumer.get_watermark_offsets(TopicPartition(*part), ANSWER_S)
        offset = max(low, self._resume.get(part, self._reached.get(part, high + 1)))
        if offset > high and part[0] in FATES:
            offset = max(low, high - HISTORY)
        elif offset > high:
            start, offset = split(low, high, high if oldest is None else oldest)
            self._past.add(part, start, offset)
        self._reached[part], self._ends[part] = offset, high
        return offset

    def _take(self, messages: list[Message], leave: Callable[[Part, int], None], *, live: bool = True) -> None:
        """Put what came on the board. Of rows with the same key only the last is decoded: all that a compacted topic would keep."""
        left: set[Part] = set()
        for message in messages:
            if error := message.error():
                self._ends.pop(part_of(message), None)
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its name
                    left.add(part_of(message))
                    leave(part_of(message), LOST)
        found = [message for message in messages if not message.error()]
        newest = {(message.topic(), message.key()): at for at, message in enumerate(found)}
        reached: dict[Part, int] = {}
        for at, message in enumerate(found):
            part, offset = part_of(message), message.offset() or 0
            if part in left:
                continue
            try:
                self._put(message, newest=newest[message.topic(), message.key()] == at)
            except (Away, Refused) as error:
                left.add(part)
                leave(part, offset)
                self._trouble(f"the schema registry does not answer: {error}")
            else:
                reached[part] = offset + 1
        if live:
            self._reached |= {part: offset for part, offset in reached.items() if part not in left}
        if found:
            self.state = replace(self.state, rows=self.state.rows + len(found))

    def _put(self, message: Message, *, newest: bool) -> None:
        at_ms = min(message.timestamp()[1], int(self._clock() * 1000))
        if fate := FATES.get(message.topic() or ""):
            self.board.put_aside(read_aside(fate, dict(message.headers() or ()), message.key(), message.value()), at_ms)
        elif newest:
            self._row(message, at_ms)

    def _leave(self, consumer: Consumer, part: Part, offset: int) -> None:
        """Read a partition no more until the next discovery, which goes on at `offset`; where that is lost, as if it were new."""
        if part in self._assigned:
            consumer.incremental_unassign([TopicPartition(*part)])
            self._assigned.discard(part)
        self._reached.pop(part, None)
        if offset != LOST:
            self._resume[part] = offset

    def _row(self, message: Message, at_ms: int) -> None:
        try:
            shape, row = self._rows.read(message.value() or b"")
        except (Away, Refused):
            raise
        except Exception as error:  # noqa: BLE001 - fastavro raises whatever the bytes make it: counted, never a stop
            if not self.state.unreadable:
                LOG.warning("unreadable row in %s at %s:%s: %r", message.topic(), message.partition(), message.offset(), error)
            self.state = replace(self.state, unreadable=self.state.unreadable + 1)
        else:
            self._tables.setdefault(message.topic() or "", set()).add((shape.topic, shape.window))
            self.board.upsert(shape, row, at_ms)

    def _tell(self) -> None:
        """Say how much is still to be read."""
        behind = self._past.behind + sum(max(0, end - self._reached.get(part, end)) for part, end in self._ends.items())
        if behind != self.state.behind:
            self.state = replace(self.state, behind=behind)

    def _trouble(self, words: str) -> None:
        """Say what the feed waits for; no words: all is well."""
        if words != self.state.trouble:
            LOG.warning("%s", f"{words}; trying again" if words else "reading again")
        since = self.state.trouble_s if self.state.trouble else self._clock()
        self.state = replace(self.state, trouble=words, trouble_s=since)

    def _heard(self, error: KafkaError) -> None:
        """What librdkafka says by itself; called while the thread polls."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - its name
            self._trouble(f"Kafka does not answer at {self.state.address}")
        elif error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001 - its name
            self._trouble(f"Kafka refuses the credentials at {self.state.address}")


def _topics(consumer: Consumer) -> Mapping[str, Any]:
    topics = consumer.list_topics(timeout=ANSWER_S).topics
    return {name: topic for name, topic in topics.items() if name.startswith("kpi.") and name != "kpi.progress"}


_running: Feed | None = None  # the process's one feed: Bokeh's hooks start and stop it, sessions read it


def start(environ: Mapping[str, str]) -> None:
    """Start the process's feed. Raises ConfigError."""
    global _running  # noqa: PLW0603 - one reader thread a process
    _running = Feed(connection(environ), Board(), flow_id=environ.get("KPI_FLOW_ID", "kpi"))
    _running.start()


def running() -> Feed:
    """The process's feed."""
    if _running is None:
        raise RuntimeError("the feed is not started")
    return _running


def stop() -> None:
    """End the process's feed."""
    if _running is not None:
        _running.stop()
