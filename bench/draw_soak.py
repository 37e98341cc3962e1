"""`python -m bench.draw_soak in.json out.svg`: the curves of bench.soak. In: JSON. Out: a picture. Needs matplotlib."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

KINDS = {"MiB of memory": ("rss", "uss"), "MiB of the recovery directory": ("recovery",), "events of lag": ("lag",)}


def draw(found: dict[str, Any], out: Path) -> None:
    """Memory, recovery directory and lag over the minutes."""
    pyplot: Any = importlib.import_module("matplotlib.pyplot")  # of the environment that draws, not of the one that measures
    pyplot.rcParams["svg.hashsalt"] = "kpi"  # the same picture of the same figures
    figure, axes = pyplot.subplots(len(KINDS), 1, figsize=(9, 8), sharex=True, layout="constrained")
    minutes = [sample["at_s"] / 60 for sample in found["samples"]]
    for axis, (label, names) in zip(axes, KINDS.items(), strict=True):
        for name in names:
            axis.plot(minutes, [sample[name] for sample in found["samples"]], label=name.upper())
        axis.set(ylabel=label, ylim=(0, None))
        if len(names) > 1:
            axis.legend(loc="lower right")
    axes[-1].set(xlabel="minutes")
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
