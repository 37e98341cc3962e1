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
from typing import Self

import psutil

from infra.embedded import Cluster
from infra.embedded.child import free_port, is_free
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
        child = self.started(*program, **more)
        try:
            yield child
        finally:
            child.kill()
            child.wait()

    @contextmanager
    def scaled_out(self, count: int) -> Iterator["Members"]:
        """So many supervisors of one process each, as on machines of their own; killed with the block."""
        with Members(self, addresses(count)) as members:
            yield members

    def started(self, *program: str, **more: str) -> "subprocess.Popen[bytes]":
        """The process, which the caller ends."""
        with (self.home / "flow.log").open("a") as log:
            command = [sys.executable, "-m", *(program or ["flows.supervise"])]
            return subprocess.Popen(command, cwd=ROOT, env=self.settings(**more), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

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


class Members:
    """The supervisors of a flow on several machines, by the number of their process."""

    def __init__(self, flow: Supervised, at: list[str]) -> None:
        self.flow, self.at = flow, at
        self.children = [self._started(number) for number in range(len(at))]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self.children:
            child.kill()
            child.wait()

    def kill(self, number: int) -> None:
        """A supervisor, with all it runs, as when its machine is switched off."""
        self.children[number].kill()
        self.children[number].wait()

    def start(self, number: int) -> None:
        """It is there again."""
        self.children[number] = self._started(number)

    def workers(self) -> list[psutil.Process]:
        """The processes of the flow, of all machines; none while one of them has none."""
        found = [processes(child) if child.poll() is None else [] for child in self.children]
        return [process for each in found for process in each] if all(found) else []

    def end(self) -> list[int]:
        """SIGTERM to all, and their exit codes."""
        for child in self.children:
            child.send_signal(signal.SIGTERM)
        return [child.wait(120) for child in self.children]

    def _started(self, number: int) -> "subprocess.Popen[bytes]":
        return self.flow.started(KPI_PROCESS_ID=str(number), KPI_ADDRESSES=";".join(self.at))


def addresses(count: int) -> list[str]:
    """Of so many processes, at free ports of this machine; the one behind the first is free as well."""
    ports: list[int] = []
    while len(ports) < count:
        port = free_port()
        if is_free(port + 1) and not {port, port + 1, port - 1} & set(ports):
            ports.append(port)
    return [f"127.0.0.1:{port}" for port in ports]


def end(child: "subprocess.Popen[bytes]") -> int:
    """SIGTERM and the exit code."""
    child.send_signal(signal.SIGTERM)
    return child.wait(120)


def processes(child: "subprocess.Popen[bytes]") -> list[psutil.Process]:
    """The flow's own processes."""
    return [found for found in psutil.Process(child.pid).children() if _is_of_the_flow(found)]


def _is_of_the_flow(process: psutil.Process) -> bool:
    try:
        return "flows.kpi" in process.cmdline()
    except psutil.Error:  # it has just ended
        return False
