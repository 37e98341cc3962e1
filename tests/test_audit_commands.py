"""The targets of the Makefile: what they take, and what they say when it is missing."""

import os
import pty
import subprocess
import sys

import pytest

from audit.replay import REASONS
from flows.intake import FATES
from flows.reset import plan
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


def test_reset_says_what_it_means_for_verify_and_repair() -> None:
    said = " ".join(plan(ROOT / "none", "kpi", {}))
    assert "`make verify` then compares what was published since, and only counts what stands before" in said
    assert "`make repair` is to be done once more" in said
    told = subprocess.run(
        [sys.executable, "-m", "audit.verify", "--help"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert "After `make reset` the flow reads its topics from `start` again" in told.stdout
    assert "nothing that is doubled is found" in told.stdout


@pytest.mark.parametrize(("answer", "agreed"), [(b"y\n", True), (b"Yes\n", True), (b"n\n", False), (b"\n", False), (b"\x04", False)])
def test_only_yes_is_a_yes_and_else_nothing_is_changed(answer: bytes, agreed: bool) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    script = "import sys; from audit.write import confirmed; sys.exit(confirmed('sure?', yes=False))"
    said = subprocess.run([sys.executable, "-c", script], stdin=theirs, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    os.close(ours)
    os.close(theirs)
    assert said.returncode == agreed, said.stderr
    assert said.stderr == "sure? [y/N] "
    assert said.stdout == ("" if agreed else "nothing was changed\n")


def test_with_nobody_at_a_terminal_nothing_is_done_and_how_to_do_it_is_said() -> None:
    script = "import sys; from audit.write import confirmed; sys.exit(confirmed('sure?', yes=False))"
    for stdin in ("< /dev/null", "<&-"):
        said = subprocess.run(
            f'"{sys.executable}" -c "{script}" {stdin}', shell=True, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        assert (said.returncode, said.stdout, said.stderr) == (0, "nothing was changed; to do it: YES=1 (--yes)\n", "")


def test_the_list_of_targets_has_those_with_a_dash() -> None:
    said = subprocess.run(["make", "--silent", "help"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert {"verify", "repair", "replay-dead"} <= {line.split()[1] for line in said.stdout.splitlines() if line.startswith("make ")}


def test_the_reasons_of_dead_letters_are_those_that_the_flow_gives() -> None:
    assert set(REASONS) == set(FATES) - {"tombstone", "late", "filtered", "folded"}
