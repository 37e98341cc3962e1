"""`make reset` on a real broker: it says what it will do, and afterwards nothing from before can go on."""

import contextlib
import os
import pty
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from flows.edge import Edge
from infra.embedded import Cluster
from tests.integration.running import ROOT, until
from tests.integration.supervised import Supervised, end

pytestmark = pytest.mark.timeout(600)  # several starts each, on a machine that others use too


def test_a_changed_declaration_is_told_then_reset_then_every_final_row_comes_once_more(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "changed")
    flow.send(5)
    with flow.running() as child:
        until(flow.complete, 120, child)
        assert flow.reset("--yes") == 79  # not while a flow runs here
        assert end(child) == 0
    keys = flow.keys()
    flow.windows = '["1s", "1500ms"]'
    assert flow.run() == 78
    assert flow.log.splitlines()[-2].endswith("begin anew: `make reset` says first what that means")
    before = flow.log
    assert flow.reset() == 1  # nobody was there to agree
    said = flow.log.removeprefix(before)
    assert f"move {flow.recovery} to {flow.recovery}.1" in said
    assert {f"reset:   - reset the marker of changed-{part}: " in said for part in range(2)} == {True}
    assert ": it has written up to batch " in said
    assert "reads every topic from `start` again" in said
    assert flow.recovery.exists()
    assert flow.run() == 78
    assert flow.reset(YES="1") == 0
    assert not flow.recovery.exists()
    assert len(list((tmp_path / "recovery.1").glob("part-*.sqlite3"))) == 4
    with flow.running() as child:
        until(lambda: flow.complete(2), 120, child)
        assert end(child) == 0
    assert flow.keys() == keys


@pytest.mark.parametrize("when", ["before the first commit", "after a commit"])
def test_no_directory_from_before_a_reset_can_go_on(cluster: Cluster, tmp_path: Path, when: str) -> None:
    flow = Supervised(cluster, tmp_path, f"old{len(when)}")
    if when == "after a commit":
        flow.send(5)
    with flow.running() as child:
        until(lambda: flow.complete() if flow.sent else sink_states(flow.recovery) == {"0", "1"}, 120, child)
        assert end(child) == 0
    shutil.copytree(flow.recovery, tmp_path / "old")
    if not flow.sent:
        flow.send(5)
        with flow.running() as child:
            until(flow.complete, 120, child)
            assert end(child) == 0
    assert flow.reset("--yes") == 0
    shutil.copytree(tmp_path / "old", flow.recovery)
    known = flow.finals()
    assert flow.run() == 78  # before anything new has run
    shutil.rmtree(flow.recovery)
    with flow.running() as child:
        until(lambda: flow.complete(2), 120, child)
        assert end(child) == 0
    shutil.rmtree(flow.recovery)
    shutil.copytree(tmp_path / "old", flow.recovery)
    assert flow.run() == 78
    assert set(known.values()) == {1}
    assert flow.complete(2)


def test_a_flow_that_was_asleep_during_a_reset_leaves_when_it_wakes_up(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "asleep")
    flow.send(5)
    program = ("bytewax.run", "flows.kpi", "-s", "1", "-b", "0")
    subprocess.run(
        [
            sys.executable,
            "-c",
            f"import pathlib; from flows.recovery import *; p = pathlib.Path({str(flow.recovery)!r}); make(p); make_parts(p)",
        ],
        check=True,
        cwd=ROOT,
    )
    with flow.running(*program) as child:
        until(flow.complete, 120, child)
        os.kill(child.pid, 19)
        assert flow.reset("--yes", BYTEWAX_RECOVERY_DIRECTORY=str(tmp_path / "elsewhere")) == 0
        flow.send(5)
        os.kill(child.pid, 18)
        assert child.wait(60) == 77
    assert set(flow.finals()) == set(range(3))


def test_a_flow_that_never_ran_and_one_without_its_directory_can_be_reset_too(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "never")
    assert flow.reset("--yes") == 0
    assert f"there is no {flow.recovery} to move aside" in flow.log
    flow.send(5)
    with flow.running() as child:
        until(flow.complete, 120, child)
        assert end(child) == 0
    shutil.rmtree(flow.recovery)
    assert flow.run() == 78
    assert flow.reset("--yes") == 0
    with flow.running() as child:
        until(lambda: flow.complete(2), 120, child)
        assert end(child) == 0


def test_a_person_is_asked_and_may_say_no(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "asked")
    assert [ask(flow, answer) for answer in (b"n\n", b"\n", b"y\n")] == [1, 1, 0]
    marker = Edge({"bootstrap.servers": cluster.bootstrap}, "asked", 0).marker()
    assert marker is not None
    assert (marker.sequence, marker.owner) == (0, "reset")


def test_ctrl_c_at_the_question_leaves_at_once_and_changes_nothing(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "ctrl-c")
    flow.recovery.mkdir()
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb"), asking(flow, theirs) as child:
        os.close(theirs)
        assert child.stdout
        said = b""
        while not said.endswith(b"Go on? [y/N] "):
            byte = child.stdout.read(1)
            assert byte, said
            said += byte
        child.send_signal(signal.SIGINT)
        assert child.wait(5) == 130
        assert child.stdout.read() == b"\nreset: nothing was changed\n"
    assert flow.recovery.exists()
    assert Edge({"bootstrap.servers": cluster.bootstrap}, "ctrl-c", 0).marker() is None


def sink_states(directory: Path) -> set[str]:
    """The sink parts that have a snapshot in a recovery directory."""
    found = set()
    for part in directory.glob("part-*.sqlite3"):
        with contextlib.closing(sqlite3.connect(f"file:{part}?mode=ro", uri=True)) as database:
            if database.execute("SELECT 1 FROM sqlite_master WHERE name = 'snaps'").fetchone():  # the part may just be being made
                found |= {key for (key,) in database.execute("SELECT state_key FROM snaps WHERE step_id = 'kpi.sink'")}
    return found


def asking(flow: Supervised, terminal: int) -> "subprocess.Popen[bytes]":
    """A reset that runs in a terminal."""
    command = [sys.executable, "-m", "flows.supervise", "--reset"]
    return subprocess.Popen(command, cwd=ROOT, env=flow.settings(), stdin=terminal, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ask(flow: Supervised, answer: bytes) -> int:
    """The exit code of a reset in a terminal."""
    ours, theirs = pty.openpty()
    try:
        with asking(flow, theirs) as child:
            os.write(ours, answer)
            said, _ = child.communicate(timeout=60)
        assert b"Go on? [y/N]" in said
        return child.returncode
    finally:
        os.close(ours)
        os.close(theirs)


def test_kafka_away_is_one_line_and_nothing_is_done(cluster: Cluster, tmp_path: Path) -> None:
    flow = Supervised(cluster, tmp_path, "unreached")
    flow.recovery.mkdir()
    assert flow.reset("--yes", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9") == 75
    assert "Kafka does not answer" in flow.log
    assert flow.recovery.exists()
    assert "Traceback" not in flow.log
