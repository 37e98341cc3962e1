"""Writes a record to every partition again and again, and reads it back. In: a topic. Out: ledgers and latencies, in metrics."""

import threading
import time
import uuid
from dataclasses import dataclass, field

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from infra.monitor import metrics
from infra.monitor.ledger import Ledger

COMMIT_S = 1.0
PADDING = b"." * 100


def _new_session() -> bytes:
    """A name for this run: records of earlier ones are of no interest."""
    return uuid.uuid4().hex[:12].encode()


@dataclass
class Canary:
    """The writer and the reader of one topic. `watch` gives it its partitions; the reader begins at their ends."""

    producer: Producer
    consumer: Consumer
    topic: str
    late_s: float
    _session: bytes = field(default_factory=_new_session)
    _ledgers: dict[int, Ledger] = field(default_factory=dict)
    _told: dict[int, dict[str, int]] = field(default_factory=dict)
    _number: int = 0
    _committed_s: float = 0.0
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def watch(self, partitions: int) -> None:
        """Take partitions that are new into the round, before anything is written to them."""
        for partition in range(len(self._ledgers), partitions):
            end = self.consumer.get_watermark_offsets(TopicPartition(self.topic, partition), timeout=10)[1]
            self.consumer.incremental_assign([TopicPartition(self.topic, partition, end)])
            with self._lock:
                self._ledgers[partition], self._told[partition] = Ledger(self.late_s), {}
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
        self.producer.poll(0)

    def _send(self, partition: int, number: int, sent_s: float) -> None:
        def delivered(error: KafkaError | None, message: Message) -> None:
            now, offset = time.monotonic(), message.offset()
            with self._lock:
                if error is not None or offset is None:
                    self._ledgers[partition].failed(number, now)
                else:
                    self._ledgers[partition].acknowledged(number, offset, now)
                    metrics.produce_delay.labels(partition).observe((now - sent_s) * 1000)

        try:
            self.producer.produce(self.topic, PADDING, b"%s:%d" % (self._session, number), partition, on_delivery=delivered)
        except BufferError:  # Kafka has been away for long
            with self._lock:
                self._ledgers[partition].failed(number, sent_s)

    def read(self, timeout_s: float) -> None:
        """Take what has come. Raises KafkaException when the reader is of no use any more."""
        for message in self.consumer.consume(100, timeout_s):
            if (error := message.error()) is not None:
                self._amiss(error, message)
            else:
                self._met(message)
        if time.monotonic() - self._committed_s > COMMIT_S:
            self._commit()

    def _met(self, message: Message) -> None:
        partition, offset = message.partition(), message.offset()
        if partition is None or offset is None:
            return
        now, key = time.monotonic(), message.key()
        session, _, number = (key if isinstance(key, bytes) else b"").partition(b":")
        with self._lock:
            ledger = self._ledgers[partition]
            delay = ledger.received(int(number), offset, now) if session == self._session else None
            ledger.passed(offset)
        if delay is not None:
            metrics.records_delay.labels(partition).observe(delay * 1000)

    def _amiss(self, error: KafkaError, message: Message) -> None:
        """The log was cut off before the reader's place: it goes back to the first record that it waits for, or to the end."""
        partition = message.partition()
        if error.code() not in {KafkaError._AUTO_OFFSET_RESET, KafkaError._LOG_TRUNCATION, KafkaError.OFFSET_OUT_OF_RANGE}:  # noqa: SLF001 - so are they named
            if error.fatal():
                raise KafkaException(error)
            return
        if partition is None:
            return
        low, end = self.consumer.get_watermark_offsets(TopicPartition(self.topic, partition), timeout=10)
        with self._lock:
            awaited = self._ledgers[partition].first_awaited
        self.consumer.seek(TopicPartition(self.topic, partition, max(low, min(end, end if awaited is None else awaited))))

    def _commit(self) -> None:
        started = self._committed_s = time.monotonic()
        try:
            self.consumer.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._NO_OFFSET:  # noqa: SLF001 - so is it named; nothing was read yet
                metrics.commit_error.inc()
        else:
            metrics.commit_latency.observe((time.monotonic() - started) * 1000)
