"""`python -m bench.draw_latency in.json out.svg`: the histograms of bench.latency. In: JSON. Out: a picture. Needs matplotlib."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

SHARES = ("p50", "p99", "p99.9")


def draw(found: dict[str, Any], out: Path) -> None:
    """A histogram for each run, of provisional and of final rows."""
    pyplot: Any = importlib.import_module("matplotlib.pyplot")  # of the environment that draws, not of the one that measures
    pyplot.rcParams["svg.hashsalt"] = "kpi"  # the same picture of the same figures
    figure, rows = pyplot.subplots(len(found["runs"]), 2, figsize=(10, 3 * len(found["runs"])), squeeze=False, layout="constrained")
    for run, axes in zip(found["runs"], rows, strict=True):
        for kind, axis in zip(("provisional", "final"), axes, strict=True):
            of_one = run[kind]
            axis.bar(*zip(*of_one["bars"], strict=True), width=of_one["bar_ms"], align="edge")
            for name in SHARES:
                axis.axvline(of_one[name], linestyle=":", color="black")
            said = ", ".join(f"{name} {of_one[name]:,.0f} ms" for name in SHARES)
            axis.set(xlabel="ms", ylabel="rows", xlim=(0, None))
            axis.set_title(f"update {run['update']}, {kind}: {said}", fontsize=9)
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
