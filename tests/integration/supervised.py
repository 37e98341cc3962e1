"""The flow under its supervisor, on topics that begin with a prefix: for tests on a real broker and registry."""

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from infra.embedded import Cluster
from tests.integration.running import ROOT, T0_MS, Topic, click, finals, records

KPIS = '[topics."{topic}".kpis]\nn = {{ count = "*" }}\namount = {{ sum = "amount" }}\n'


@dataclass
class Supervised:
    """`python -m flows.supervise` on one topic of two partitions. `log` is what it says."""

    cluster: Cluster
    home: Path
    name: str
    windows: str = '["1s"]'
    directory: Path | None = None
    flow_id: str = ""
    sent: int = 0
    environ: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.topic = Topic(self.cluster, f"{self.name}.clicks")
        self.recovery = self.directory or self.home / "recovery"

    @property
    def log(self) -> str:
        return (self.home / "flow.log").read_text()

    def settings(self, **more: str) -> dict[str, str]:
        """The environment of the flow, and its file."""
        defaults = f'[defaults]\nwindows = {self.windows}\nlateness = "1s"\nidle = "1h"\ntopics = {{ include = ["{self.name}.*"] }}\n'
        (self.home / "kpi.toml").write_text(defaults + KPIS.format(topic=self.topic.name))
        own = {
            "KPI_CONFIG": str(self.home / "kpi.toml"),
            "KPI_FLOW_ID": self.flow_id or self.name,
            "BYTEWAX_RECOVERY_DIRECTORY": str(self.recovery),
        }
        return {**os.environ, **self.cluster.environ, **own, **self.environ, **more}

    @contextmanager
    def running(self, *program: str, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
        """The supervisor (or another program), killed with the block if it still runs then."""
        with (self.home / "flow.log").open("a") as log:
            command = [sys.executable, "-m", *(program or ["flows.supervise"])]
            child = subprocess.Popen(command, cwd=ROOT, env=self.settings(**more), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                yield child
            finally:
                child.kill()
                child.wait()

    def run(self, *program: str, **more: str) -> int:
        """The exit code of a program that ends by itself."""
        with self.running(*program, **more) as child:
            return child.wait(120)

    def reset(self, *arguments: str, **more: str) -> int:
        """The exit code of a reset."""
        return self.run("flows.supervise", "--reset", *arguments, **more)

    def send(self, seconds: int) -> None:
        """Ten clicks a partition in each of the next seconds of event time."""
        for second in range(self.sent, self.sent + seconds):
            for partition in (0, 1):
                self.topic.send([click(T0_MS + 1_000 * second)] * 10, partition)
        self.sent += seconds

    def finals(self) -> Counter[int]:
        """Second -> how often its final row is in Kafka. Each row must be right."""
        rows = finals(self.cluster, f"kpi.{self.topic.name}.1s")
        assert all((row["n"], row["amount"]) == (20, 20) for row in rows), rows
        return Counter((int(row["window_start"].timestamp() * 1000) - T0_MS) // 1_000 for row in rows)

    def complete(self, times: int = 1) -> bool:
        """Whether each second that is behind the lateness has its final row so often; never more often."""
        counted = self.finals()
        assert max(counted.values(), default=0) <= times, f"a final row came twice: {counted}"
        return counted == dict.fromkeys(range(self.sent - 2), times)

    def keys(self) -> int:
        """How many different keys final rows have."""
        return len({record.key for record in records(self.cluster, f"kpi.{self.topic.name}.1s") if record.value["final"]})


def end(child: "subprocess.Popen[bytes]") -> int:
    """SIGTERM and the exit code."""
    child.send_signal(signal.SIGTERM)
    return child.wait(120)


def processes(child: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The flow's own processes."""
    return [found for found in psutil.Process(child.pid).children() if "flows.kpi" in found.cmdline()]
