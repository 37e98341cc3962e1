"""What the dashboard's tests look at: a cluster with three topics, a server, a browser, a tab in which nothing may go wrong."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from infra import embedded
from infra.embedded import Cluster
from tests.integration.browser import chromium
from tests.integration.dashboard.pages import Tab, served
from tests.integration.dashboard.three_topics import PAST, Topics
from tests.integration.kpi_rows import set_aside


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One of its own: the dashboard reads every KPI topic there is, and other tests leave hundreds."""
    with embedded.cluster(home=tmp_path_factory.mktemp("dashboard")) as started:
        yield started


@pytest.fixture(scope="module")
def topics(cluster: Cluster) -> Topics:
    """Three topics with a past, and messages that were set aside."""
    made = Topics(cluster)
    made.write(PAST)
    set_aside(cluster.bootstrap, "kpi.late", "shop.orders", "late", 12)
    set_aside(cluster.bootstrap, "kpi.dead-letters", "shop.orders", "magic", 3)
    return made


@pytest.fixture(scope="module")
def address(cluster: Cluster, topics: Topics) -> Iterator[str]:  # noqa: ARG001 - the topics are there before the server
    """`bokeh serve dashboard`, on these topics."""
    with served(cluster.environ) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real one."""
    with chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Browser, address: str) -> Iterator[Tab]:
    """A tab in which no error may appear."""
    opened = Tab(browser, address)
    yield opened
    opened.page.close()
    assert opened.errors == []
