"""What the pages of a run look at: 3 topics x 3 windows with a full history, and provisional rows for all of them each second."""

import math
import threading
import time
from typing import Self

from flows.registry import Registry
from serve.series import POINTS
from tests.integration.kpi_rows import KpiTopic

WINDOWS = {"10s": 10_000, "1m": 60_000, "5m": 300_000}
SOURCES = ("load.orders", "load.readings", "load.payments")
COUNTRIES = ("DE", "FR", "IT", "ES")
KPIS = {
    "revenue": ("double", {"aggregate": "sum", "of": "total", "unit": "EUR"}),
    "orders": ("long", {"aggregate": "count", "of": "*"}),
    "basket": ("double", {"aggregate": "mean", "of": "total", "unit": "EUR"}),
}


class Rows:
    """The KPI topics. With `with Rows(...)`: written to each second, as a flow does with `update = "1s"`."""

    def __init__(self, bootstrap: str, registry_url: str) -> None:
        registry = Registry(registry_url)
        self.topics = [
            KpiTopic(bootstrap, registry, source, window, size_ms, KPIS, ("country",))
            for source in SOURCES
            for window, size_ms in WINDOWS.items()
        ]
        self.writes = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rows", daemon=True)
        now_ms = int(time.time() * 1000)
        self._open = {topic.name: now_ms // topic.size_ms * topic.size_ms for topic in self.topics}
        for topic in self.topics:
            for back in range(POINTS, 0, -1):
                self._window(topic, self._open[topic.name] - back * topic.size_ms, final=True)
            topic.flush()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ending.wait(1 - time.time() % 1):
            now_ms = int(time.time() * 1000)
            for topic in self.topics:
                start_ms = now_ms // topic.size_ms * topic.size_ms
                if start_ms > self._open[topic.name]:
                    self._window(topic, self._open[topic.name], final=True)
                    self._open[topic.name] = start_ms
                self._window(topic, start_ms, final=False, revision=(now_ms - start_ms) // 1000)
            for topic in self.topics:
                topic.flush()
            self.writes += 1

    @staticmethod
    def _window(topic: KpiTopic, start_ms: int, *, final: bool, revision: int = 0) -> None:
        said = {"final": final, "revision": 1_000 if final else revision, "closed_by": "data" if final else None}
        for at, group in enumerate(({}, *({"country": country} for country in COUNTRIES))):
            wave = 1 + 0.3 * math.sin(start_ms / topic.size_ms / 14 + at) + (0.0 if final else 0.01 * math.sin(revision))
            values = {"revenue": 3500 * wave / (at + 1), "orders": int(4000 * wave / (at + 1)), "basket": 80 + 9 * wave}
            topic.send(start_ms, values, group, events=int(900 * wave), **said)
