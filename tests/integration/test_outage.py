"""Kafka away under a running flow: two lines, and Ctrl-C does not wait for it. No row is lost or doubled."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import embedded
from infra.embedded import Cluster
from tests.integration.running import until
from tests.integration.supervised import Supervised, end

pytestmark = pytest.mark.timeout(600)  # several starts each, on a machine that others use too


@pytest.fixture(scope="module")
def mortal() -> Iterator[Cluster]:
    """A cluster of our own, to be killed."""
    with embedded.cluster() as started:
        yield started


def test_an_outage_is_one_line_when_it_begins_and_one_when_it_is_over(mortal: Cluster, tmp_path: Path) -> None:
    flow = Supervised(mortal, tmp_path, "outage")
    flow.send(5)
    with flow.running() as child:
        until(flow.complete, 120, child)
        before = flow.log
        mortal.kill_broker()
        until(lambda: "has not answered since" in flow.log.removeprefix(before), 30, child)
        time.sleep(5)
        mortal.start_broker()
        flow.send(5)
        until(flow.complete, 120, child)
        until(lambda: "answers again" in flow.log.removeprefix(before), 30, child)
        first, last = flow.log.removeprefix(before).splitlines()
        assert f"WARNING flows.outage: Kafka {mortal.bootstrap} has not answered since " in first
        assert f"WARNING flows.outage: Kafka {mortal.bootstrap} answers again, after " in last
        assert end(child) == 0


@pytest.mark.parametrize(("number", "told"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_flow_that_is_asked_to_end_while_kafka_is_away_ends_within_seconds_and_goes_on_later(
    mortal: Cluster, tmp_path: Path, number: signal.Signals, told: bool, processes: str
) -> None:
    flow = Supervised(mortal, tmp_path, f"leaves{processes}{number}")
    flow.send(5)
    with flow.running(KPI_PROCESSES=processes) as child:
        until(flow.complete, 120, child)
        flow.send(5)
        time.sleep(0.8)  # they are read, or folded, or on their way out
        before = flow.log
        mortal.kill_broker()
        if told:
            until(lambda: "has not answered since" in flow.log.removeprefix(before), 30, child)
        began_s = time.monotonic()
        child.send_signal(number)
        assert child.wait(60) == 0
        assert time.monotonic() - began_s < 15  # 3 on a machine of its own; 30 is the supervisor's last resort
    assert "flow: the flow is over: it has ended" in flow.log
    assert "no last snapshot" not in flow.log
    mortal.start_broker()
    flow.send(5)
    with flow.running() as child:
        until(flow.complete, 120, child)
        assert end(child) == 0
