"""`make bench` on real parts, small: rates of nothing, but results of all that runs."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_small_bench_checks_the_flow_and_a_peer_and_writes_its_page(tmp_path: Path) -> None:
    only = [part for name in ("flow", "flow-at-least-once", "stock-bytewax", "bare") for part in ("--only", name)]
    command = [sys.executable, "-m", "bench", "--events", "40000", "--groups", "50", "--rounds", "1", *only, "--report", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    page = (tmp_path / "benchmark.md").read_text()
    assert "40,000 events of 50 groups" in page
    rows = {row[1].strip(): row[2].strip() for line in page.splitlines() if (row := line.split("|"))[0] == "" and len(row) > 2}
    assert {name for name, rate in rows.items() if rate[:1].isdigit()} == {
        "the flow, exactly once",
        "the flow, at least once",
        "stock Bytewax",
        "bare consumer",
    }, ran.stdout
    assert "What did not go well" not in page
