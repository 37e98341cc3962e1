"""One flow on two machines whose link is cut while both still reach Kafka: network namespaces, so it needs root, as CI has it."""

from pathlib import Path

import pytest

from infra.embedded import Cluster
from infra.embedded.cluster import say_to_stderr
from tests.chaos.base import Ground
from tests.chaos.links import links


@pytest.mark.timeout(300)
def test_a_link_that_is_cut_is_noticed_on_both_sides_and_no_row_is_lost_or_doubled(cluster: Cluster, tmp_path: Path) -> None:
    result = links(Ground(cluster, tmp_path, say_to_stderr, short=True), 1, 0)
    assert result.failed == []
    assert result.verdict.good, result.verdict
    assert len(result.seconds) == 1
