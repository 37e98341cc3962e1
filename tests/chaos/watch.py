"""When rows appear, as a read_committed reader sees it. In: KPI topics while they grow. Out: moments."""

import threading
import time
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from infra.embedded import Cluster

LOOK_S = 0.5


class Seen(NamedTuple):
    """A row: when it was seen (monotonic), and when its producer made it (wall clock)."""

    seen_s: float
    made_ms: int
    final: bool


class Watch:
    """Follows topics in a thread; begin it before the flow. A row's flag `final` is found at the end of its Avro bytes."""

    def __init__(self, cluster: Cluster, topics: list[str]) -> None:
        self._topics, self._ends = topics, threading.Event()
        self.seen: list[Seen] = []
        self._consumer = Consumer(
            {
                "bootstrap.servers": cluster.bootstrap,
                "group.id": "chaos-watch",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "fetch.wait.max.ms": 50,
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 500,
                "topic.metadata.refresh.interval.ms": 1_000,
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def first_after(self, made_ms: int, seen_s: float = 0.0) -> float | None:
        """When the first final row was seen (monotonic) that was made at or after a moment; None so far."""
        found = [row.seen_s for row in self.seen[-20_000:] if row.final and row.made_ms >= made_ms and row.seen_s >= seen_s]
        return min(found, default=None)

    def end(self) -> None:
        """Stop following."""
        self._ends.set()
        self._thread.join()
        self._consumer.close()

    def _run(self) -> None:
        assigned: set[tuple[str, int]] = set()
        looked = float("-inf")
        while not self._ends.is_set():
            if len({topic for topic, _ in assigned}) < len(self._topics) and time.monotonic() - looked > LOOK_S:
                assigned, looked = self._look(assigned), time.monotonic()
            for message in self._consumer.consume(1_000, 0.05):
                if message.error() is None:
                    value = message.value() or b""
                    self.seen.append(Seen(time.monotonic(), message.timestamp()[1], is_final(value)))

    def _look(self, assigned: set[tuple[str, int]]) -> set[tuple[str, int]]:
        try:
            topics = self._consumer.list_topics(timeout=2).topics
        except KafkaException:
            return assigned
        found = {(name, p) for name in self._topics if name in topics for p in topics[name].partitions}
        self._consumer.incremental_assign([TopicPartition(*at, OFFSET_BEGINNING) for at in sorted(found - assigned)])
        return assigned | found


def is_final(value: bytes) -> bool:
    """Whether a row is final. Its value ends with `final` and `closed_by`: 0x01, 0x02, 0x08, "data"; or 0x00, 0x00.

    >>> is_final(bytes([1, 2, 8]) + b"data"), is_final(bytes([0, 0]))
    (True, False)
    """
    return value.endswith((b"\x01\x02\x08data", b"\x01\x02\x08idle"))
