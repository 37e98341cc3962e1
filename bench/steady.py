"""A flow under a steady load. In: a rate, groups, `update`. Out: a running flow, fed by a child process, and looks at it.

The topic keeps little: what was read is deleted soon, so that a long run does not fill the disk.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.clicks import DECLARED, PARTITIONS, SCHEMA, TOPIC, fill
from bench.measure import Bench
from flows import topics
from flows.registry import Registry
from infra.embedded import Cluster, cluster
from infra.embedded.child import free_port

BROKER = {"log.retention.check.interval.ms": 5_000, "log.segment.delete.delay.ms": 1_000}
KEPT = {"retention.ms": "-1", "retention.bytes": str(96 << 20), "segment.bytes": str(32 << 20)}  # of a partition
WINDOW, LATENESS_MS = "10s", 2_000
OUTPUT = f"kpi.{TOPIC}.{WINDOW}"
PATIENCE_S = 60.0
CONFIG = """
[defaults]
windows = ["{window}"]
lateness = "{lateness_ms}ms"
groups = 1000000
update = "{update}"
topics = {{ include = ["{topic}"] }}
"""


@dataclass(frozen=True, slots=True)
class Running:
    """The flow that runs: its process, its metrics page and its recovery directory."""

    process: "subprocess.Popen[bytes]"
    port: int
    recovery: Path

    def page(self) -> str:
        """Its metrics; empty while there are none."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""


def prepare(cluster: Cluster) -> int:
    """Make the topics with little space, the flow's too, which would keep a week; the id of the clicks' schema."""
    admin = topics.administrator({"bootstrap.servers": cluster.bootstrap})
    topics.ensure(admin, {TOPIC: (PARTITIONS, KEPT), OUTPUT: (PARTITIONS, KEPT)})
    return Registry(cluster.registry_url).register(f"{TOPIC}-value", json.dumps(SCHEMA))


def sustainable(cluster: Cluster, events: int, groups: int) -> float:
    """Events a second that the flow gets through, exactly once, when it has to catch up."""
    fill(cluster.bootstrap, cluster.registry_url, events, groups)
    with tempfile.TemporaryDirectory(prefix="kpi-rate-", ignore_cleanup_errors=True) as home:
        return Bench(cluster.environ, events, Path(home)).flow(0, WINDOW, durable=True)


def load_of(rate: float | None, events: int, groups: int) -> tuple[float, str]:
    """The rate that was asked for, or half of what a catch-up of so many events shows; and where it comes from, in words."""
    if rate is not None:
        return rate, "as asked for"
    with cluster() as broker:
        most = sustainable(broker, events, groups)
    return most / 2, f"half of the {most:,.0f} of a catch-up"


def keep(found: Mapping[str, Any], out: Path, page: Path, text: str) -> None:
    """The figures as JSON, for who draws them; the page, also on the terminal."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    page.write_text(text)
    sys.stdout.write(text)


@contextmanager
def running(cluster: Cluster, home: Path, update: str, epoch_s: int) -> Iterator[Running]:
    """The flow as `make flow` starts it (epochs of `epoch_s`; 0: one a tick of 200 ms), from the end of the topic on."""
    name = f"steady-{update}-{epoch_s}"
    recovery, port = home / name, free_port()
    recovery.mkdir()
    defaults = CONFIG.format(topic=TOPIC, window=WINDOW, lateness_ms=LATENESS_MS, update=update)
    (home / "kpi.toml").write_text(defaults + DECLARED.format(topic=TOPIC).replace("by =", 'start = "latest"\nby ='))
    subprocess.run([sys.executable, "-m", "bytewax.recovery", str(recovery), "1"], check=True, capture_output=True)
    own = {"KPI_FLOW_ID": name, "KPI_CONFIG": str(home / "kpi.toml"), "KPI_METRICS_PORT": str(port)}
    command = [sys.executable, "-m", "bytewax.run", "flows.kpi", "-r", str(recovery), "-s", str(epoch_s), "-b", "0"]
    with (home / f"{name}.log").open("w") as log:
        child = subprocess.Popen(command, env={**os.environ, **cluster.environ, **own}, stdout=log, stderr=subprocess.STDOUT)
    found = Running(child, port, recovery)
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while "kpi_epoch_seconds_count" not in found.page():
            if child.poll() is not None or time.monotonic() > deadline_s:
                raise RuntimeError(f"the flow did not start:\n{(home / f'{name}.log').read_text()[-2_000:]}")
            time.sleep(0.2)
        yield found
    finally:
        child.terminate()
        child.wait(60)


@contextmanager
def fed(cluster: Cluster, schema_id: int, rate: float, groups: int, seconds: float) -> Iterator["subprocess.Popen[str]"]:
    """A process that produces at this rate for so long; what it has made is a line of JSON of it."""
    own = ["--rate", str(rate), "--groups", str(groups), "--seconds", str(seconds), "--schema-id", str(schema_id)]
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.paced", *own], env={**os.environ, **cluster.environ}, stdout=subprocess.PIPE, text=True
    )
    try:
        yield child
    finally:
        child.terminate()
        child.wait(30)
