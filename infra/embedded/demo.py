"""`make demo`: real Kafka and registry, simulated events, the KPI flow and the dashboard. In: the environment. Out: live charts.

- `DASHBOARD_PORT` (5006): the dashboard's port on this machine
- `DEMO_SECONDS` (for ever): ends by itself this long after the first charts
- everything that the flow (`KPI_*`) and the simulation (`SIM_*`) read
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.embedded.child import Child, check_interrupt, interrupt, is_free
from infra.embedded.cluster import Cluster, cluster, say_to_stderr
from infra.embedded.errors import PartError

ROOT = Path(__file__).parents[2]
WINDOWS = "5s,10s,1m"  # short, so that a chart shows points after seconds
NOT_ROWS = {"kpi.late", "kpi.dead-letters", "kpi.progress"}
POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says."""

    port: int
    seconds: float


def settings(environ: Mapping[str, str]) -> Settings:
    """The settings in the environment. Raises PartError, which names the one that is wrong."""
    port, seconds = environ.get("DASHBOARD_PORT") or "5006", environ.get("DEMO_SECONDS") or "inf"
    if not (port.isdecimal() and 0 < int(port) < 2**16):
        raise PartError(f"DASHBOARD_PORT: got {port}, want a port from 1 to 65535")
    try:
        return Settings(int(port), float(seconds))
    except ValueError:
        raise PartError(f"DEMO_SECONDS: got {seconds}, want a number of seconds") from None


class Demo:
    """The three programs on a running cluster. Each has a log; the first that ends, ends the demo."""

    def __init__(self, on: Cluster, wanted: Settings, scratch: Path) -> None:
        self._cluster = on
        self._port = wanted.port
        self._recovery = scratch
        self.logs = ROOT / ".demo" / str(wanted.port)
        self._programs: list[Child] = []

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://localhost:{self._port}/dashboard"

    def start(self) -> None:
        """Start all, in the order in which they need each other; returns when the dashboard answers and the first KPIs are written."""
        shutil.rmtree(self.logs, ignore_errors=True)
        client = Consumer({"bootstrap.servers": self._cluster.bootstrap, "group.id": "demo", "log_level": 0})  # only looks; joins nothing
        dashboard = self._run("dashboard", "serve")
        self._run("simulate", "bytewax.run", "flows.simulate")
        self._until(lambda: any(not name.startswith(("_", "kpi.")) for name in topics(client)), "no topic was created", 60)
        subprocess.run([sys.executable, "-m", "bytewax.recovery", self._recovery, "1"], check=True)
        self._run("kpi", "bytewax.run", "flows.kpi", "-r", str(self._recovery), "-s", "1", "-b", "0")
        self._until(lambda: dashboard.listens(self._port), "the dashboard does not answer", 60)
        self._until(lambda: has_rows(client), "no KPI was written", 120)

    def follow(self, seconds: float) -> None:
        """Watch for that long. Raises PartError when any process ends."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._check()
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End the programs as a deployment would (SIGTERM), side by side."""
        for program in self._programs:
            program.ask_to_stop()
        for program in self._programs:
            running = program.exit_code is None
            program.stop()
            if running and program.exit_code != 0:
                say_to_stderr(program.obituary())

    def _run(self, name: str, *module: str) -> Child:
        environ = {
            "KPI_WINDOWS": WINDOWS,
            **os.environ,
            **self._cluster.environ,
            "DASHBOARD_PORT": str(self._port),
            "PYTHONUNBUFFERED": "1",
        }
        program = Child(name, [sys.executable, "-m", *module], self.logs / f"{name}.log", environ)
        self._programs.append(program)
        return program

    def _until(self, happens: Callable[[], bool], otherwise: str, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not happens():
            self._check()
            if time.monotonic() > end:
                raise PartError(f"{otherwise} within {timeout_s:.0f} s; the logs are in {self.logs}")
            time.sleep(POLL_S)

    def _check(self) -> None:
        check_interrupt()
        for child in (*self._programs, *self._cluster.children):
            if child.exit_code is not None:
                raise PartError(child.obituary())


def topics(client: Consumer) -> dict[str, list[int]]:
    """Every topic's partitions; nothing while Kafka does not answer."""
    try:
        return {name: list(topic.partitions) for name, topic in client.list_topics(timeout=2).topics.items()}
    except KafkaException:
        return {}


def has_rows(client: Consumer) -> bool:
    """Whether any KPI topic holds a record."""
    return any(
        name.startswith("kpi.") and name not in NOT_ROWS and any(end_offset(client, name, number) for number in numbers)
        for name, numbers in topics(client).items()
    )


def end_offset(client: Consumer, topic: str, partition: int) -> int:
    """The offset after the last record; 0 while Kafka does not answer."""
    try:
        return client.get_watermark_offsets(TopicPartition(topic, partition), timeout=2)[1]
    except KafkaException:
        return 0


def demo(wanted: Settings) -> None:
    """Run it all until `wanted.seconds` are over, a process ends (PartError) or a person has seen enough (KeyboardInterrupt)."""
    if not is_free(wanted.port):
        raise PartError(f"port {wanted.port} is in use; choose another: DASHBOARD_PORT={wanted.port + 1} make demo")
    started = time.monotonic()
    with cluster() as on, TemporaryDirectory(prefix="kpi-flow-recovery-", ignore_cleanup_errors=True) as scratch:
        running = Demo(on, wanted, Path(scratch))
        try:
            say_to_stderr(f"starting the simulation, the KPI flow and the dashboard (logs: {running.logs.relative_to(ROOT)}/) ...")
            running.start()
            say_to_stderr(f"first KPIs after {time.monotonic() - started:.1f} s\n\n    The dashboard:  {running.address}\n")
            say_to_stderr(f"Kafka {on.bootstrap} · registry {on.registry_url} · Ctrl-C ends everything")
            running.follow(wanted.seconds)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave the work half done
            say_to_stderr("ending ...")
            running.stop()


def main() -> int:
    """0 when ended by a person or by DEMO_SECONDS, 1 (2 for unknown arguments) with a line that says what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.embedded.demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _, unknown = parser.parse_known_args()
    if unknown:
        say_to_stderr(f"demo: unknown: {' '.join(unknown)}; --help says what there is")
        return 2
    os.chdir(ROOT)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    try:
        demo(settings(os.environ))
    except KeyboardInterrupt:
        pass
    except PartError as error:
        say_to_stderr(f"demo: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
