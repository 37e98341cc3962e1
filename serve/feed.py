"""Read the KPI topics. In: Kafka and the schema registry. Out: a filled `series.Board`. One thread a process; it never gives up.

It joins no consumer group and commits nothing: it is assigned every partition of every `kpi.` topic, each from a bounded stretch of
history on, finds new topics by itself, and tries again whatever fails. What it knows about its own state is `feed.state`.
"""

import io
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import fastavro
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from flows.connection import Connection, connection
from flows.fields import SchemaError
from flows.registry import Away, Refused, Registry
from serve.series import Board
from serve.shape import Row, Shape, plain, read_row, read_shape

LOG = logging.getLogger(__name__)

FATES = {"kpi.late": "late", "kpi.dead-letters": "dead"}
HISTORY = 50_000  # records of a partition read back at the start: a row takes 14 microseconds to decode and keep
DISCOVERY_S = 3.0  # a new topic is looked for this often
ANSWER_S = 2.0  # a broker that does not answer within this time is away
HEAD = 5  # bytes of the wire format before the row: magic, schema id
FETCH = 5_000  # records taken from librdkafka at once
WAIT_S = 0.1  # a row waits at most this long for others before it is decoded
READER = {
    "group.id": "kpi-dashboard",  # librdkafka wants one; no group is joined
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "error",  # a lost position is decided here, not silently
    "isolation.level": "read_committed",
    "fetch.queue.backoff.ms": 50,  # the default of 1000 would hold back every topic while one fills the queue
    "queued.max.messages.kbytes": 16_384,
    "reconnect.backoff.max.ms": 2_000,  # the default of 10,000 would keep a page waiting that long for a broker that is back
    "log_level": 0,  # librdkafka says every failed connection again and again; what changes is logged here
}

Part = tuple[str, int]


@dataclass(frozen=True, slots=True)
class State:
    """How the feed is. `trouble`: what it waits for, in words, since `trouble_s` (clock); empty when all is well."""

    address: str
    registry: str
    topics: int = 0
    rows: int = 0
    unreadable: int = 0
    looked: bool = False  # whether a broker has ever listed its topics
    trouble: str = ""
    trouble_s: float = 0.0


class Feed:
    """The reader thread. `start` and `stop` it once; `board` and `state` may be read from any thread."""

    def __init__(self, connection: Connection, board: Board, clock: Callable[[], float] = time.time) -> None:
        url, user_info = connection.registry()
        self.board = board
        self.state = State(connection.librdkafka()["bootstrap.servers"], url)
        self._settings: dict[str, Any] = {**connection.librdkafka(), **READER, "error_cb": self._heard}
        self._registry = Registry(url, user_info)
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._assigned: set[Part] = set()
        self._resume: dict[Part, int] = {}
        self._schemas: dict[int, tuple[Shape | None, Any]] = {}

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for a moment until it has left the broker, but not for one that does not answer."""
        self._stopping.set()
        self._thread.join(2 * ANSWER_S)

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
            look_s = 0.0
            while not self._stopping.is_set():
                if time.monotonic() >= look_s:
                    self._discover(consumer)
                    look_s = time.monotonic() + DISCOVERY_S
                self._take(consumer, consumer.consume(FETCH, WAIT_S))
        finally:
            consumer.close()

    def _discover(self, consumer: Consumer) -> None:
        """Assign what is new: from where it was left, else from its history on. A partition that fails now is tried again next time."""
        try:
            found = {(name, part) for name, topic in _topics(consumer).items() for part in topic.partitions}
            new = []
            for part in sorted(found - self._assigned):
                if self._stopping.is_set():
                    return  # each of many partitions may wait for its answer
                new.append(TopicPartition(*part, self._beginning(consumer, part)))
            consumer.incremental_assign(new)
        except KafkaException as error:
            if error.args[0].code() in {KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN}:  # noqa: SLF001 - their names
                self._trouble(f"Kafka does not answer at {self.state.address}")
            else:
                self._trouble(f"Kafka at {self.state.address} says: {error.args[0].str()}")
            return
        self._assigned |= found
        self.state = replace(self.state, topics=len({topic for topic, _ in found} - set(FATES)), looked=True)
        if not self._resume:  # nothing had to be left since the last look
            self._trouble("")
        self._resume.clear()

    def _beginning(self, consumer: Consumer, part: Part) -> int:
        low, high = consumer.get_watermark_offsets(TopicPartition(*part), ANSWER_S)
        offset = self._resume.get(part, high - HISTORY)
        return min(max(low, offset), high)

    def _take(self, consumer: Consumer, messages: list[Message]) -> None:
        """Put what came on the board. Of rows with the same key only the last is decoded: all that a compacted topic would keep."""
        newest = {(message.topic(), message.key()): at for at, message in enumerate(messages) if not message.error()}
        left: set[Part] = set()
        for at, message in enumerate(messages):
            part = message.topic() or "", message.partition() or 0
            if part in left:
                continue
            if message.error():
                left.add(part)
                self._leave(consumer, part, None)
            elif fate := FATES.get(part[0]):
                headers = dict(message.headers() or ())
                self.board.count(fate, _text(headers.get("kpi.topic")), _text(headers.get("kpi.reason")))
            elif newest[message.topic(), message.key()] == at:
                try:
                    self._row(message)
                except (Away, Refused) as error:
                    left.add(part)
                    self._leave(consumer, part, message.offset())
                    self._trouble(f"the schema registry does not answer: {error}")
        if messages:
            self.state = replace(self.state, rows=self.state.rows + len(messages))

    def _leave(self, consumer: Consumer, part: Part, offset: int | None) -> None:
        """Read a partition no more until the next discovery, which goes on at `offset`, else at its history."""
        if part in self._assigned:
            consumer.incremental_unassign([TopicPartition(*part)])
            self._assigned.discard(part)
        if offset is not None:
            self._resume[part] = offset

    def _row(self, message: Message) -> None:
        try:
            shape, row = self._read_value(message.value() or b"")
        except (Away, Refused):
            raise
        except Exception as error:  # noqa: BLE001 - fastavro raises whatever the bytes make it: counted, never a stop
            if not self.state.unreadable:
                LOG.warning("unreadable row in %s at %s:%s: %r", message.topic(), message.partition(), message.offset(), error)
            self.state = replace(self.state, unreadable=self.state.unreadable + 1)
        else:
            self.board.upsert(shape, row, min(message.timestamp()[1], int(self._clock() * 1000)))

    def _read_value(self, value: bytes) -> tuple[Shape, Row]:
        if value[:1] != b"\0" or len(value) <= HEAD:
            raise SchemaError("not in Confluent's wire format")
        shape, parsed = self._schema(int.from_bytes(value[1:HEAD], "big"))
        if shape is None:
            raise SchemaError("not a KPI topic's schema")
        record: Any = fastavro.schemaless_reader(io.BytesIO(value[HEAD:]), parsed, None)
        return shape, read_row(shape, record)

    def _schema(self, schema_id: int) -> tuple[Shape | None, Any]:
        if schema_id not in self._schemas:
            text = self._registry.schema(schema_id).text
            shape = read_shape(text, schema_id)
            self._schemas[schema_id] = shape, fastavro.parse_schema(plain(text)) if shape else None
        return self._schemas[schema_id]

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
    return {name: topic for name, topic in topics.items() if name.startswith("kpi.") and name != "kpi.progress" and topic.error is None}


def _text(header: bytes | str | None) -> str:
    return (header.decode("utf-8", "replace") if isinstance(header, bytes) else header or "unknown")[:250]


_running: Feed | None = None  # the process's one feed: Bokeh's hooks start and stop it, sessions read it


def start(environ: Mapping[str, str]) -> None:
    """Start the process's feed. Raises ConfigError."""
    global _running  # noqa: PLW0603 - one reader thread a process
    _running = Feed(connection(environ), Board())
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
