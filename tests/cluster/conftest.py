"""The cluster, really built and really started, once a session. CLUSTER_KEEP=1: one that runs is taken as it is, and left running."""

import os
import time
from collections.abc import Iterator

import pytest

from infra.cluster import passwords
from infra.cluster.compose import Compose
from infra.cluster.up import up
from tests.cluster.live import Live


@pytest.fixture(scope="session")
def live() -> Iterator[Live]:
    keep = os.environ.get("CLUSTER_KEEP") == "1"
    compose = Compose()
    if not keep:
        passwords.make()
        assert compose.run("down", "--volumes") == 0
    said, began = list[str](), time.monotonic()
    up(compose, said.append, ["apps"])
    yield Live(compose, said, time.monotonic() - began)
    if not keep:
        compose.run("down", "--volumes")
