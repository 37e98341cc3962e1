"""`python -m bench.draw RESULTS PICTURE`: every curve, small, in one picture. In: what bench.scale has measured. Out: an SVG.

matplotlib is no dependency of the project: this runs in an environment that has it (see the Makefile), and imports it when it draws.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.curves import CURVES, medians

ACROSS = 3
PANEL = (3.6, 2.5)  # inches
BLUE, ORANGE = "#1f6fb4", "#d9822b"
# Curve -> what is drawn: a key of a result, what it is, its unit in the result, on the left or (the second) on the right.
DRAWN = (("cpu_s", "CPU s a million events", 1.0), ("rate", "million events/s", 1e6))
OF_STATE = (("snapshot_s", "the dearest snapshot, s", 1.0), ("recovery_s", "recovery s", 1.0))


def draw(results: Mapping[str, Any], picture: Path) -> None:
    """Write the picture; the same results give the same bytes."""
    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "scale", "font.size": 8, "axes.spines.top": False})
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    names = [name for name in CURVES if name in results["curves"]] + (["backlog"] if results.get("backlog") else [])
    down = -(-len(names) // ACROSS)
    figure, panels = pyplot.subplots(down, ACROSS, figsize=(PANEL[0] * ACROSS, PANEL[1] * down), squeeze=False)
    for panel, name in zip(panels.flat, names, strict=False):
        if name == "backlog":
            _backlog(panel, results["backlog"]["curve"])
        else:
            _curve(panel, name, results["curves"][name])
    for panel in panels.flat[len(names) :]:
        panel.axis("off")
    figure.tight_layout()
    figure.savefig(picture, metadata={"Date": None})
    pyplot.close(figure)


def _curve(panel: Any, name: str, points: list[Mapping[str, Any]]) -> None:  # noqa: ANN401 - matplotlib is not here to give types
    curve, middles = CURVES[name], [medians(point["rounds"]) for point in points]
    shape = [point["x"] for point in points]
    panel.set_title(curve.title)
    panel.set_xlabel(curve.axis.split(" (")[0])
    for axes, (key, what, unit), colour in zip((panel, panel.twinx()), OF_STATE if name == "state" else DRAWN, (BLUE, ORANGE), strict=True):
        axes.plot(shape, [middle.get(key, float("nan")) / unit for middle in middles], marker="o", markersize=3, color=colour)
        axes.set_ylabel(what, color=colour)
        axes.set_ylim(bottom=0)
    if curve.log:
        panel.set_xscale("log")
    panel.set_xticks(shape, [_short(point["label"]) for point in points])
    panel.minorticks_off()


def _short(label: str) -> str:
    return label.replace(",000,000", "M").replace(",000", "k")


def _backlog(panel: Any, curve: list[tuple[int, float, int]]) -> None:  # noqa: ANN401 - as above
    seconds, read, memory = zip(*curve, strict=True)
    panel.set_title("A backlog")
    panel.set_xlabel("s")
    for axes, values, what, colour in ((panel, memory, "MB", BLUE), (panel.twinx(), read, "million messages read", ORANGE)):
        axes.plot(seconds, values, color=colour)
        axes.set_ylabel(what, color=colour)
        axes.set_ylim(bottom=0)


def main() -> None:
    """The picture of a file of results."""
    results, picture = map(Path, sys.argv[1:3])
    draw(json.loads(results.read_text()), picture)


if __name__ == "__main__":
    main()
