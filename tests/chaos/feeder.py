"""Events for a flow that is being killed, in real time. In: a cluster and a seed. Out: a topic that grows, and what stands in it where.

What is produced follows from the seed, but for the clock: event time is now, less some disorder, and some events come too late. Every
message is remembered with the partition and the offset of its delivery report.
"""

import io
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import fastavro
import requests
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.embedded import Cluster

SALE = {
    "type": "record",
    "name": "Sale",
    "fields": [
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "shop", "type": ["null", "string"]},
        {"name": "amount", "type": "long"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
    ],
}
SHOPS = ("north", "south", "west", None)
LATENESS_MS = 1_000
DISORDER_MS = 700  # less than the lateness: such an event is on time
TOO_LATE_MS = (2_500, 9_000)
END_AHEAD_MS = 30_000  # the end markers close every window before them; a partition 60 slices ahead of another would be paused
TICK_S = 0.02
MALFORMED = 4  # ways in which a message can be malformed: see `broken`


Place = tuple[int, int]  # partition, offset
Value = bytes | None


def now_ms() -> int:
    """The wall clock, in ms."""
    return time.time_ns() // 1_000_000


def register(cluster: Cluster, subject: str, schema: Mapping[str, Any]) -> int:
    """The id of a schema in the registry, by plain HTTP: nothing of the flow's."""
    answer = requests.post(f"{cluster.registry_url}/subjects/{subject}/versions", json={"schema": json.dumps(schema)}, timeout=30)
    answer.raise_for_status()
    return int(answer.json()["id"])


def create(cluster: Cluster, name: str, partitions: int, **settings: str) -> None:
    """A topic with the cluster's own replication."""
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(name, partitions, config=settings)], operation_timeout=20)[name].result(30)


@dataclass(frozen=True, slots=True)
class Diet:
    """What a feeder writes: messages a second, and the shares of late and of bad ones (0.5: one bad message to a good one)."""

    rate: int = 150
    late: float = 0.03
    bad: float = 0.08


PLAIN = Diet()


@dataclass
class Feeder:
    """Writes into `topic` until `finish`. `partitions` may grow while it runs."""

    cluster: Cluster
    topic: str
    seed: int
    partitions: int = 3
    diet: Diet = PLAIN
    sent: dict[Place, Value] = field(default_factory=dict)  # (partition, offset) -> value, as delivery reports say
    somewhere: Counter[tuple[int, Value]] = field(default_factory=Counter)  # (partition, value) of reports without an offset
    failed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """The topic and its schema are made here; nothing is written before `start`."""
        self.schema_id = register(self.cluster, f"{self.topic}-value", SALE)
        create(self.cluster, self.topic, self.partitions)
        self._parsed = fastavro.parse_schema(SALE)
        self._dice = random.Random(self.seed)
        self._running, self._paused = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"feeder of {self.topic}", daemon=True)
        self._producer = Producer(
            {
                "bootstrap.servers": self.cluster.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "delivery.timeout.ms": 600_000,  # longer than any outage of a scenario
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 500,
                "topic.metadata.refresh.interval.ms": 1_000,
                "log_level": 0,
            }
        )

    def start(self) -> "Feeder":
        """Begin to write, in a thread."""
        self._running.set()
        self._thread.start()
        return self

    def pause(self) -> None:
        """Write nothing until `go_on`."""
        self._paused.set()

    def go_on(self) -> None:
        """Write again after `pause`."""
        self._paused.clear()

    def finish(self) -> None:
        """Stop, and end every partition with an event far enough ahead to close all windows before it. Raises if any was not delivered."""
        self.stop()
        for partition in range(self.partitions):
            self._produce(partition, self.encoded(now_ms() + END_AHEAD_MS))
        if self._producer.flush(120) or self.failed:
            raise RuntimeError(f"{self.topic}: {len(self._producer)} messages were not delivered: {self.failed[:3]}")

    def stop(self) -> None:
        """Stop writing, without an end."""
        self._running.clear()
        if self._thread.ident:
            self._thread.join()

    def encoded(self, time_ms: int) -> bytes:
        """The next event, of that time, in Confluent's wire format."""
        dice, body = self._dice, io.BytesIO()
        event = {
            "event_time": time_ms,
            "shop": dice.choice(SHOPS),
            "amount": dice.randrange(-50, 1_000),
            "price": Decimal(dice.randrange(-(10**6), 10**9)).scaleb(-2),
        }
        fastavro.schemaless_writer(body, self._parsed, event)
        return b"\0" + self.schema_id.to_bytes(4, "big") + body.getvalue()

    def broken(self, good: bytes) -> bytes | None:
        """One of the ways in which a message is no event: tombstone, short, magic, schema, malformed."""
        ways: list[Callable[[], bytes | None]] = [
            lambda: None,
            lambda: good[: self._dice.randrange(5)],
            lambda: b"\x01" + good[1:],
            lambda: b"\0\x7f\xff\xff\xff" + good[5:],
            *[lambda: good[:-1], lambda: good + b"\0", lambda: good[:7], lambda: good + good][:MALFORMED],
        ]
        return self._dice.choice(ways)()

    def _run(self) -> None:
        due = time.monotonic()
        while self._running.is_set():
            time.sleep(TICK_S)
            now = time.monotonic()
            if self._paused.is_set():
                due = now
                continue
            while due < now:
                due += 1 / self.diet.rate
                self._one()
            self._producer.poll(0)

    def _one(self) -> None:
        kind = self._dice.random()
        behind = self._dice.randrange(*TOO_LATE_MS) if kind < self.diet.late else self._dice.randrange(DISORDER_MS)
        value: bytes | None = self.encoded(now_ms() - behind)
        if value is not None and kind > 1 - self.diet.bad:
            value = self.broken(value)
        self._produce(self._dice.randrange(self.partitions), value)

    def _produce(self, partition: int, value: bytes | None) -> None:
        self._producer.produce(self.topic, value, b"key", partition, self._report)

    def _report(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed.append(error.str())
        elif (offset := message.offset()) is None:  # its leader died, it was sent again, and the next leader had it already
            self.somewhere[message.partition() or 0, message.value()] += 1
        else:
            self.sent[message.partition() or 0, offset] = message.value()


def misplaced(sent: Mapping[Place, Value], somewhere: Counter[tuple[int, Value]], stands: Mapping[Place, Value]) -> tuple[str, int]:
    """What is amiss with the records of a topic, if anything is; and how many of them stand there once more than they were written. Pure.

    Each must stand there, and where its report said. Once more is no fault of a flow: a leader that died let its idempotent producer do so.

    >>> misplaced({(0, 0): b"a"}, Counter({(0, b"b"): 1}), {(0, 0): b"a", (0, 1): b"b", (0, 2): b"a"})
    ('', 1)
    """
    moved = sum(at not in stands or stands[at] != value for at, value in sent.items())
    others = Counter((at[0], value) for at, value in stands.items() if at not in sent)
    missing, more = somewhere - others, others - somewhere
    unknown = more.keys() - somewhere.keys() - {(at[0], value) for at, value in sent.items()}
    if not (moved or missing or unknown):
        return "", more.total()
    return (
        f"{len(sent)} records were reported with their offset, {moved} of them do not stand there; "
        f"{somewhere.total()} without, {missing.total()} of them do not; {len(unknown)} that nobody wrote do"
    ), more.total()
