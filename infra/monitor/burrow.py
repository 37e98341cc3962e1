"""Burrow's lags for Prometheus, under the names that later Burrows give them. In: Burrow's HTTP. Out: metrics, read at each scrape."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

STATUS = {"NOTFOUND": 0, "OK": 1, "WARN": 2, "ERR": 3, "STOP": 4, "STALL": 5, "REWIND": 6}
GROUP = ["cluster", "consumer_group"]
PARTITION = [*GROUP, "topic", "partition"]
TIMEOUT_S = 2


class Burrow(Collector):
    """What Burrow at `url` says of every group: `burrow_up` is 0 while it says nothing."""

    def __init__(self, url: str, cluster: str = "local") -> None:
        self._url = f"{url}/v3/kafka/{cluster}/consumer"
        self._cluster = cluster

    def describe(self) -> list[Metric]:
        """Nothing: registering it must not ask Burrow."""
        return []

    def collect(self) -> Iterator[Metric]:
        """One sample a group and partition."""
        up = GaugeMetricFamily("burrow_up", "Whether Burrow answers")
        status = GaugeMetricFamily("burrow_kafka_consumer_status", f"Of a group: {STATUS}", labels=GROUP)
        total = GaugeMetricFamily("burrow_kafka_consumer_lag_total", "Records that a group is behind", labels=GROUP)
        lag = GaugeMetricFamily("burrow_kafka_consumer_partition_lag", "Records that a group is behind", labels=PARTITION)
        offset = GaugeMetricFamily("burrow_kafka_consumer_current_offset", "Offset that a group has committed", labels=PARTITION)
        try:
            for name in self._ask()["consumers"]:
                of = self._ask(f"/{name}/lag")["status"]
                status.add_metric([self._cluster, name], STATUS.get(of["status"], 0))
                total.add_metric([self._cluster, name], of["totallag"])
                for at in of["partitions"]:
                    labels = [self._cluster, name, at["topic"], str(at["partition"])]
                    lag.add_metric(labels, at["current_lag"])
                    offset.add_metric(labels, (at["end"] or {"offset": 0})["offset"])
            up.add_metric([], 1)
        except (OSError, ValueError, KeyError):
            up.add_metric([], 0)
        yield from (up, status, total, lag, offset)

    def _ask(self, path: str = "") -> dict[str, Any]:
        with urllib.request.urlopen(self._url + path, timeout=TIMEOUT_S) as answer:  # noqa: S310 - the operator's own setting
            return dict(json.load(answer))
