"""`make demo`, as a person runs it: twice in a row, ended with Ctrl-C, with a port in use, with a program that dies."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from infra.embedded.child import free_port

ROOT = Path(__file__).parents[2]
PROGRAMS = {"flows.kpi": "kpi", "flows.simulate": "simulate", "serve": "dashboard"}


class Demo:
    """A demo that runs in a process group of its own, as in a terminal, with its temporary directory in `scratch`."""

    def __init__(self, scratch: Path, **environ: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infra.embedded.demo"],
            env={**os.environ, "DASHBOARD_PORT": str(self.port), "TMPDIR": str(scratch), **environ},
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self.said: list[str] = []

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read on until a line has the pattern in it."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            if found := re.search(pattern, line):
                return found
        raise AssertionError("".join(self.said))

    def children(self) -> list[psutil.Process]:
        """Every process below it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def program(self, word: str) -> psutil.Process:
        """The one whose command line has this word."""
        (found,) = [child for child in self.children() if word in child.cmdline()]
        return found

    def rest(self) -> str:
        """What it says until it ends."""
        assert self.process.stderr is not None
        return self.process.stderr.read()


@contextmanager
def demo(scratch: Path, **environ: str) -> Iterator[Demo]:
    """A demo that is killed if the test does not end it."""
    running = Demo(scratch, **environ)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.communicate()


def ended(children: list[psutil.Process]) -> bool:
    """Whether all of them are gone, at once or very soon."""
    return psutil.wait_procs(children, timeout=2)[1] == []


@pytest.mark.timeout(300)  # two whole demos
def test_it_starts_twice_in_a_row_and_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    for _ in range(2):
        with demo(tmp_path) as running:
            address = running.wait_for(r"The dashboard:\s+(http://\S+)")[1]
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address, timeout=20) as page:
                assert page.status == 200
            children = running.children()
            assert {name for word, name in PROGRAMS.items() if running.program(word)} == set(PROGRAMS.values())
            assert len(children) == 5
            os.killpg(running.process.pid, signal.SIGINT)
            assert running.process.wait(20) == 0
            assert ended(children)
            assert "Traceback" not in running.rest()
            assert list(tmp_path.glob("kpi-flow-*")) == []


def test_every_program_ends_well_and_no_log_tells_of_a_fault(tmp_path: Path) -> None:
    with demo(tmp_path, DEMO_SECONDS="3") as running:
        running.wait_for("The dashboard")
        said = running.rest()
        assert running.process.wait(20) == 0
    assert "ended with exit code" not in said
    logs = {log.stem: log.read_text() for log in (ROOT / ".demo" / str(running.port)).glob("*.log")}
    assert set(logs) == set(PROGRAMS.values())
    assert {name for name, log in logs.items() if "Traceback" in log or "panicked" in log} == set()


def test_ctrl_c_while_it_boots_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.wait_for("starting Kafka")
        children = running.children()
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.process.wait(20) == 0
        assert ended(children)
        assert "Traceback" not in running.rest()
        assert list(tmp_path.glob("kpi-flow-*")) == []


@pytest.mark.parametrize("word", ["flows.kpi"])
def test_a_program_that_dies_is_named_and_ends_the_demo(word: str, tmp_path: Path) -> None:
    with demo(tmp_path) as running:
        running.wait_for("The dashboard")
        children = running.children()
        running.program(word).kill()
        assert running.process.wait(20) == 1
        assert ended(children)
        said = running.rest()
        assert f"demo: {PROGRAMS[word]} ended with exit code -9; the end of its log" in said
        assert "Traceback" not in said


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        finished = run(DASHBOARD_PORT=str(port))
    assert finished.returncode == 1
    assert finished.stderr == f"demo: port {port} is in use; choose another: DASHBOARD_PORT={port + 1} make demo\n"


@pytest.mark.parametrize(
    ("name", "got", "want"),
    [
        ("DASHBOARD_PORT", "http", "a port from 1 to 65535"),
        ("DASHBOARD_PORT", "70000", "a port from 1 to 65535"),
        ("DEMO_SECONDS", "1m", "a number of seconds"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(name: str, got: str, want: str) -> None:
    finished = run(**{name: got})
    assert finished.returncode == 1
    assert finished.stderr == f"demo: {name}: got {got}, want {want}\n"


def run(**environ: str) -> subprocess.CompletedProcess[str]:
    """The demo to its end."""
    command = [sys.executable, "-m", "infra.embedded.demo"]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environ}, capture_output=True, text=True, timeout=60, check=False)
