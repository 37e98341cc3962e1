"""A real flow beside the dashboard, with simulated events and a recovery directory. In: a cluster, events a second. Out: its lag."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from confluent_kafka import Consumer, TopicPartition

from infra.embedded import Cluster
from infra.embedded.child import Child

NAMES = ("shop.orders", "sensors.readings", "payments.authorizations")


class Flow:
    """Runs until `stop`. Its lag: the events between what its group has committed and the ends, as seconds of events."""

    def __init__(self, cluster: Cluster, rate: int, logs: Path) -> None:
        self._rate = rate
        self._worst_s = 0.0
        self._scratch = TemporaryDirectory(prefix="kpi-flow-load-", ignore_cleanup_errors=True)
        environ = {**cluster.environ, "SIM_RATE": str(rate), "SIM_BACKFILL": "0", "KPI_WINDOWS": "10s,1m,5m"}
        self._programs = [Child("simulate", [sys.executable, "-m", "flows.simulate"], logs / "simulate.log", environ)]
        self._client = Consumer({"bootstrap.servers": cluster.bootstrap, "group.id": "kpi", "log_level": 0})  # only looks; joins nothing
        self._programs[0].wait_until(self._there, 60)
        subprocess.run([sys.executable, "-m", "bytewax.recovery", self._scratch.name, "1"], check=True)
        command = [sys.executable, "-m", "bytewax.run", "flows.kpi", "-r", self._scratch.name, "-s", "1", "-b", "0"]
        self._programs.append(Child("kpi", command, logs / "kpi.log", environ))

    def look(self) -> float:
        """The lag now, in seconds; the worst one is kept."""
        parts = [
            TopicPartition(name, part)
            for name, about in self._client.list_topics(timeout=5).topics.items()
            if name in NAMES
            for part in about.partitions
        ]
        done = self._client.committed(parts, timeout=5)
        behind = sum(self._client.get_watermark_offsets(part, timeout=5)[1] - max(part.offset, 0) for part in done)
        self._worst_s = max(self._worst_s, behind / self._rate)
        return behind / self._rate

    def stop(self) -> float:
        """End it; the longest lag that was seen, in seconds."""
        for program in reversed(self._programs):
            program.stop(30)
        self._client.close()
        self._scratch.cleanup()
        return self._worst_s

    def _there(self) -> bool:
        return set(NAMES) <= set(self._client.list_topics(timeout=5).topics)
