"""One flow a recovery directory, and an end that says why."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flows.recovery import check_others, lock, lock_all, lock_supervisor, wait_for_processes
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
