"""Who takes part in a run: the server, and visitors in a process of their own. In: a plan. Out: how the one is, what the others tell."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.embedded import Cluster
from infra.embedded.child import Child, free_port

ROOT = Path(__file__).parents[2]
LOGS = ROOT / ".load"
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Plan:
    """How many pages, how long they are held, and how long one leaves and another comes every `churn_s`."""

    sessions: int
    hold_s: float
    churning_s: float
    churn_s: float
    flow_rate: int = 0  # events a second through a real flow beside it; 0: none
    profile: bool = False


SHORT = Plan(sessions=25, hold_s=10, churning_s=0, churn_s=1)


class Server:
    """`python -m serve` on free ports, and how it is."""

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        port = free_port()
        environ = {**cluster.environ, "DASHBOARD_PORT": str(port), "DASHBOARD_SESSIONS": str(plan.sessions), "PYTHONPATH": str(ROOT)}
        self.root = f"http://127.0.0.1:{port}"
        self.child = Child(
            "dashboard",
            [sys.executable, "-m", *(["tests.load.profiled", str(LOGS / "profile")] if plan.profile else ["serve"])],
            LOGS / "dashboard.log",
            environ,
        )
        self._process = psutil.Process(self.child.pid)
        self.child.wait_until(self._reads, 120)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        try:
            with urllib.request.urlopen(self.root + path, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def mib(self) -> float:
        """Its resident memory."""
        return self._process.memory_info().rss / MIB

    def cpu_s(self) -> float:
        """What it has computed so far."""
        times = self._process.cpu_times()
        return times.user + times.system

    def metrics(self) -> str:
        """Its metrics page."""
        return self.get("/metrics")[1]

    def _reads(self) -> bool:
        try:
            status, text = self.get("/healthz")
        except OSError:
            return False
        return status == 200 and json.loads(text)["topics"] >= 9


class Visitors:
    """The process of the visitors."""

    def __init__(self, address: str, plan: Plan) -> None:
        command = [sys.executable, "-m", "tests.load.visitors", address, str(plan.sessions), str(plan.churn_s)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, order: str) -> dict[str, object]:
        """What they tell when they have done it."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        answer: dict[str, object] = json.loads(self._process.stdout.readline())
        return answer

    def end(self) -> None:
        """All leave."""
        self._process.communicate(timeout=20)


@contextmanager
def visitors(address: str, plan: Plan) -> Iterator[Visitors]:
    """Visitors that are gone afterwards."""
    started = Visitors(address, plan)
    try:
        yield started
    finally:
        started.end()
