"""Points as figures. In: points of groups. Out: Bokeh figures and the sources behind them. Knows no topic, holds no thread.

Finals are a solid line, streamed; provisional points a dashed one from the final they hang on, replaced as they change; a window that is
missing or unknown is a gap in both.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    CrosshairTool,
    CustomJSHover,
    CustomJSTickFormatter,
    DataRange1d,
    DatetimeTickFormatter,
    HoverTool,
    Range,
)
from bokeh.models.annotations import Span
from bokeh.models.renderers import DataRenderer
from bokeh.plotting import figure

from serve.series import POINTS, Point
from serve.shape import Kpi, Row
from serve.words import literal, note

# Okabe and Ito's colours, darkened where white would swallow them: eight that people with any colour vision can tell apart.
COLOURS = ("#2563eb", "#d97706", "#059669", "#c026a3", "#0e7490", "#b91c1c", "#6d5bd0", "#57534e")
NUMBER = 'return new Intl.NumberFormat("en", {maximumSignificantDigits: 10}).format(value)'
SHORT = 'return new Intl.NumberFormat("en", {notation: "compact", maximumSignificantDigits: 4}).format(tick)'
MOMENT = 'return new Date(value).toISOString().slice(0, 19).replace("T", " ")'
DASH = [5, 4]
REACH = 16  # pixels across a line that the mouse may be away from it
TOOLTIP = """<div style="font: 12px/1.5 var(--sans); padding: 2px 4px"><b>$name</b> &nbsp;<b>@{%s}{custom}</b> %s<br>
@start{custom} to @end{custom} UTC<br>@note</div>"""


class Gap(NamedTuple):
    """Where windows are missing: [start_ms, end_ms)."""

    start_ms: int
    end_ms: int


def spaced(rows: Iterable[Row]) -> list[Row | Gap]:
    """Rows, oldest first, with a gap wherever a window is missing."""
    shown: list[Row | Gap] = []
    for row in rows:
        if shown and row.start_ms > shown[-1].end_ms:
            shown.append(Gap(shown[-1].end_ms, row.start_ms))
        shown.append(row)
    return shown


def hanging(rows: Sequence[Row]) -> list[Row]:
    """The provisional rows, with the finals before and behind them that their line hangs on."""
    kept = {id(row) for row in rows if not row.final}
    for one, other in pairwise(rows):
        if one.final != other.final:
            kept |= {id(one), id(other)}
    return [row for row in rows if id(row) in kept]


def columns(rows: Sequence[Row | Gap], kpis: int) -> dict[str, Any]:
    """Rows and gaps as a source's columns; `y0`, `y1`... are the values of the KPIs, NaN where there is none."""
    table: dict[str, Any] = {
        "start": np.array([row.start_ms for row in rows], dtype=np.float64),
        "end": np.array([row.end_ms for row in rows], dtype=np.float64),
        "note": [note(row) if isinstance(row, Row) else "no window" for row in rows],
    }
    for at in range(kpis):
        values = [row.values[at] if isinstance(row, Row) else None for row in rows]
        table[f"y{at}"] = np.array([value if isinstance(value, float) else np.nan for value in values], dtype=np.float64)
    return table


class Line:
    """One group in all charts: a source of finals and a source of what is provisional, both with a column for each KPI."""

    def __init__(self, name: str, colour: str, kpis: int) -> None:
        self.name = name
        self.colour = colour
        self.newest: Row | None = None  # the newest final, the newest of all while none is final
        self._kpis = kpis
        self._seen = 0
        self._last: Row | None = None
        self.finals = ColumnDataSource(columns([], kpis), name=f"finals {name}")
        self.open = ColumnDataSource(self._open([]), name=f"open {name}")

    def show(self, version: int, points: Sequence[Point]) -> bool:
        """Bring the sources up to the points, with as little to send as can be. False where there is nothing new."""
        if version == self._seen:
            return False
        rows = [point.row for point in points]
        finals = [row for row in rows if row.final]
        last = self._last
        rewritten = last is None or any(p.row.final and p.change > self._seen and p.row.start_ms <= last.start_ms for p in points)
        if last is None or rewritten:
            self.finals.data = columns(spaced(finals), self._kpis)
        elif new := [row for row in finals if row.start_ms > last.start_ms]:
            self.finals.stream(columns(spaced([last, *new])[1:], self._kpis), rollover=POINTS)
        self.open.data = self._open(rows)
        self._seen = version
        self._last = next(reversed(finals), None)
        self.newest = next(reversed(finals or rows), None)
        return True

    def _open(self, rows: Sequence[Row]) -> dict[str, Any]:
        shown = spaced(hanging(rows))
        table = columns(shown, self._kpis)
        provisional = np.array([isinstance(row, Row) and not row.final for row in shown], dtype=bool)
        return table | {f"d{at}": np.where(provisional, table[f"y{at}"], np.nan) for at in range(self._kpis)}


def chart(kpi: Kpi, at: int, lines: Sequence[Line], x_range: Range, span: Span) -> figure:
    """One KPI of all lines over time. `at`: its place in the columns. `span`: the crosshair, shared by all charts."""
    plot = figure(
        height=230,
        sizing_mode="stretch_width",
        x_axis_type="datetime",
        x_range=x_range,
        tools="xbox_zoom,xpan,reset,save",
        active_drag="xbox_zoom",
        name=f"chart {kpi.name}",
        html_attributes={"role": "img", "aria-label": f"{kpi.name} over time, {len(lines)} lines"},
    )
    plot.toolbar.autohide = True
    plot.toolbar.logo = None
    plot.yaxis.formatter = CustomJSTickFormatter(code=SHORT)
    plot.xaxis.formatter = DatetimeTickFormatter(
        seconds="%H:%M:%S", minsec="%H:%M:%S", minutes="%H:%M", hourmin="%H:%M", hours="%H:%M", days="%d %b"
    )
    reach: list[DataRenderer] = []
    for line in lines:
        for source, dash in ((line.finals, []), (line.open, DASH)):
            plot.line("start", f"y{at}", source=source, line_width=1.8, line_dash=dash, color=line.colour)
            reach.append(plot.line("start", f"y{at}", source=source, line_width=REACH, line_alpha=0, name=line.name))
        plot.scatter("start", f"y{at}", source=line.finals, size=2.2, color=line.colour)  # seen only where a point has no neighbours
        plot.scatter("start", f"d{at}", source=line.open, size=5, line_width=1.5, line_color=line.colour, fill_color="white")
    formatters: dict[str, Any] = {"@start": CustomJSHover(code=MOMENT), "@end": CustomJSHover(code=MOMENT)}
    formatters[f"@{{y{at}}}"] = CustomJSHover(code=NUMBER)
    hover = HoverTool(renderers=reach, line_policy="nearest", formatters=formatters, visible=False)
    hover.mode = "vline" if len(lines) == 1 else "mouse"  # the tooltips of several lines would cover each other
    hover.tooltips = TOOLTIP % (f"y{at}", literal(kpi.unit))
    plot.add_tools(hover)
    plot.add_tools(CrosshairTool(overlay=span, visible=False))
    return plot


def spark(at: int, line: Line) -> figure:
    """A small chart of the finals of one KPI, without axes, for an overview tile."""
    plot = figure(height=54, sizing_mode="stretch_width", toolbar_location=None, tools="", x_range=DataRange1d(range_padding=0))
    plot.update(min_border_left=0, min_border_right=0, min_border_top=0, min_border_bottom=0)
    plot.axis.visible = False
    plot.grid.visible = False
    plot.outline_line_color = None
    plot.line("start", f"y{at}", source=line.finals, line_width=1.8, color=line.colour)
    return plot
