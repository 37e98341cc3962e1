"""The programs that people start by hand: --help helps, and a word too much is one line."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAMS = {
    "flows.simulate": "SIM_RATE",
    "flows.supervise": "KPI_WORKERS",
    "flows.inquiry": "KPI_CONFIG",
    "serve": "DASHBOARD_SESSIONS",
    "kpitest": "UPDATE=1",
    "infra.init": "DEMO=remove",
    "infra.embedded": "COMMAND",
    "infra.embedded.demo": "DASHBOARD_PORT",
}


def run(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_says_what_can_be_set(program: str) -> None:
    done = run(program, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: python -m {program}" in done.stdout
    assert PROGRAMS[program] in done.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_option_that_is_not_there_is_one_line(program: str) -> None:
    done = run(program, "--speed=high")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith(": unknown: --speed=high; --help says what there is")
