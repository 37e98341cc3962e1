"""What a step does with a state that it cannot read. In a process of its own, as that ends."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from flows.stop import MISMATCH
from flows.vault import packed

ROOT = Path(__file__).parents[1]
OLD = {"version": 1}
STATE = "{'version': 4, 'marks': {}, 'closed': (0, 0), 'scales': {}, 'since': {}, 'windows': {}, 'levels': {0: [%r]}}"
TABLE = bytearray(packed(pl.DataFrame({"a": range(5_000)})))
TABLE[len(TABLE) // 2] ^= 255


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (f"FoldLogic(set(), {OLD})", "state of version 1, this program reads version 4"),
        (f"RestLogic({OLD})", "state of version 1, this program reads version 4"),
        (f"FoldLogic(set(), {STATE % b'ARROW1 but no more'})", ""),
        (f"FoldLogic(set(), {STATE % b'no table'})", "a table that is cut short"),
        (f"FoldLogic(set(), {STATE % bytes(TABLE)})", "a table that is none"),
        (f"FoldLogic(set(), {STATE.replace('marks', 'remarks') % b''})", "'marks' (KeyError)"),
    ],
)
def test_a_state_that_cannot_be_read_ends_the_process_with_the_way_on(step: str, why: str) -> None:
    script = f"from flows.topology import FoldLogic, RestLogic; {step}"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == MISMATCH, ended.stderr
    assert ended.stderr.startswith(f"kpi: the recovery directory holds what cannot be read: {why}")
    assert "bring back the program that wrote it, or its backup, or begin anew: `make reset` says" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
