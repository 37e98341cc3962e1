"""A registry that is away in every way there is, behind the flow as people run it."""

from pathlib import Path

import pytest

from flows.stop import REFUSED
from infra.embedded import Cluster
from tests.chaos.base import Ground
from tests.chaos.outage import Registry
from tests.chaos.registry import registry
from tests.integration.running import T0_MS, Flow, Topic, click

OUTAGES = 10
LIMIT_S = 30.0  # on a loaded machine; `make chaos` holds 10 s


@pytest.mark.timeout(500)
def test_ten_outages_of_the_registry_lose_nothing_and_end_with_the_registry(cluster: Cluster, tmp_path: Path) -> None:
    result = registry(Ground(cluster, tmp_path, lambda _: None, short=True), OUTAGES, 0)
    assert result.failed == []
    assert result.verdict.good, result.verdict
    assert len(result.seconds) == OUTAGES
    assert max(result.seconds) < LIMIT_S


@pytest.mark.parametrize("mode", ["401", "403"])
def test_a_registry_that_refuses_the_flow_stops_it_with_the_hint(cluster: Cluster, tmp_path: Path, mode: str) -> None:
    topic = Topic(cluster, f"refused-{mode}.clicks", partitions=1)
    topic.send([click(T0_MS), click(T0_MS + 10_000)])
    registry = Registry(cluster.registry_url)
    flow = Flow(cluster, tmp_path, f"refused-{mode}.", environ={"SCHEMA_REGISTRY_URL": registry.url})
    registry.begin(mode)
    try:
        with flow.running() as child:
            assert child.wait(60) == REFUSED
    finally:
        registry.close()
    assert "SCHEMA_REGISTRY_USER_INFO" in flow.log
    assert "Traceback" not in flow.log
