"""Figures. In: the sources of `serve.lines`, a KPI. Out: Bokeh figures. Knows no topic, holds no thread.

Finals are solid, provisional points dashed and hollow; a window closed by idle has a ring. What is not there looks like nothing else:
a missing window is a hatched strip, an unknown value a dotted one, and zero is a point at zero. Colours of axes and grids are CSS variables,
so that a theme changes them.
"""

from collections.abc import Sequence
from typing import Any

from bokeh.models import (
    CDSView,
    ColumnDataSource,
    CrosshairTool,
    CustomJSFilter,
    CustomJSHover,
    CustomJSTickFormatter,
    DatetimeTickFormatter,
    FactorRange,
    GroupFilter,
    HoverTool,
    Range,
)
from bokeh.models.annotations import Span
from bokeh.plotting import figure

from serve.lines import GAP, OPEN, Lines
from serve.shape import Kpi, Value
from serve.words import literal

HEIGHT = 230
BAR = 24  # pixels of a bar
QUIET = "#808a96"  # seen on light and on dark
NUMBER = 'return Number.isNaN(value) ? "unknown" : new Intl.NumberFormat("en", {maximumSignificantDigits: 10}).format(value)'
SHORT = 'return new Intl.NumberFormat("en", {notation: "compact", maximumSignificantDigits: 4}).format(tick)'
MOMENT = 'return new Date(value).toISOString().slice(0, 19).replace("T", " ")'
COUNT = 'return Number.isNaN(value) ? "" : new Intl.NumberFormat("en").format(value)'
UNKNOWN = f"""const {{how, %s: value}} = source.data
return Array.from(how.keys()).filter((at) => Number.isNaN(value[at]) && !['{GAP}', '{OPEN}'].includes(how[at]))"""
TOOLTIP = """<div class="tip"><b style="color: @colour">@group</b> &nbsp;<b>@{%s}{custom}</b> %s<br>
@start{custom} to @end{custom} UTC<br>@events{custom} events · revision @revision{custom} · @how</div>"""


def chart(kpi: Kpi, band: Sequence[Kpi], lines: Lines, x_range: Range, span: Span) -> figure:
    """One KPI of all lines over time. `span`: the crosshair, shared by all charts.

    `band`: the quantiles of the KPI's family from the lowest to the highest, drawn as an area between these two.
    """
    kpis = lines.shape.kpis
    y, before, provisional = (f"{name}{kpis.index(kpi)}" for name in "ypd")
    plot = figure(
        height=HEIGHT,
        sizing_mode="stretch_width",
        x_axis_type="datetime",
        x_range=x_range,
        window_axis="x",
        tools="xbox_zoom,xpan,reset,save",
        active_drag="xbox_zoom",
        name=f"chart {kpi.name} {lines.shape.window}",
        html_attributes={"role": "img", "aria-label": f"{kpi.name} in windows of {lines.shape.window}; its table holds the same"},
    )
    plot.toolbar.autohide = True
    plot.toolbar.logo = None
    plot.yaxis.formatter = CustomJSTickFormatter(code=SHORT)
    plot.xaxis.formatter = DatetimeTickFormatter(
        seconds="%H:%M:%S", minsec="%H:%M:%S", minutes="%H:%M", hourmin="%H:%M", hours="%H:%M", days="%d %b"
    )
    strip: dict[str, Any] = {"x0": "left", "x1": "right", "source": lines.finals, "fill_alpha": 0, "line_alpha": 0}
    strip |= {"hatch_color": QUIET, "hatch_weight": 0.7}
    plot.vstrip(**strip, hatch_pattern="/", hatch_alpha=0.35, view=_only(GAP), name="gaps")
    unknown = CDSView(filter=CustomJSFilter(code=UNKNOWN % y))
    plot.vstrip(**strip, hatch_pattern=".", hatch_alpha=0.6, view=unknown, name="unknown")
    if len(band) > 1:
        low, high = (f"y{kpis.index(it)}" for it in (band[0], band[-1]))
        plot.quad(
            left="left", right="right", bottom=low, top=high, source=lines.finals, color="colour", alpha=0.18, line_alpha=0, name="band"
        )
    for source, name, dash in ((lines.finals, "finals", "solid"), (lines.open, "open", "dashed")):
        plot.segment("from", before, "start", y, source=source, line_width=1.8, line_dash=dash, line_cap="round", color="colour", name=name)
    plot.scatter("start", y, source=lines.finals, size=2.6, color="colour")
    plot.scatter("start", provisional, source=lines.open, size=5, line_width=1.5, line_color="colour", fill_alpha=0)
    plot.scatter(
        "start", y, source=lines.finals, size=8, line_width=1.2, line_color="colour", fill_alpha=0, view=_only("final, closed by idle")
    )
    reach = [
        plot.vstrip(x0="left", x1="right", source=source, fill_alpha=0, line_alpha=0, view=view)
        for source, view in ((lines.finals, CDSView()), (lines.open, _only(OPEN)))
    ]
    hover = HoverTool(renderers=list[Any](reach), formatters=_formatters(y), visible=False)
    hover.tooltips = TOOLTIP % (y, literal(kpi.unit))
    plot.add_tools(hover)
    plot.add_tools(CrosshairTool(overlay=span, visible=False))
    return plot


def _only(how: str) -> CDSView:
    return CDSView(filter=GroupFilter(column_name="how", group=how))


def _formatters(y: str) -> dict[str, Any]:
    moment, count = CustomJSHover(code=MOMENT), CustomJSHover(code=COUNT)
    return {"@start": moment, "@end": moment, "@events": count, "@revision": count, f"@{{{y}}}": CustomJSHover(code=NUMBER)}


class Bars:
    """The newest window of a KPI that counts by value (by symbol, top k): a bar for each value, the largest on top."""

    def __init__(self, kpi: Kpi, colour: str, window: str) -> None:
        self._factors = FactorRange(factors=[])
        self.source = ColumnDataSource({"value": [], "number": []}, name=f"bars {kpi.name}")
        self.plot = figure(
            height=HEIGHT,
            sizing_mode="stretch_width",
            y_range=self._factors,
            tools="",
            toolbar_location=None,
            name=f"chart {kpi.name} {window}",
            html_attributes={"role": "img", "aria-label": f"{kpi.name} by value, newest window; its table holds the same"},
        )
        self.plot.xaxis.formatter = CustomJSTickFormatter(code=SHORT)
        self.plot.x_range.update(start=0)
        self.plot.ygrid.visible = False
        bars = self.plot.hbar(y="value", right="number", height=0.72, source=self.source, color=colour, line_alpha=0)
        hover = HoverTool(renderers=list[Any]([bars]), formatters={"@number": CustomJSHover(code=NUMBER)}, visible=False)
        hover.tooltips = f'<div class="tip"><b>@value</b> &nbsp;<b>@number{{custom}}</b> {literal(kpi.unit)}</div>'
        self.plot.add_tools(hover)

    def show(self, value: Value) -> None:
        """Draw a window's value; one that is unknown has no bars."""
        pairs = [*reversed(value)] if isinstance(value, tuple) else []
        data = {"value": [name for name, _ in pairs], "number": [number for _, number in pairs]}
        if data != self.source.data:
            factors = [name for name, _ in pairs]
            if factors != self._factors.factors:
                self._factors.factors = factors
                self.plot.height = max(HEIGHT, BAR * len(factors) + 40)
            self.source.data = data
