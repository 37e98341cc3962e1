"""A topic with everything in it, run through the literal flow: what the audit's tests look at."""

import io
import json
import os
import pty
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.cimpl import NewTopic

from flows.registry import Registry
from infra.embedded import Cluster
from tests.integration.running import ROOT, T0_MS, Flow, Topic, asked, finals, until

PARTITIONS = 3
SALE = {
    "type": "record",
    "name": "Sale",
    "fields": [
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "shop", "type": ["null", "string"]},
        {"name": "paid", "type": "boolean"},
        {"name": "amount", "type": ["null", "long"]},
        {"name": "weight", "type": "double"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
    ],
}
CONFIG = """[topics."{topic}"]
by = [[], ["shop"], ["shop", "paid"]]
where = "weight <> 77.0"
max_future = "5m"

[topics."{topic}".kpis]
n = {{ count = "*" }}
pace = {{ rate = "*" }}
amounts = {{ sum = "amount" }}
smallest = {{ min = "amount" }}
heaviest = {{ max = "weight" }}
weight = {{ mean = "weight" }}
spread = {{ deviation = "weight" }}
revenue = {{ sum = "price" }}
cheapest = {{ min = "price" }}
each = {{ mean = "price / 3" }}
paid_share = {{ share = "paid" }}
last_shop = {{ max = "shop" }}
"""

KINDS = """[topics."{topic}"]
windows = ["1s", "6s/2s", "12s^3s", "gap 200ms"]
by = [[], ["UPPER(shop) AS store"]]
where = "weight <> 77.0"
max_future = "5m"

[topics."{topic}".kpis]
n = {{ count = "*" }}
revenue = {{ sum = "price" }}
each = {{ ratio = ["revenue", "n"] }}
weights = {{ quantile = "weight", q = [0.05, 0.5, 0.99] }}
prices = {{ distinct = "price" }}
shops = {{ top = "shop", k = 2 }}
amounts = {{ histogram = "amount", edges = [0, 50] }}
paid_or_not = {{ counts = "paid" }}
begin = {{ first = "price" }}
end = {{ last = "shop" }}
meter = {{ increase = "amount" }}
"""


@dataclass
class Audit:
    """A flow on a topic of its own, and the commands that look at it."""

    cluster: Cluster
    topic: Topic
    flow: Flow
    schemas: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, cluster: Cluster, home: Path, prefix: str, partitions: int = PARTITIONS, config: str = CONFIG) -> "Audit":
        topic = Topic(cluster, f"{prefix}sales", partitions, SALE)
        return cls(cluster, topic, Flow(cluster, home, prefix, config.format(topic=topic.name)))

    def run(self, module: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """`python -m audit.…` in the flow's environment."""
        environ = {**os.environ, **self.cluster.environ, **self.own}
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=100, check=False)

    def ask(self, module: str, answer: signal.Signals) -> tuple[int, str]:
        """The same in a terminal, with a signal at its prompt: exit code, and what it says."""
        ours, theirs = pty.openpty()
        environ = {**os.environ, **self.cluster.environ, **self.own}
        command = [sys.executable, "-m", module, self.topic.name]
        try:
            with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
                assert child.stdout is not None
                said = b""
                while not said.endswith(b"[y/N] "):
                    said += (octet := child.stdout.read(1))
                    assert octet, said
                child.send_signal(answer)
                try:
                    rest, _ = child.communicate(timeout=20)
                except subprocess.TimeoutExpired:
                    child.kill()
                    raise
                return child.returncode, (said + rest).decode()
        finally:
            os.close(ours)
            os.close(theirs)

    @property
    def own(self) -> dict[str, str]:
        """What the commands need of the flow's environment."""
        home = self.flow.home
        return {"KPI_CONFIG": str(home / "kpi.toml"), "KPI_FLOW_ID": self.flow.prefix, "BYTEWAX_RECOVERY_DIRECTORY": str(home / "recovery")}

    def verify(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.run("audit.verify", self.topic.name, *arguments)

    def fill(self, seconds: Sequence[int], a_second: int = 40, seed: int = 1) -> None:
        """Good, disordered, late, filtered, broken and impossible messages of these seconds, on all partitions."""
        rnd = random.Random(seed)
        for second in seconds:
            for partition in range(PARTITIONS):
                self.topic.send([self.message(rnd, T0_MS + 1000 * second) for _ in range(a_second)], partition, T0_MS + 1000 * second)

    def close(self, second: int) -> None:
        """A message in each partition that closes what ends before."""
        for partition in range(PARTITIONS):
            self.topic.send([sale(T0_MS + 1000 * second)], partition, T0_MS + 1000 * second)

    def message(self, rnd: random.Random, now_ms: int) -> dict[str, Any] | bytes | None:
        kind = rnd.random()
        time_ms = now_ms + rnd.randrange(1000)
        shop = rnd.choice([None, "a", "b", "größer", ""])
        weight = rnd.choice([rnd.uniform(-5, 5), 1e9 + rnd.random(), 77.0, float("nan"), float("inf")])
        event = sale(time_ms, shop, rnd.choice([None, rnd.randrange(-9, 99)]), weight, Decimal(rnd.randrange(-(10**17), 10**17)).scaleb(-2))
        event["paid"] = rnd.random() < 0.5
        if kind < 0.1:
            event["event_time"] -= rnd.randrange(900_000)  # disorder within the lateness of 1 s
        elif kind < 0.2:
            event["event_time"] -= rnd.randrange(1_000_000, 9_000_000)  # mostly late
        elif kind < 0.22:
            event["event_time"] += 3_600_000_000
        elif kind < 0.23:
            event["event_time"] = -1
        elif kind < 0.3:
            good = self.topic.encoded(event)
            return rnd.choice([None, b"", b"\0\0", b"{}{}{}", b"\0\xff\xff\xff\xff123", good[:-1], good + b"\0", good[:5] + b"\xff" * 11])
        return event

    def until_closed(self, second: int, child: "subprocess.Popen[bytes]") -> None:
        """Until the windows of that second and of 5 s have their final rows."""
        wanted_s = T0_MS // 1000 + second

        def closed(window: str) -> bool:
            return any(row["window_end"].timestamp() > wanted_s for row in finals(self.cluster, f"kpi.{self.topic.name}.{window}"))

        until(lambda: closed("1s") and closed("5s"), 60, child)

    def kept(self, topic: str) -> list[Any]:
        """Every committed message of a topic, as the client gives it."""
        settings = {
            "bootstrap.servers": self.cluster.bootstrap,
            "group.id": "audits",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
        consumer = Consumer({**settings, "isolation.level": "read_committed"})
        left = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        messages = []
        while left:
            message = consumer.poll(10)
            assert message is not None
            if message.error():
                left.discard(message.partition() or 0)
            else:
                messages.append(message)
        consumer.close()
        return messages

    def row(self, message: Any) -> dict[str, Any]:
        """What a record of a KPI topic says."""
        row: Any = fastavro.schemaless_reader(io.BytesIO(message.value()[5:]), self._schema(f"{message.topic()}-value"), None)
        return dict(row)

    def like(self, message: Any, **changes: Any) -> "Record":
        """A record of a KPI topic with other values in some fields."""
        row = {**self.row(message), **changes}
        bodies = []
        for end, head in (("key", message.key()), ("value", message.value())):
            schema, body = self._schema(f"{message.topic()}-{end}"), io.BytesIO()
            fastavro.schemaless_writer(body, schema, {field["name"]: row[field["name"]] for field in schema["fields"]})
            bodies.append(head[:5] + body.getvalue())
        return Record(bodies[0], bodies[1], message.partition(), message.headers(), message.timestamp()[1])

    def _schema(self, subject: str) -> Any:
        if subject not in self.schemas:
            found = asked(lambda: Registry(self.cluster.registry_url).latest(subject))
            assert found is not None
            self.schemas[subject] = fastavro.parse_schema(json.loads(found[1]))
        return self.schemas[subject]

    def republish(self, topic: str, records: Sequence["Record"]) -> None:
        """The topic anew, with these records: what another flow would have published."""
        admin = self.topic.admin
        partitions = len(admin.list_topics(topic, timeout=10).topics[topic].partitions)
        admin.delete_topics([topic])[topic].result(10)
        until(lambda: topic not in admin.list_topics(timeout=10).topics, 30)
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(10)
        until(lambda: len(admin.list_topics(timeout=10).topics.get(topic, SimpleNamespace(partitions=())).partitions) == partitions, 30)
        producer = Producer({"bootstrap.servers": self.cluster.bootstrap, "log_level": 0})
        for record in records:
            producer.produce(topic, record.value, record.key, record.partition, headers=record.headers, timestamp=record.stamp_ms)
        assert producer.flush(30) == 0


class Record(NamedTuple):
    """A record to be written again."""

    key: bytes | None
    value: bytes | None
    partition: int
    headers: Any
    stamp_ms: int

    @classmethod
    def of(cls, message: Any) -> "Record":
        return cls(message.key(), message.value(), message.partition(), message.headers(), message.timestamp()[1])


def sale(
    time_ms: int, shop: str | None = "a", amount: int | None = 1, weight: float = 1.5, price: Decimal = Decimal("9.99")
) -> dict[str, Any]:
    return {"event_time": time_ms * 1000, "shop": shop, "paid": True, "amount": amount, "weight": weight, "price": price}


def ran(cluster: Cluster, home: Path, prefix: str) -> Audit:
    """A run of twelve seconds and its end, the flow ended."""
    audit = Audit.of(cluster, home, prefix)
    with audit.flow.running() as child:
        audit.fill(range(12))
        audit.close(20)
        audit.until_closed(11, child)
        assert audit.flow.end(child) == 0
    return audit


def again(audit: Audit) -> None:
    """The flow from the beginning of its topics, until it has published all windows once more."""

    def published() -> list[int]:
        topics = (f"kpi.{audit.topic.name}.{window}" for window in ("1s", "5s"))
        return [sum(row["closed_by"] != "repair" for row in finals(audit.cluster, topic)) for topic in topics]

    before = published()
    with audit.flow.running() as child:
        until(lambda: all(now >= 2 * then for now, then in zip(published(), before, strict=True)), 60, child)
        assert audit.flow.end(child) == 0
