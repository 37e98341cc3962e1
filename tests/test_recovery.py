"""One flow a recovery directory, and an end that says why."""

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import TestingSink, TestingSource, run_main

from flows import kpi
from flows.errors import ConfigError
from flows.recovery import (
    check_others,
    forget_unfinished,
    identity,
    lock,
    lock_all,
    lock_supervisor,
    make_parts,
    states,
    wait_for_processes,
)
from flows.stop import LOCKED, Stop

HOLD = """
import sys, time
from pathlib import Path
from flows.recovery import lock
held = lock(Path(sys.argv[1]), 0)
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_flow_on_the_same_directory_is_refused_by_name(tmp_path: Path) -> None:
    with lock(tmp_path, 0), pytest.raises(Stop, match=f"{tmp_path}: another flow") as caught:
        lock(tmp_path, 0)
    assert caught.value.code == LOCKED


def test_the_processes_of_one_flow_hold_a_lock_each(tmp_path: Path) -> None:
    with lock(tmp_path, 0), lock(tmp_path, 1):
        pass


def test_a_flow_of_fewer_processes_is_refused_while_one_of_more_still_runs(tmp_path: Path) -> None:
    with lock(tmp_path, 0):
        pass
    with lock(tmp_path, 2):
        check_others(tmp_path, 3)
        with pytest.raises(Stop) as caught:
            check_others(tmp_path, 2)
        assert caught.value.code == LOCKED
    check_others(tmp_path, 1)


def test_supervisors_of_several_machines_share_a_directory_with_one_another_and_with_nobody_else(tmp_path: Path) -> None:
    with lock_supervisor(tmp_path, 0), lock_supervisor(tmp_path, 1):
        for other in (partial(lock_supervisor, tmp_path), partial(lock_supervisor, tmp_path, 1), partial(lock_all, tmp_path)):
            with pytest.raises(Stop):
                other()
    with lock_supervisor(tmp_path), pytest.raises(Stop):
        lock_supervisor(tmp_path, 0)


def test_a_directory_is_known_by_an_identity_that_is_made_once(tmp_path: Path) -> None:
    assert identity(tmp_path) == ""
    made = identity(tmp_path, make=True)
    assert made == identity(tmp_path) == identity(tmp_path, make=True) != ""


def test_nothing_is_reset_while_any_process_or_the_supervisor_uses_the_directory(tmp_path: Path) -> None:
    for held in (lock(tmp_path, 0), lock(tmp_path, 3), lock_supervisor(tmp_path)):
        with held, pytest.raises(Stop):
            lock_all(tmp_path)
    with lock_all(tmp_path), pytest.raises(Stop):
        lock(tmp_path, 3)
    lock(tmp_path, 3).close()


def test_processes_whose_supervisor_has_died_are_waited_for(tmp_path: Path) -> None:
    held = lock(tmp_path, 1)
    ending = threading.Timer(0.3, held.close)
    ending.start()
    wait_for_processes(tmp_path, 30)
    assert held.closed
    ending.join()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_dies_gives_its_lock_back_and_one_that_is_stopped_keeps_it(tmp_path: Path, end: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        os.kill(holder.pid, signal.SIGSTOP)
        with pytest.raises(Stop):
            lock(tmp_path, 0)
        os.kill(holder.pid, end)
        os.kill(holder.pid, signal.SIGCONT)
        holder.wait(10)
        lock(tmp_path, 0).close()


def test_leaving_ends_the_process_from_any_thread_with_the_code_and_the_line() -> None:
    program = (
        "import threading, time; from flows.stop import FENCED, Stop, leave\n"
        "threading.Thread(target=lambda: leave(Stop(FENCED, 'taken over'))).start(); time.sleep(60); print('still here')"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stderr, ended.stdout) == (77, "taken over\n", "")


def run(directory: Path, given: list[Any]) -> list[tuple[str, int]]:
    """One execution, up to the next end or abort, of a flow that adds up by key."""
    out: list[tuple[str, int]] = []
    flow = Dataflow("count")
    added = op.stateful_map("sum", op.input("in", flow, TestingSource(given)), lambda state, one: (sum_ := (state or 0) + one, sum_))
    op.output("out", added, TestingSink(out))
    run_main(flow, epoch_interval=timedelta(0), recovery_config=RecoveryConfig(directory))  # type: ignore[no-untyped-call]
    return out


def leave_unfinished(directory: Path, state: int) -> None:
    """What a kill leaves behind: a snapshot of the key `a` in an epoch that was never finished."""
    for part in directory.glob("part-*.sqlite3"):
        with closing(sqlite3.connect(part)) as database, database:
            for step, epoch in database.execute("SELECT step_id, max(snap_epoch) FROM snaps WHERE state_key = 'a' GROUP BY 1").fetchall():
                (resume,) = database.execute("SELECT max(snap_epoch) + 1 FROM snaps").fetchone()
                assert resume > epoch
                database.execute("INSERT INTO snaps VALUES ('', ?, 'a', ?, ?)", (step, resume, pickle.dumps(state)))


@pytest.mark.parametrize("forgets", [True, False])
def test_a_snapshot_of_an_unfinished_epoch_is_forgotten_as_the_engine_would_take_it_for_newer(tmp_path: Path, forgets: bool) -> None:
    init_db_dir(tmp_path, 1)  # type: ignore[no-untyped-call]
    given = [("a", 1), TestingSource.EOF(), ("b", 1), ("b", 1), TestingSource.ABORT(), ("a", 1)]
    assert run(tmp_path, given) == [("a", 1)]
    leave_unfinished(tmp_path, 100)
    if forgets:
        assert forget_unfinished(tmp_path) == 1
    assert run(tmp_path, given) == [("b", 1), ("b", 2)]
    assert run(tmp_path, given)[-1] == ("a", 2 if forgets else 101)  # 101: if the engine has been mended, this module can go


@pytest.mark.parametrize(("process", "left"), [(0, 0), (1, 1)])
def test_of_several_processes_the_first_alone_forgets_what_was_not_finished(tmp_path: Path, process: int, left: int) -> None:
    make_parts(tmp_path)
    with closing(sqlite3.connect(tmp_path / "part-0.sqlite3")) as part, part:
        part.execute("INSERT INTO snaps (step_id, state_key, snap_epoch, ser_change) VALUES ('kpi.fold', 'key', 7, NULL)")
    kpi._recovery({}, ["-r", str(tmp_path), "-i", str(process), "-a", "127.0.0.1:1;127.0.0.1:2"])
    kpi.HELD.pop().close()
    with closing(sqlite3.connect(tmp_path / "part-0.sqlite3")) as part:
        assert part.execute("SELECT count(*) FROM snaps").fetchone() == (left,)


def test_nothing_finished_is_forgotten(tmp_path: Path) -> None:
    init_db_dir(tmp_path, 3)  # type: ignore[no-untyped-call]
    assert forget_unfinished(tmp_path) == 0
    given = [("a", 1), TestingSource.EOF(), ("b", 1), ("b", 1), TestingSource.EOF(), ("a", 1)]
    for wanted in ([("a", 1)], [("b", 1), ("b", 2)], [("a", 2)]):
        assert run(tmp_path, given) == wanted
        assert forget_unfinished(tmp_path) == 0


def test_a_directory_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    init_db_dir(tmp_path, 3)  # type: ignore[no-untyped-call]
    (tmp_path / "part-1.sqlite3").unlink()
    with pytest.raises(ConfigError, match="2 of 3 recovery parts"):
        forget_unfinished(tmp_path)


def test_a_part_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "part-0.sqlite3").write_text("no database, but long enough to look at")
    with pytest.raises(ConfigError, match="want recovery parts that can be read"):
        forget_unfinished(tmp_path)


def test_what_a_step_has_snapshotted_last_can_be_read_and_what_was_not_finished_is_left_out(tmp_path: Path) -> None:
    init_db_dir(tmp_path, 2)  # type: ignore[no-untyped-call]
    run(tmp_path, [("a", 1), ("b", 2), ("a", 4), TestingSource.EOF()])
    leave_unfinished(tmp_path, 100)

    assert sorted(states(tmp_path, "count.sum.stateful_flat_map.stateful.stateful_batch")) == [2, 5]
    assert states(tmp_path, "no.such.step") == []


def test_a_directory_that_is_no_recovery_directory_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "part-0.sqlite3").write_text("no database")
    with pytest.raises(ConfigError, match=r"-r: got .*want recovery parts that can be read"):
        states(tmp_path, "x")
