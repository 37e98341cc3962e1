"""Kafka as one sink part meets it: its producers, its marker, and the offsets shown to Kafka's tools. In: settings. Out: clients."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from flows.delivery import WAIT_S
from flows.outage import Outage
from flows.records import PROGRESS, Record

LOG = logging.getLogger(__name__)

TIMEOUT_MS = 60_000  # of a transaction; it lives for milliseconds, so this has nothing to do with epochs or outages
CONNECT_S = 5.0  # for the first answer of a broker
SHOW_S = 1.0  # offsets are shown at most this often
BACK = 64  # the marker is near the end of its partition: so many records back first, 16 times more each further time

DEFAULTS = {
    "linger.ms": 5,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 1_000_000,
    "retry.backoff.ms": 10,  # the default of 100 makes back-to-back transactions take 103 ms instead of 4
    "retry.backoff.max.ms": 500,
    "transaction.timeout.ms": TIMEOUT_MS,
}
CLIENT = {
    "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 500,
    "log_level": 2,  # else each failed connection is a line, 17 a second while Kafka is away; `outage` says it in one
}
PROGRESS_SETTINGS = {"cleanup.policy": "compact", "segment.bytes": "1048576"}  # of the topic: markers never expire


class Marker(NamedTuple):
    """What a sink part committed last. `run` computed the sequence, `owner` committed it: each a UUID of one life of a sink part."""

    lineage: str
    sequence: int
    run: str
    owner: str

    def record(self, transactional_id: str) -> Record:
        """The marker as it stands in the progress topic."""
        return Record(PROGRESS, transactional_id.encode(), json.dumps(self).encode())


class Edge:
    """The Kafka of one sink part; tests put faults here. `settings` are librdkafka's.

    The transactional id is flow id and sink part: stable, never a process or a worker.
    """

    def __init__(self, settings: Mapping[str, object], flow_id: str, part: int, outage: Outage | None = None) -> None:
        self._settings = {**CLIENT, **settings}
        self.outage = outage or Outage()
        self._flow_id, self.part = flow_id, part
        self.transactional_id = f"{flow_id}-{part}"
        self.timeout_s = float(str(self._settings.get("transaction.timeout.ms", TIMEOUT_MS))) / 1000
        self.refusal: KafkaError | None = None  # a wrong password is told by callback alone, and tried again for ever
        self._shown: Consumer | None = None
        self._offsets: dict[tuple[str, int], int] = {}
        self._next_show = 0.0

    def transactional(self) -> Producer:
        """A new producer of the transactional id; init_transactions() fences every older one."""
        return self._producer({"transactional.id": self.transactional_id})

    def idempotent(self) -> Producer:
        """A producer whose rows are visible at once, in order and once each for as long as it lives."""
        return self._producer({"enable.idempotence": True})

    def _producer(self, more: Mapping[str, object]) -> Producer:
        return Producer({**DEFAULTS, **self._settings, **more, "delivery.report.only.error": True, "error_cb": self._notice})

    def _notice(self, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001 - librdkafka's own errors are named so
            self.refusal = error

    def marker(self) -> Marker | None:
        """What was committed last under this transactional id. Raises KafkaException: try again.

        Read up to the high watermark, not the last stable offset: an open transaction (of another flow in this partition) would hide it.
        """
        low, end = self._ends("read_uncommitted")
        return self._newest(low, end)

    def glance(self) -> tuple[Marker | None, bool]:
        """The marker as far as it can be read at once, and whether no open transaction may hide a newer one. Raises KafkaException."""
        _, end = self._ends("read_uncommitted")
        low, stable = self._ends("read_committed")  # asked later: what it reaches is decided, and so is all before
        return self._newest(low, min(stable, end)), stable >= end

    def _ends(self, isolation: str) -> tuple[int, int]:
        where = TopicPartition(PROGRESS, self.part)
        return self._consumer({"isolation.level": isolation}).get_watermark_offsets(where, CONNECT_S)

    def _newest(self, low: int, end: int) -> Marker | None:
        consumer = self._consumer(
            {
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,
                "auto.offset.reset": "error",
            }
        )
        try:
            found, start, back = None, end, BACK
            while found is None and start > low:
                start, back = max(low, end - back), back * 16
                found = self._last(consumer, start, end)
            return found
        finally:
            consumer.close()

    def _consumer(self, more: Mapping[str, object]) -> Consumer:
        settings: dict[str, Any] = {**self._settings, **more, "group.id": self._flow_id, "enable.auto.commit": False}
        return Consumer(settings)

    def _last(self, consumer: Consumer, start: int, end: int) -> Marker | None:
        """The last marker of this transactional id in [start, end)."""
        found = None
        consumer.assign([TopicPartition(PROGRESS, self.part, start)])
        limit = time.monotonic() + self.timeout_s + 30
        while time.monotonic() < limit:
            message = consumer.poll(WAIT_S)
            if message is None:
                continue
            error = message.error()
            if error is None:
                if message.key() == self.transactional_id.encode():
                    found = Marker(*json.loads(message.value() or b""))
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - as above
                if (message.offset() or 0) >= end:
                    return found
                LOG.warning("%s[%d]: waiting for the end of another flow's open transaction", PROGRESS, self.part)
            elif not error.retriable() and error.code() not in {KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}:  # noqa: SLF001 - as above
                raise KafkaException(error)
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"{PROGRESS}[{self.part}] is not readable to {end}: a transaction hangs"))  # noqa: SLF001 - as above

    def show(self, offsets: Sequence[tuple[str, int, int]]) -> None:
        """Commit (topic, partition, next offset) to the group of the flow's name: for display only, so it never waits and may be lost.

        Not inside the transaction: send_offsets_to_transaction hung for 80 s past its timeout after a broker's restart.
        """
        self._offsets.update({(topic, partition): offset for topic, partition, offset in offsets})
        if self._offsets and time.monotonic() >= self._next_show:
            self._next_show = time.monotonic() + SHOW_S
            self._commit_offsets()

    def close(self) -> None:
        """Show the last offsets, within a second."""
        if self._offsets:
            self._commit_offsets()
        if self._shown is not None:
            self._shown.poll(WAIT_S)

    def _commit_offsets(self) -> None:
        if self._shown is None:
            self._shown = self._consumer({})
        self._shown.poll(0)
        self._shown.commit(offsets=[TopicPartition(*where, offset) for where, offset in self._offsets.items()], asynchronous=True)
        self._offsets.clear()
