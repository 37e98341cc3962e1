"""The rates as bars. In: JSON of bench/report.py on stdin, a path. Out: an SVG. Runs in the environment of bench/requirements.lock."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

INK, OURS, OTHERS = "#1f2328", "#2f81f7", "#8b949e"
# A picture in a page cannot know the page's colour, but the reader's choice.
NIGHT = "".join(f'[style*="{part}: {INK}"] {{{part}: #e6edf3 !important}}' for part in ("fill", "stroke"))
NIGHT = f"<style>@media (prefers-color-scheme: dark) {{{NIGHT}}}</style>"


def draw(bars: list[dict[str, Any]]) -> str:
    """A panel for each number of window sizes, the fastest on top, the range of the runs as a line."""
    panels = list(dict.fromkeys(bar["panel"] for bar in bars))
    sizes = [sum(bar["panel"] == panel for bar in bars) for panel in panels]
    plt.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "bench", "font.size": 10})
    for part in ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"):
        plt.rcParams[part] = INK
    height = 0.42 * sum(sizes) + 0.9 * len(panels)
    figure, axes = plt.subplots(len(panels), 1, figsize=(8, height), sharex=True, squeeze=False, height_ratios=sizes, layout="constrained")
    for panel, (axis,) in zip(panels, axes, strict=True):
        shown = sorted((bar for bar in bars if bar["panel"] == panel), key=lambda bar: float(bar["middle"]))
        middles = [bar["middle"] for bar in shown]
        ranges = [[bar["middle"] - bar["low"] for bar in shown], [bar["high"] - bar["middle"] for bar in shown]]
        colors = [OURS if bar["ours"] else OTHERS for bar in shown]
        axis.barh([bar["name"] for bar in shown], middles, xerr=ranges, color=colors, ecolor=INK, capsize=2, height=0.7)
        for place, bar in enumerate(shown):
            axis.annotate(f"{bar['middle']:,.0f}", (bar["high"], place), xytext=(6, 0), textcoords="offset points", va="center")
        axis.set_xscale("log")
        axis.margins(x=0.25)
        axis.set_title(panel, loc="left", fontsize=11)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.spines[["top", "right"]].set_visible(False)
        axis.patch.set_alpha(0)
    smallest = min(bar["low"] for bar in bars)
    axes[-1][0].set_xlim(left=10 ** (len(str(int(smallest))) - 1) / 2)
    axes[-1][0].set_xlabel("events a second, logarithmic")
    figure.patch.set_alpha(0)
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    at = text.index(">", text.index("<svg")) + 1
    return "\n".join(line.rstrip() for line in (text[:at] + NIGHT + text[at:]).splitlines()) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw(json.load(sys.stdin)))
