"""The targets of the Makefile: what they take, and what they say when it is missing."""

import subprocess
import sys

import pytest

from tests.test_docs import ROOT


@pytest.mark.parametrize("target", ["verify", "repair", "replay-dead"])
def test_a_target_without_a_topic_says_what_it_needs_in_one_line(target: str) -> None:
    said = subprocess.run(["make", "--silent", target], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert said.returncode == 2
    first = said.stderr.splitlines()[0]
    assert first.startswith(f"make {target}: needs a source topic: make {target} TOPIC=")


@pytest.mark.parametrize("module", ["verify", "repair", "replay"])
def test_every_command_explains_itself(module: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", f"audit.{module}", "--help"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert said.returncode == 0
    assert "topic" in said.stdout


def test_the_list_of_targets_has_those_with_a_dash() -> None:
    said = subprocess.run(["make", "--silent", "help"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert {"verify", "repair", "replay-dead"} <= {line.split()[1] for line in said.stdout.splitlines() if line.startswith("make ")}
