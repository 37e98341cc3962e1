"""`make bench-latency`: how long an event takes to its KPI row, at half of the load that the flow can bear. In: --rate, --seconds, ...

Out: a JSON file, docs/latency.md. Measured from outside, on the clock of the wall, by a consumer that reads committed rows only:

    provisional   from the production of an event, alone in its group, to the first row of that group
    final         from the moment a window can close (its end and the lateness) to each of its final rows
"""

import argparse
import io
import json
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
from confluent_kafka import Consumer, Producer, TopicPartition

from bench import steady
from bench.clicks import PARTITIONS, TOPIC
from bench.figures import histogram, percentiles
from bench.paced import clicks
from flows.encoder import joined, texts
from flows.registry import Registry
from infra.embedded import Cluster, cluster

RUNS = (("1s", 1), ("200ms", 0))  # `update`, and the epochs it is used with: a row goes out at the end of one
EPOCH_S, EPOCHS = 1.0, 2
PROBE_S = 0.1
WARM_S = 12.0
GROUPS = 200
BAR_MS = 100.0


class Watcher(threading.Thread):
    """Reads the flow's rows as they are committed, and notes how old what they tell is."""

    def __init__(self, running: Cluster) -> None:
        super().__init__(daemon=True)
        own = {"group.id": uuid.uuid4().hex, "isolation.level": "read_committed", "fetch.wait.max.ms": 10}
        self.consumer = Consumer({"bootstrap.servers": running.bootstrap, "enable.auto.commit": False, **own})
        places = [TopicPartition(steady.OUTPUT, partition) for partition in range(PARTITIONS)]
        for place in places:
            place.offset = self.consumer.get_watermark_offsets(place, 10)[1]
        self.consumer.assign(places)
        self.registry = Registry(running.registry_url)
        self.sent_s: dict[str, float] = {}  # group -> when its event was produced, until its first row comes
        self.provisional_ms: list[float] = []
        self.final_ms: list[float] = []
        self.from_s = float("inf")
        self.over = threading.Event()
        self.failed: BaseException | None = None

    def run(self) -> None:
        """Until it is over."""
        schema: Any = None
        try:
            while not self.over.is_set():
                messages = self.consumer.consume(1_000, 0.01)
                now_s = time.time()
                if messages and schema is None:
                    schema = fastavro.parse_schema(json.loads((self.registry.latest(f"{steady.OUTPUT}-value") or (0, "null"))[1]))
                for value in (message.value() for message in messages if message.error() is None):
                    if value is not None:
                        self._note(fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None), now_s)
        except BaseException as error:  # noqa: BLE001 - told where somebody waits for it
            self.failed = error
        self.consumer.close()

    def _note(self, row: Any, now_s: float) -> None:  # noqa: ANN401 - an Avro record
        sent_s = self.sent_s.pop(row["country"], None)
        if sent_s is not None and sent_s >= self.from_s:
            self.provisional_ms.append((now_s - sent_s) * 1000)
        closes_s = row["window_end"].timestamp() + steady.LATENESS_MS / 1000
        if row["final"] and closes_s >= self.from_s:
            self.final_ms.append((now_s - closes_s) * 1000)


def measure(running: Cluster, home: Path, update: str, epoch_s: int, given: argparse.Namespace) -> dict[str, Any]:
    """One run: warm up, then probe."""
    schema_id = steady.prepare(running)
    with steady.running(running, home, update, epoch_s), steady.fed(running, schema_id, given.rate, GROUPS, WARM_S + given.seconds) as feed:
        watcher = Watcher(running)
        watcher.start()
        _probe(running, watcher, schema_id, given.seconds)
        made, _ = feed.communicate(timeout=60)
        time.sleep(EPOCHS * EPOCH_S + steady.LATENESS_MS / 1000)
        watcher.over.set()
        watcher.join(30)
    if watcher.failed is not None:
        raise watcher.failed
    if not watcher.provisional_ms or not watcher.final_ms:
        raise RuntimeError(f"no rows in {given.seconds:.0f} s: a window and its lateness take {10 + steady.LATENESS_MS / 1000:.0f}")
    return {
        "update": update,
        "epoch_s": epoch_s,
        "produced": json.loads(made),
        "unseen": len(watcher.sent_s),
        **{kind: told(values) for kind, values in (("provisional", watcher.provisional_ms), ("final", watcher.final_ms))},
    }


def _probe(running: Cluster, watcher: Watcher, schema_id: int, seconds: float) -> None:
    """Events of groups of their own, ten a second; those of the warm-up do not count."""
    producer = Producer({"bootstrap.servers": running.bootstrap, "linger.ms": 0})
    head, dice, begun_s, number = b"\0" + schema_id.to_bytes(4, "big"), np.random.default_rng(2), time.time(), 0
    watcher.from_s = begun_s + WARM_S
    while (now_s := time.time()) < watcher.from_s + seconds:
        group = f"probe-{number:06}"
        watcher.sent_s[group] = now_s
        (value,) = clicks(dice, head, np.array([int(now_s * 1000)]), joined(texts([group])))
        producer.produce(TOPIC, value, partition=number % PARTITIONS, timestamp=int(now_s * 1000))
        producer.flush(5)
        number += 1
        time.sleep(max(0.0, begun_s + number * PROBE_S - time.time()))


def told(values: Sequence[float]) -> dict[str, Any]:
    """What is told of values in ms."""
    return {"count": len(values), **percentiles(values), "bar_ms": BAR_MS, "bars": histogram(values, BAR_MS)}


def report(found: dict[str, Any]) -> str:
    """The page."""
    load = (
        f"{found['rate']:,.0f} events a second ({found['source']}), {GROUPS} groups, windows of {steady.WINDOW}, lateness "
        f"{steady.LATENESS_MS / 1000:.0f} s, exactly once, {found['cores']} cores shared with the broker, load average {found['load']:.1f}."
    )
    lines = ["# Latency", "", "Generated by `make bench-latency`; do not edit.", "", load, ""]
    lines += ["| `update` | from | to | rows | p50 ms | p99 ms | p99.9 ms |", "|---|---|---|---|---|---|---|"]
    ways = {"provisional": "an event's production | its provisional row", "final": "window close | the final row"}
    for run in found["runs"]:
        for kind, way in ways.items():
            figures = " | ".join(f"{run[kind][name]:,.0f}" for name in ("p50", "p99", "p99.9"))
            lines.append(f"| {run['update']} | {way} | {run[kind]['count']:,} | {figures} |")
    worst = max(run["final"]["p99"] for run in found["runs"])
    goal_ms = EPOCHS * EPOCH_S * 1000
    lines += [
        "",
        f"Final rows, p99: {worst:,.0f} ms after window close, goal {goal_ms:,.0f} ms: {'held' if worst <= goal_ms else 'missed'}.",
    ]
    return "\n".join([*lines, "", "![Histograms](latency.svg)", ""])


def main() -> None:
    """Find the rate, measure, write."""
    parser = argparse.ArgumentParser(prog="make bench-latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="events a second; else half of what a catch-up of --events shows")
    parser.add_argument("--events", type=int, default=2_000_000, help="of that catch-up (%(default)s)")
    parser.add_argument("--seconds", type=float, default=120, help="how long to probe, with each `update` (%(default)s)")
    parser.add_argument("--out", type=Path, default=Path(".kpi/bench/latency.json"), help="the figures (%(default)s)")
    parser.add_argument("--page", type=Path, default=Path("docs/latency.md"), help="the page (%(default)s)")
    given = parser.parse_args()
    given.rate, source = steady.load_of(given.rate, given.events, GROUPS)
    with tempfile.TemporaryDirectory(prefix="kpi-latency-", ignore_cleanup_errors=True) as home, cluster(more=steady.BROKER) as running:
        runs = [measure(running, Path(home), update, epoch_s, given) for update, epoch_s in RUNS]
    found = {"rate": given.rate, "source": source, "cores": os.cpu_count(), "load": os.getloadavg()[1], "runs": runs}
    steady.keep(found, given.out, given.page, report(found))


if __name__ == "__main__":
    main()
