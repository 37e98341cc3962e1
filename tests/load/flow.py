"""A real flow beside the dashboard, with simulated events and a recovery directory. In: a cluster, events a second. Out: its lag."""

import subprocess
import sys
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, TopicPartition

from infra.embedded import Cluster
from infra.embedded.child import Child, free_port
from tests.load.measure import total

NAMES = ("shop.orders", "sensors.readings", "payments.authorizations")


class Flow:
    """Runs until `stop`. Its lag: the events that are in Kafka and in none of its books yet, as seconds of events.

    Not by what its group has committed: that follows the snapshots, so it is two of them behind (2.4 s) however quick the flow is.
    """

    def __init__(self, cluster: Cluster, rate: int, logs: Path) -> None:
        self._rate = rate
        self._lags_s: list[float] = []
        self._scratch = TemporaryDirectory(prefix="kpi-flow-load-", ignore_cleanup_errors=True)
        port = free_port()
        self._metrics = f"http://127.0.0.1:{port}/metrics"
        environ = {**cluster.environ, "KPI_METRICS_PORT": str(port), "SIM_RATE": str(rate), "SIM_BACKFILL": "0", "KPI_WINDOWS": "10s,1m,5m"}
        self._programs = [Child("simulate", [sys.executable, "-m", "flows.simulate"], logs / "simulate.log", environ)]
        self._client = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "kpi", "log_level": 0})  # only looks; joins nothing
        self._programs[0].wait_until(self._there, 60)
        subprocess.run([sys.executable, "-m", "bytewax.recovery", self._scratch.name, "1"], check=True)
        command = [sys.executable, "-m", "bytewax.run", "flows.kpi", "-r", self._scratch.name, "-s", "1", "-b", "0"]
        self._programs.append(Child("kpi", command, logs / "kpi.log", environ))

    def look(self) -> float:
        """The lag now, in seconds; all of them are kept."""
        with urllib.request.urlopen(self._metrics, timeout=5) as page:
            booked = total(page.read().decode(), "kpi_messages_total")
        topics = self._client.list_topics(timeout=5).topics
        parts = [TopicPartition(name, part) for name in NAMES for part in topics[name].partitions]
        behind = sum(self._client.get_watermark_offsets(part, timeout=5)[1] for part in parts) - booked
        self._lags_s.append(behind / self._rate)
        return self._lags_s[-1]

    def stop(self) -> list[float]:
        """End it; every lag that was seen, in seconds."""
        for program in reversed(self._programs):
            program.stop(30)
        self._client.close()
        self._scratch.cleanup()
        return self._lags_s

    def _there(self) -> bool:
        return set(NAMES) <= set(self._client.list_topics(timeout=5).topics)
