"""The flow as people start it, in any shape, to be killed. In: a topic and a directory. Out: processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from infra.embedded import Cluster
from infra.embedded.child import Child, free_port
from tests.chaos.feeder import now_ms

ROOT = Path(__file__).parents[2]
PARTS = 4  # of the recovery directory: more than workers, so that their number may change
CONFIG = """
[defaults]
windows  = ["1s", "5s"]
lateness = "1s"
idle     = "1h"
shards   = 4
topics   = {{ include = ["{topic}"] }}

[topics."{topic}"]
by = [[], ["shop"]]

[topics."{topic}".kpis]
n      = {{ count = "*" }}
amount = {{ sum = "amount" }}
least  = {{ min = "amount" }}
takings = {{ sum = "price" }}
dearest = {{ max = "price" }}
"""


class Shape(NamedTuple):
    """How many processes, and how many worker threads in each."""

    processes: int = 1
    threads: int = 1

    def __str__(self) -> str:
        """As the table shows it: processes x threads."""
        return f"{self.processes}x{self.threads}"


SHAPES = (Shape(1, 1), Shape(1, 2), Shape(2, 1))


class Life:
    """One start of the flow: its processes. `started_s` is monotonic, `started_ms` the wall clock."""

    def __init__(self, shape: Shape, children: list[Child], started_ms: int) -> None:
        self.shape, self.children, self.started_ms, self.started_s = shape, children, started_ms, time.monotonic()

    @property
    def exit_codes(self) -> list[int | None]:
        """Of each process; None while it runs, negative the signal that ended it."""
        return [child.exit_code for child in self.children]

    @property
    def alive(self) -> bool:
        """Whether every process runs."""
        return all(code is None for code in self.exit_codes)

    def kill(self) -> None:
        """SIGKILL to every process, all at once as far as one can."""
        for child in self.children:
            if child.exit_code is None:
                os.kill(child.pid, signal.SIGKILL)
        for child in self.children:
            child.kill()

    def kill_one(self, number: int) -> None:
        """SIGKILL to one process; what the others then do is theirs."""
        self.children[number].kill()

    def signal(self, number: int) -> None:
        """A signal to every process: SIGSTOP, SIGCONT."""
        for child in self.children:
            os.kill(child.pid, number)

    def stop(self, grace_s: float = 30) -> list[int | None]:
        """SIGTERM to all, and their exit codes: 0 with a last snapshot. What is left after `grace_s` is killed."""
        for child in self.children:
            child.ask_to_stop()
        end = time.monotonic() + grace_s
        while None in self.exit_codes and time.monotonic() < end:
            time.sleep(0.02)
        codes = self.exit_codes
        self.kill()
        return codes


@dataclass
class Flow:
    """`python -m bytewax.run flows.kpi -r ...` on one topic. `module` may be a wrapper with a seeded fault."""

    cluster: Cluster
    home: Path
    topic: str
    flow_id: str
    environ: Mapping[str, str] = field(default_factory=dict)
    module: str = "flows.kpi"
    config: str = CONFIG
    recovery: Path = field(init=False)
    lives: list[Life] = field(default_factory=list)

    def __post_init__(self) -> None:
        """The recovery directory is made here, with several parts."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.recovery = self.home / "recovery"
        (self.home / "kpi.toml").write_text(self.config.format(topic=self.topic))
        if not self.recovery.exists():
            self.recovery.mkdir()
            subprocess.run([sys.executable, "-m", "bytewax.recovery", str(self.recovery), str(PARTS)], check=True, cwd=ROOT)

    @property
    def settings(self) -> dict[str, str]:
        """The environment of the flow, and of what audits it."""
        own = {"KPI_CONFIG": str(self.home / "kpi.toml"), "KPI_FLOW_ID": self.flow_id}
        return {**self.cluster.environ, **own, **self.environ}

    @property
    def log(self) -> str:
        """What every life of it said."""
        return "".join(file.read_text(errors="replace") for file in sorted(self.home.glob("flow-*.log")))

    def start(self, shape: Shape = SHAPES[0]) -> Life:
        """Start all processes and return at once."""
        addresses = ";".join(f"127.0.0.1:{free_port()}" for _ in range(shape.processes))
        children, started_ms = [], now_ms()
        for process in range(shape.processes):
            scale = ["-i", str(process), "-a", addresses] if shape.processes > 1 else ["-w", str(shape.threads)]
            command = ["-m", "bytewax.run", self.module, "-r", str(self.recovery), *epochs(shape), *scale]
            log = self.home / f"flow-{process}.log"
            children.append(Child(f"{self.flow_id} {shape}", [sys.executable, *command], log, self.settings))
        self.lives.append(Life(shape, children, started_ms))
        return self.lives[-1]

    def twin(self, name: str) -> "Flow":
        """Another flow of the same name on a copy of the recovery directory. The first must stand still (SIGSTOP) while it is copied."""
        home = self.home.with_name(name)
        shutil.copytree(self.recovery, home / "recovery", ignore=shutil.ignore_patterns("*.lock"))
        return Flow(self.cluster, home, self.topic, self.flow_id, self.environ, self.module, self.config)

    def end(self) -> None:
        """Kill whatever still runs."""
        for life in self.lives:
            life.kill()


def epochs(shape: Shape) -> list[str]:
    """The epoch settings of bytewax.run for so many workers."""
    return ["-s", "1", "-b", "0"] if shape.processes * shape.threads == 1 else ["-s", "0", "-b", "0"]
