"""Three KPI topics, written window by window: what the dashboard's browser tests look at."""

import math
import time

from flows.registry import Registry
from infra.embedded import Cluster
from tests.integration.kpi_rows import KpiTopic

SIZE_MS = 10_000
SOURCES = {
    "shop.orders": {
        "revenue": ("double", {"aggregate": "sum", "of": "total", "unit": "EUR"}),
        "orders": ("long", {"aggregate": "count", "of": "*"}),
        "basket": ("double", {"aggregate": "mean", "of": "total", "unit": "EUR"}),
    },
    "sensors.readings": {"temperature": ("double", {"aggregate": "mean", "of": "temperature", "unit": "°C"})},
    "payments.authorizations": {"latency": ("double", {"aggregate": "mean", "of": "latency_ms", "unit": "ms"})},
}
COUNTRIES = {"DE": 0.4, "FR": 0.25, "IT": 0.2, None: 0.15}
NOW_MS = int(time.time() * 1000) // SIZE_MS * SIZE_MS
PAST = 90  # windows written before the page opens


class Topics:
    """The topics of the test, written window by window."""

    def __init__(self, cluster: Cluster) -> None:
        registry = Registry(cluster.registry_url)
        self.topics = [
            KpiTopic(cluster.bootstrap, registry, source, "10s", SIZE_MS, kpis, ("country",) if source == "shop.orders" else ())
            for source, kpis in SOURCES.items()
        ]
        self.next = -PAST

    def write(self, windows: int) -> None:
        """So many further windows as final, and the one after them as provisional."""
        for number in range(self.next, self.next + windows):
            self._window(number, final=True)
        self.next += windows
        self._window(self.next, final=False)

    def values(self, topic: KpiTopic, number: int, share: float) -> dict[str, float]:
        """What is written of a window and a group with that share."""
        wave = 1 + 0.3 * math.sin(number / 14 + len(topic.source)) + 0.05 * math.sin(number + share * 9)
        values: dict[str, float] = dict.fromkeys(topic.kpis, 40 * wave * share)
        if "orders" in topic.kpis:
            values |= {"orders": int(40 * wave * share), "revenue": 3500 * wave * share, "basket": 80 + 9 * wave}
        return values

    def _window(self, number: int, *, final: bool) -> None:
        for topic in self.topics:
            groups = [({}, 1.0), *(({"country": name}, share) for name, share in COUNTRIES.items() if topic.groups)]
            for group, share in groups:
                closed = {"closed_by": "data" if final else None, "revision": 9 if final else 3}
                values = self.values(topic, number, share)
                topic.send(NOW_MS + number * SIZE_MS, values, group, final=final, events=int(900 * share), **closed)
            topic.flush()
