"""One flow a recovery directory, and an end that says why."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flows.recovery import lock
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
