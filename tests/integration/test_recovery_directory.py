"""Every way in which the recovery directory can be wrong, on a real broker: the flow stops, says what to do, and doubles nothing."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.recovery import PROBE_BYTES
from flows.stop import MISMATCH
from flows.supervise import FINAL
from infra.embedded import Cluster
from tests.integration.running import until
from tests.integration.supervised import Supervised, end

pytestmark = pytest.mark.timeout(600)  # several starts each, on a machine that others use too

WAY_ON = "begin anew: `make reset`"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    with mounted(tmp_path / "disk", "size=16m") as there:
        yield there


class mounted:  # noqa: N801 - reads as a verb
    """A tmpfs for as long as the block runs."""

    def __init__(self, at: Path, options: str) -> None:
        self.at, self.options = at, options

    def __enter__(self) -> Path:
        self.at.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", self.options, "none", str(self.at)], check=True)
        return self.at

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", str(self.at)], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves not a byte."""
    path = disk / "fill"
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    assert shutil.disk_usage(disk).free < PROBE_BYTES
    return path


@pytest.mark.parametrize(("workers", "count"), [("1", "1"), ("2", "1"), ("1", "2")])
def test_a_disk_that_fills_up_stops_the_flow_by_name_and_it_goes_on_when_there_is_room(
    cluster: Cluster, tmp_path: Path, disk: Path, workers: str, count: str
) -> None:
    flow = Supervised(cluster, tmp_path, f"full{workers}{count}", directory=disk / "recovery")
    flow.send(5)
    with flow.running(KPI_WORKERS=workers, KPI_PROCESSES=count) as child:
        until(flow.complete, 120, child)
        filling = fill(disk)
        flow.send(5)
        until(lambda: f"{disk}/recovery: the disk of the recovery directory is full" in flow.log, 120, child)
        until(lambda: flow.log.count("the disk is full; start") >= 2, 120, child)  # and again, after a longer pause
        filling.unlink()
        until(flow.complete, 120, child)
        assert end(child) == 0
    assert flow.complete()


def test_a_disk_that_is_full_from_the_start_is_one_line_and_a_code_of_its_own(cluster: Cluster, tmp_path: Path, disk: Path) -> None:
    flow = Supervised(cluster, tmp_path, "fullstart", directory=disk / "recovery")
    flow.send(5)
    with flow.running() as child:
        until(flow.complete, 120, child)
        assert end(child) == 0
    filling = fill(disk)
    assert flow.run("bytewax.run", "flows.kpi", "-r", str(flow.recovery), "-s", "1", "-b", "0") == 74
    with flow.running() as child:
        until(lambda: "the disk is full; start 2 in" in flow.log, 20, child)
        assert end(child) == 0  # nothing runs that a snapshot could be lost of
    filling.unlink()
    flow.send(5)
    with flow.running() as child:
        until(flow.complete, 120, child)
        assert end(child) == 0
    assert "Traceback" not in flow.log


def test_a_lost_directory_stops_the_flow_and_its_return_lets_it_go_on(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "lost")
    run(flow)
    flow.recovery.rename(tmp_path / "elsewhere")
    flow.send(5)
    assert flow.run() == 78
    assert "the directory is empty: lost or replaced" in flow.log
    assert WAY_ON in flow.log
    assert f"the flow is over: {FINAL[MISMATCH]}\n" in flow.log
    shutil.rmtree(flow.recovery)
    (tmp_path / "elsewhere").rename(flow.recovery)
    run(flow, 0)


def test_an_older_copy_stops_the_flow_and_the_right_one_lets_it_go_on(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "older")
    run(flow)
    shutil.copytree(flow.recovery, tmp_path / "older")
    run(flow)
    flow.recovery.rename(tmp_path / "right")
    (tmp_path / "older").rename(flow.recovery)
    flow.send(5)
    assert flow.run() == 78
    assert "an older or a diverged directory" in flow.log
    assert WAY_ON in flow.log
    shutil.rmtree(flow.recovery)
    (tmp_path / "right").rename(flow.recovery)
    run(flow, 0)


def test_a_directory_of_another_plan_stops_the_flow_and_the_old_plan_lets_it_go_on(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "plans")
    run(flow)
    flow.windows = '["1s", "1500ms"]'
    flow.send(5)
    assert flow.run() == 78
    assert "belongs to another declaration" in flow.log
    assert WAY_ON in flow.log
    flow.windows = '["1s"]'
    run(flow, 0)


def test_the_directory_of_another_flow_stops_the_flow_before_it_writes(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "mine")
    run(flow)
    flow.flow_id = "theirs"
    flow.send(5)
    assert flow.run() == 78
    assert "their marker is lost" in flow.log
    flow.flow_id = ""
    run(flow, 0)


@pytest.mark.parametrize("program", [(), ("bytewax.run", "flows.kpi", "-s", "1", "-b", "0")])
def test_a_second_flow_on_the_same_directory_is_refused_and_harms_nothing(
    cluster: Cluster, tmp_path: Path, program: tuple[str, ...]
) -> None:
    flow = Supervised(cluster, tmp_path, f"locked{len(program)}")
    flow.send(5)
    with flow.running() as child:
        until(flow.complete, 120, child)
        assert flow.run(*program) == 79
        flow.send(5)
        until(flow.complete, 120, child)
        assert end(child) == 0
    assert f"{flow.recovery}: another flow" in flow.log
    assert "Traceback" not in flow.log


def test_a_second_flow_with_another_directory_and_the_same_id_is_refused_and_harms_nothing(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "twins")
    flow.send(5)
    with flow.running() as child:
        until(flow.complete, 120, child)
        assert flow.run(BYTEWAX_RECOVERY_DIRECTORY=str(tmp_path / "elsewhere")) == 78
        flow.send(5)
        until(flow.complete, 120, child)
        assert end(child) == 0
    assert "the directory is empty: lost or replaced" in flow.log
    assert "where another flow uses this KPI_FLOW_ID, give this one its own" in flow.log
    assert "trying again" not in flow.log  # the first never had to look whether it is still the owner


def test_a_path_that_cannot_be_a_recovery_directory_is_one_clear_line(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "paths")
    flow.recovery.write_text("a file")
    for program in ((), ("bytewax.run", "flows.kpi", "-s", "1", "-b", "0")):
        assert flow.run(*program) == 1
        assert f"kpi: -r: got {flow.recovery}, want a directory" in flow.log.splitlines()[-1]
    flow.recovery.unlink()
    flow.recovery.mkdir()
    assert flow.run("bytewax.run", "flows.kpi", "-s", "1", "-b", "0") == 1
    assert f"kpi: -r: got {flow.recovery}, want a recovery directory; make one with make flow" in flow.log
    assert "Traceback" not in flow.log


def test_a_directory_that_cannot_be_written_to_is_one_clear_line(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "readonly")
    run(flow)
    with mounted(tmp_path / "fixed", "size=16m") as disk:
        shutil.copytree(flow.recovery, disk / "recovery")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        flow.recovery = disk / "recovery"
        for program in ((), ("bytewax.run", "flows.kpi", "-s", "1", "-b", "0")):
            assert flow.run(*program) == 1
            assert f"kpi: -r: got {flow.recovery}, want a directory that can be written to ({os.strerror(30)})" in flow.log.splitlines()[-1]
    assert "Traceback" not in flow.log


def run(flow: Supervised, seconds: int = 5) -> None:
    """Until all final rows of some more seconds are there."""
    flow.send(seconds)
    with flow.running() as child:
        until(flow.complete, 120, child)
        assert end(child) == 0
