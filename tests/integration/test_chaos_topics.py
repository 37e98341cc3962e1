"""Topics that come, go, grow and lose their past under the flow as people run it."""

from pathlib import Path

import pytest

from infra.embedded import Cluster
from tests.chaos.base import Ground
from tests.chaos.topics import LIVES, topics


@pytest.mark.timeout(400)
def test_topics_come_go_grow_and_lose_their_past_and_nothing_else_is_wrong(cluster: Cluster, tmp_path: Path) -> None:
    result = topics(Ground(cluster, tmp_path, lambda _: None, short=True), len(LIVES), 1)
    assert result.failed == []
    assert result.good
