"""Writes a record to every partition again and again, and reads it back. In: a topic. Out: ledgers and latencies, in metrics."""

import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from infra.monitor import metrics
from infra.monitor.ledger import Ledger

COMMIT_S = 1.0
PADDING = b"." * 100
STUCK_S = 5.0  # that long without a record that Kafka has


class Canary:
    """The writer and the reader of one topic. `watch` gives it its partitions; the reader begins at their ends."""

    def __init__(self, kafka: Mapping[str, str | int | float | bool], topic: str, late_s: float) -> None:
        """Records that take longer than `late_s` seconds are late."""
        self.topic = topic
        self._late_s = late_s
        self._writes = {"enable.idempotence": True, "linger.ms": 0, "message.timeout.ms": 30_000, **kafka}
        self._producer = Producer(self._writes)
        reads = {"enable.auto.commit": False, "auto.offset.reset": "error", "fetch.wait.max.ms": 100, **kafka}
        self._reads = {"group.id": topic, **reads}
        self._consumer = self._reader()
        self._begun_s = time.monotonic()
        self._changing = threading.Lock()  # which reader it is, and of what
        self._closing = threading.Thread()  # of the one before
        self._session = uuid.uuid4().hex[:12].encode()  # records of earlier runs are of no interest
        self._ledgers: dict[int, Ledger] = {}
        self._told: dict[int, dict[str, int]] = {}
        self._met_s: dict[int, float] = {}
        self._behind: dict[int, int] = {}  # the offset after the last record met
        self._number = 0
        self._commit_s, self._commit_is_out = 0.0, False
        self._lock = threading.RLock()

    def watch(self, partitions: int) -> None:
        """Take partitions that are new into the round, before anything is written to them."""
        for partition in range(len(self._ledgers), partitions):
            with self._changing:
                end = self._consumer.get_watermark_offsets(TopicPartition(self.topic, partition), timeout=10)[1]
                self._consumer.incremental_assign([TopicPartition(self.topic, partition, end)])
                with self._lock:
                    self._ledgers[partition], self._told[partition] = Ledger(self._late_s), {}
                self._behind[partition] = end
                self._met_s[partition] = time.monotonic()
        metrics.partitions.set(partitions)

    def write(self) -> None:
        """One record to every partition, and the page brought to what is known."""
        self._number += 1
        with self._lock:
            for partition, ledger in self._ledgers.items():
                now = time.monotonic()
                ledger.tick(now)
                ledger.sent(self._number, now)
                metrics.show(partition, ledger, self._told[partition])
        for partition in list(self._ledgers):
            self._send(partition, self._number, time.monotonic())
        try:
            self._producer.poll(0)
        except KafkaException as error:
            self._anew(error)

    def _send(self, partition: int, number: int, sent_s: float) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            now, offset = time.monotonic(), message.offset()
            if error is not None or offset is None:
                self._failed(partition, number)
                return
            with self._lock:
                self._ledgers[partition].acknowledged(number, offset, now)
            metrics.produce_delay.labels(partition).observe((now - sent_s) * 1000)

        try:
            self._producer.produce(self.topic, PADDING, b"%s:%d" % (self._session, number), partition, on_delivery=delivered)
        except BufferError:  # Kafka has been away for long
            self._failed(partition, number)
        except KafkaException as error:
            self._failed(partition, number)
            self._anew(error)

    def _anew(self, error: KafkaException) -> None:
        """A writer whose place in the log is gone refuses to go on: another takes over, once what is left has failed."""
        if error.args[0].fatal():
            with suppress(KafkaException):
                self._producer.flush(1)
            self._producer = Producer(self._writes)

    def _failed(self, partition: int, number: int) -> None:
        with self._lock:
            self._ledgers[partition].failed(number, time.monotonic())

    def read(self, timeout_s: float) -> None:
        """Take what has come. Raises KafkaException when the reader is of no use any more."""
        for message in self._consumer.consume(100, timeout_s):
            if (error := message.error()) is None:
                self._met(message)
            elif error.fatal():
                raise KafkaException(error)
        now = time.monotonic()
        if now - self._begun_s > STUCK_S and any(self._is_stuck(partition, now) for partition in list(self._met_s)):
            self._begun_s = now
            self._read_anew()
        if not self._commit_is_out and now - self._commit_s > COMMIT_S:
            self._commit_s, self._commit_is_out = now, True
            self._commit()

    def _reader(self) -> Consumer:
        """A new one. What it says of its commits counts for as long as it is the one that reads."""

        def committed(error: KafkaError | None, _offsets: list[TopicPartition]) -> None:
            if self._consumer is reader:
                self._committed(error)

        reader = Consumer({**self._reads, "on_commit": committed})
        return reader

    def _is_stuck(self, partition: int, now: float) -> bool:
        """Nothing has come from it for a while, though Kafka has had something for so long."""
        with self._lock:
            return now - self._met_s[partition] > STUCK_S and self._ledgers[partition].awaits_s(now) > STUCK_S

    def _met(self, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        if partition is None or offset is None:
            return
        now, key = time.monotonic(), message.key()
        session, _, number = (key if isinstance(key, bytes) else b"").partition(b":")
        self._met_s[partition], self._behind[partition] = now, offset + 1
        with self._lock:
            ledger = self._ledgers[partition]
            delay = ledger.received(int(number), offset, now) if session == self._session else None
            ledger.passed(offset)
        if delay is not None:
            metrics.records_delay.labels(partition).observe(delay * 1000)

    def _read_anew(self) -> None:
        """Kafka has records, and the reader meets none: its place may be cut off from the log. Another one takes over.

        A reader that has lived through an unclean election can stay without records for good: it is not moved, but replaced.
        """
        if self._closing.is_alive():
            return  # one at a time
        reader = self._reader()
        with self._changing:
            try:
                reader.incremental_assign([self._place(reader, partition) for partition in self._met_s])
            except KafkaException:  # a leader is not there yet: the one we have goes on, and this is tried again
                reader.close()
                return
            old, self._consumer = self._consumer, reader
        self._commit_is_out = False
        self._closing = threading.Thread(target=old.close, daemon=True)
        self._closing.start()  # it waits for its last commit: minutes, while nobody coordinates the group

    def _place(self, reader: Consumer, partition: int) -> TopicPartition:
        """Behind what was met; before that where a record is awaited there, or the log has become shorter."""
        low, end = reader.get_watermark_offsets(TopicPartition(self.topic, partition), timeout=0.5)
        with self._lock:
            awaited = self._ledgers[partition].first_awaited
        behind = self._behind[partition]
        return TopicPartition(self.topic, partition, max(low, min(end, behind, behind if awaited is None else awaited)))

    def _commit(self) -> None:
        """Ask for a commit and read on: where the group's coordinator is away, records still come."""
        try:
            self._consumer.commit(asynchronous=True)
        except KafkaException as error:
            self._committed(error.args[0])

    def _committed(self, error: KafkaError | None) -> None:
        self._commit_is_out = False
        if error is None:
            metrics.commit_latency.observe((time.monotonic() - self._commit_s) * 1000)
        elif error.code() != KafkaError._NO_OFFSET:  # noqa: SLF001 - so is it named; nothing was read yet
            metrics.commit_error.inc()
