"""One filled topic on one broker, read whole: by the flow, and by a consumer that does nothing. In: how. Out: events a second, checked."""

import io
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, TopicPartition

from bench.clicks import CONFIG, PARTITIONS, TOPIC
from flows.registry import Registry
from flows.windows import parse_window
from infra.embedded.child import free_port

PATIENCE_S = 300.0
STILL_S = 3.0


class Bench:
    """One filled topic on one broker; every measurement reads all of it."""

    def __init__(self, environ: Mapping[str, str], events: int, home: Path) -> None:
        self.environ, self.events, self.home = dict(environ), events, home
        self.total = events + PARTITIONS
        self.windows: list[str] = []  # of the flow that runs: as topics spell them
        (home / "kpi.toml").write_text(CONFIG)

    def bare(self, _: int) -> float:
        """confluent-kafka's consumer, settings as fast as we know them, doing nothing with the messages."""
        consumer = self._consumer({"queued.max.messages.kbytes": 65_536, "queued.min.messages": 200_000, "fetch.queue.backoff.ms": 5})
        consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
        count = len(consumer.consume(1, 30))
        first, started = count, time.perf_counter()
        while count < self.total:
            count += len(consumer.consume(1_000, 1))
        rate = (count - first) / (time.perf_counter() - started)
        consumer.close()
        return rate

    def flow(self, number: int, windows: str, *, durable: bool) -> float:
        """`python -m bytewax.run flows.kpi`, from its first counted event to its last final row in Kafka."""
        self.windows = [parse_window(spelled).label for spelled in windows.split(",")]
        name = f"bench{number}{'durable' if durable else ''}-{self.windows[0]}-{len(self.windows)}"
        recovery = self.home / name
        arguments: list[str] = []
        if durable:
            recovery.mkdir()
            subprocess.run([sys.executable, "-m", "bytewax.recovery", str(recovery), "1"], check=True, capture_output=True)
            arguments = ["-r", str(recovery), "-s", "1", "-b", "0"]
        port = free_port()
        environ = {
            **os.environ,
            **self.environ,
            "KPI_FLOW_ID": name,
            "KPI_CONFIG": str(self.home / "kpi.toml"),
            "KPI_METRICS_PORT": str(port),
            "KPI_WINDOWS": windows,
        }
        ends_before = self._ends()
        with (self.home / f"{name}.log").open("w") as log:
            command = [sys.executable, "-m", "bytewax.run", "flows.kpi", *arguments]
            child = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT)
        try:
            first, started = self._wait(child, port, lambda count: count > 0)
            self._wait(child, port, lambda count: count >= self.total)
            rate = (self.total - first) / (self._settled(child, ends_before) - started)
            peak_mb = _peak_mb(child.pid)
        finally:
            child.terminate()
            child.wait(30)
        self._check(ends_before)
        sys.stdout.write(f"  {name}: {rate / 1e6:.2f} M events/s, peak memory {peak_mb} MB\n")
        return rate

    def _wait(self, child: "subprocess.Popen[bytes]", port: int, done: Callable[[int], bool]) -> tuple[int, float]:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline and child.poll() is None:
            if done(count := _counted(port)):
                return count, time.perf_counter()
            time.sleep(0.02)
        raise RuntimeError(f"the flow did not read everything; see {self.home}")

    def _settled(self, child: "subprocess.Popen[bytes]", before: Mapping[tuple[str, int], int]) -> float:
        """When the last row went out: the ends of the KPI topics have not moved for three seconds since."""
        ends, moved = before, time.perf_counter()
        while time.perf_counter() - moved < STILL_S or ends == before:
            if child.poll() is not None:
                raise RuntimeError(f"the flow ended; see {self.home}")
            now = self._ends()
            if now != ends:
                ends, moved = now, time.perf_counter()
            time.sleep(0.02)
        return moved

    def _consumer(self, more: Mapping[str, object]) -> Consumer:
        return Consumer(
            {"bootstrap.servers": self.environ["KAFKA_BOOTSTRAP_SERVERS"], "group.id": "bench", "enable.auto.commit": False, **more}
        )

    def _ends(self) -> dict[tuple[str, int], int]:
        if not hasattr(self, "looker"):
            self.looker = self._consumer({})
        there = self.looker.list_topics(timeout=10).topics
        topics = [name for window in self.windows if (name := f"kpi.{TOPIC}.{window}") in there]
        return {
            (name, p): self.looker.get_watermark_offsets(TopicPartition(name, p), 10)[1] for name in topics for p in there[name].partitions
        }

    def _check(self, before: Mapping[tuple[str, int], int]) -> None:
        """Every event is in exactly one final row of every tumbling window size."""
        registry = Registry(self.environ["SCHEMA_REGISTRY_URL"])
        ends = self._ends()
        for window in [label for label in self.windows if "-" not in label]:
            name = f"kpi.{TOPIC}.{window}"
            latest = registry.latest(f"{name}-value")
            schema: Any = fastavro.parse_schema(json.loads(latest[1] if latest else "null"))
            counted = 0
            for topic, partition in [at for at in ends if at[0] == name]:
                low, high = before.get((topic, partition), 0), ends[topic, partition]
                for value in self._values(topic, partition, low, high):
                    row: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
                    counted += row["events"] if row["final"] else 0
            if counted != self.events:
                raise RuntimeError(f"{name}: final rows count {counted} events, want {self.events}")

    def _values(self, topic: str, partition: int, low: int, high: int) -> list[bytes]:
        consumer = self._consumer({"isolation.level": "read_committed", "enable.partition.eof": True})
        consumer.assign([TopicPartition(topic, partition, low)])
        values: list[bytes] = []
        while True:
            for message in consumer.consume(1_000, 0.5):
                if message.error():
                    consumer.close()
                    return values
                if (message.offset() or 0) < high and (value := message.value()) is not None:
                    values.append(value)


def _counted(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            text = page.read().decode()
    except OSError:
        return 0
    return int(
        sum(float(value) for value in re.findall(rf'^kpi_messages_total{{[^}}]*topic="{re.escape(TOPIC)}"}} (\S+)$', text, re.MULTILINE))
    )


def _peak_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) // 1024
