"""`make flow` on a real broker: any number of workers, killed, fenced, asked to end. Every final row is there once."""

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from flows.stop import FENCED
from flows.supervise import FINAL
from flows.windows import WANTED
from infra.embedded import Cluster
from infra.embedded.child import free_port, is_free
from tests.integration.running import until
from tests.integration.supervised import Supervised, end, processes

pytestmark = pytest.mark.timeout(600)  # several starts each, on a machine that others use too

SHAPES = [("1", "1"), ("2", "1"), ("1", "2"), ("2", "2"), ("1", "1")]  # KPI_WORKERS, KPI_PROCESSES


def test_a_flow_goes_on_with_another_number_of_workers_or_processes_at_each_start(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "shapes")
    for workers, count in SHAPES:
        flow.send(5)
        with flow.running(KPI_WORKERS=workers, KPI_PROCESSES=count) as child:
            until(flow.complete, 120, child)
            assert len(processes(child)) == int(count)
            assert end(child) == 0
    assert flow.complete()
    assert len(list(flow.recovery.glob("part-*.sqlite3"))) == 4
    assert "made the recovery directory" in flow.log
    assert "Traceback" not in flow.log
    assert "panicked" not in flow.log


@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_of_several_is_killed_all_start_again_and_no_row_is_lost_or_doubled(
    cluster: Cluster, tmp_path: Path, victim: int
) -> None:
    flow = Supervised(cluster, tmp_path, f"killed{victim}")
    flow.send(5)
    with flow.running(KPI_PROCESSES="2") as child:
        until(flow.complete, 120, child)
        first = until(lambda: processes(child) if len(processes(child)) == 2 else [], 20, child)
        flow.send(5)
        first[victim].kill()
        assert psutil.wait_procs(first, 20)[1] == []
        until(lambda: f"flow: process {first[victim].pid} was ended by SIGKILL; start 2 in 1 s" in flow.log, 20, child)
        until(flow.complete, 120, child)
        assert not {process.pid for process in first} & {process.pid for process in processes(child)}
        assert end(child) == 0
    assert flow.complete()


def test_the_supervisors_own_death_takes_the_flow_with_it(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "orphans")
    with flow.running(KPI_PROCESSES="2") as child:
        until(lambda: flow.log.count("exactly-once") == 2, 120, child)
        orphans = processes(child)
        assert len(orphans) == 2
        child.kill()
        assert psutil.wait_procs(orphans, 20)[1] == []


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_flow_that_was_fenced_ends_whole_and_is_not_started_again(cluster: Cluster, tmp_path: Path, count: str) -> None:
    flow = Supervised(cluster, tmp_path, f"fenced{count}")
    flow.send(5)
    with flow.running(KPI_PROCESSES=count, KPI_WORKERS="2") as child:
        until(flow.complete, 120, child)
        members = processes(child)
        assert flow.reset("--yes", BYTEWAX_RECOVERY_DIRECTORY=str(tmp_path / "elsewhere")) == 0
        flow.send(5)
        assert child.wait(60) == 77
        assert psutil.wait_procs(members, 1)[1] == []
    assert "another flow with this KPI_FLOW_ID has taken over" in flow.log
    assert f"the flow is over: {FINAL[FENCED]}\n" in flow.log
    assert "start 2" not in flow.log
    assert set(flow.finals()) == set(range(3))


def test_a_configuration_error_is_told_once_and_not_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "wrong", windows='["1 parsec"]')
    assert flow.run() == 1
    assert flow.log == f"kpi: {tmp_path}/kpi.toml: defaults.windows.0: got '1 parsec', {WANTED}\n"
    assert not flow.recovery.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_kills_a_flow_that_does_not_end(cluster: Cluster, tmp_path: Path, number: signal.Signals) -> None:
    flow = Supervised(cluster, tmp_path, f"second{number}")
    with flow.running() as child:
        (process,) = until(lambda: processes(child) if "exactly-once" in flow.log else [], 120, child)
        process.suspend()
        child.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1)
        child.send_signal(number)
        assert child.wait(20) == 128 + number
        assert not process.is_running()


def test_each_process_has_its_metrics_at_the_port_and_its_process_id(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "metrics")
    port = next(port for port in iter(free_port, None) if is_free(port + 1))
    with flow.running(KPI_PROCESSES="2", KPI_METRICS_PORT=str(port)) as child:
        members = until(lambda: processes(child) if flow.log.count("exactly-once") == 2 else [], 120, child)
        listening = {at.laddr.port for member in members for at in member.net_connections("tcp") if at.status == psutil.CONN_LISTEN}
        assert {port, port + 1} <= listening
        assert end(child) == 0
