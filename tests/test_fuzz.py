"""The decoder under fire (see fuzz.py): child processes with little memory and a small stack, so that a crash is a finding, not the end."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz import BOMBS

ROOT = Path(__file__).parents[1]
CHILDREN = 20
MESSAGES = 2_000_000
BODIES = 4_000
LIMIT_S = 110


def child(*arguments: object) -> "subprocess.Popen[str]":
    """One thread of polars and one heap: what the limits count is then what the decoder takes."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "POLARS_MAX_THREADS": "1", "MALLOC_ARENA_MAX": "1", "RUST_BACKTRACE": "0"}
    command = [sys.executable, "-m", "tests.fuzz", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(started: "subprocess.Popen[str]") -> dict[str, Any]:
    """What a child found; a failure that names its seed when it crashed, hung, or found something wrong."""
    try:
        out, err = started.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        started.kill()
        started.communicate()
        raise AssertionError(f"{started.args!r}: not within {LIMIT_S} s") from None
    assert started.returncode == 0, f"{started.args!r}: exit code {started.returncode}: {out} {err[-2000:]}"
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize("seed", range(CHILDREN))
def test_what_is_accepted_of_mutated_messages_is_what_fastavro_reads(seed: int) -> None:
    """2,000,000 in all. Each accepted one is read by fastavro too, every column compared; 1 in 50 is also judged alone."""
    found = told(child("messages", seed, MESSAGES // CHILDREN))
    assert found["messages"] >= MESSAGES // CHILDREN
    assert found["accepted"] > found["messages"] // 10
    assert found["malformed"] > found["messages"] // 10
    assert found["range"] > 0


def test_a_mutated_body_is_cut_into_records_or_refused() -> None:
    found = told(child("bodies", 1, BODIES))
    assert found["cut"] + found["refused"] == BODIES
    assert min(found.values()) > BODIES // 10


@pytest.mark.parametrize("first", range(4))
def test_a_message_takes_no_more_than_50_ms_and_50_mib(first: int) -> None:
    """Each of BOMBS in a process of its own that cannot have more."""
    for number in range(first, len(BOMBS), 4):
        found = told(child("bomb", number))
        assert len(found["rejected"]) == 1, BOMBS[number]
        assert found["ms"] <= 50, BOMBS[number]
        assert found["kib"] <= 50 * 1024, BOMBS[number]
