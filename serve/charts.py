"""Figures. In: the sources of `serve.lines`, a KPI. Out: Bokeh figures. Knows no topic, holds no thread.

Finals are solid, provisional points dashed and hollow; a window closed by idle has a square around it. What is not there looks like nothing
else: a missing window is a hatched strip, an unknown value a dotted one, and zero is a point at zero. CSS variables colour axes and grids,
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
    DataRange1d,
    DatetimeTicker,
    DatetimeTickFormatter,
    FactorRange,
    GroupFilter,
    HoverTool,
    InlineStyleSheet,
    Quad,
    Scatter,
    Segment,
    VStrip,
)
from bokeh.models.annotations import Span
from bokeh.plotting import figure

from serve.lines import GAP, Lines
from serve.shape import IDLE, OPEN, Kpi, Value
from serve.words import literal, short_bound

HEIGHT = 230
BAR, THIN, FEW = 24, 15, 20  # pixels of a bar, of one of more than FEW
POINT, SESSION = 2.6, 7.0  # pixels of a point; that of a session is also what the mouse has to meet, as between two of them is nothing
QUIET = "#808a96"  # seen on light and on dark
NUMBER = 'return Number.isNaN(value) ? "unknown" : new Intl.NumberFormat("en", {maximumSignificantDigits: 10}).format(value)'
BOUND = NUMBER + ' + (Math.abs(value) > exact ? bound : "")'
LENGTH = """const seconds = value / 1000, whole = Math.floor(seconds)
const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"], [Math.floor(whole / 60) % 60, "min"]]
const said = parts.filter(([n]) => n).map(([n, unit]) => `${n} ${unit}`)
return [...said, `${Number((seconds % 60).toFixed(3))} s`].join(" ")"""
SHORT = 'return new Intl.NumberFormat("en", {notation: "compact", maximumSignificantDigits: 4}).format(tick)'
MOMENT = 'return new Date(value).toISOString().slice(0, 19).replace("T", " ")'
COUNT = 'return Number.isNaN(value) ? "" : new Intl.NumberFormat("en").format(value)'
UNKNOWN = f"""const {{how, %s: value}} = source.data
return Array.from(how.keys()).filter((at) => Number.isNaN(value[at]) && !['{GAP}', '{OPEN}'].includes(how[at]))"""
TIP = "font: 12px/1.5 var(--sans); padding: 2px 4px"
TOOLTIP = f"""<div style="{TIP}"><b style="color: @colour">@group</b> &nbsp;<b>@{{%s}}{{custom}}</b> %s<br>
@start{{custom}} to @end{{custom}} UTC%s<br>@events{{custom}} events · revision @revision{{custom}} · @how</div>"""


class Together:
    """What all charts of one window size share: their range of time, so that they move as one, and every part that need not be made again.

    A chart without them is 60 Bokeh models more, which is half of a session's memory.
    """

    def __init__(self, lines: Lines, style: InlineStyleSheet) -> None:
        self.lines = lines
        self.style = style
        self.x_range = DataRange1d(range_padding=0.03, default_span=10 * lines.shape.spacing_ms)
        self.crosshair = Span(dimension="height", line_color="#94a3b8", line_width=1)
        self.all = {source.id: CDSView() for source in (lines.finals, lines.open)}
        self.gaps, self.idle, self.provisional = (_only(how) for how in (GAP, IDLE, OPEN))
        self.number, self.moment, self.count, self.length = (CustomJSHover(code=code) for code in (NUMBER, MOMENT, COUNT, LENGTH))
        self.short = CustomJSTickFormatter(code=SHORT)
        self.ticker = DatetimeTicker()
        self.clock = DatetimeTickFormatter(
            seconds="%H:%M:%S", minsec="%H:%M:%S", minutes="%H:%M", hourmin="%H:%M", hours="%H:%M", days="%d %b"
        )


def _only(how: str) -> CDSView:
    return CDSView(filter=GroupFilter(column_name="how", group=how))


def chart(kpi: Kpi, band: Sequence[Kpi], together: Together) -> figure:
    """One KPI of all lines over time. `band`: the quantiles of its family, the area between the lowest and the highest is filled."""
    lines = together.lines
    kpis = lines.shape.kpis
    y, before, provisional = (f"{name}{kpis.index(kpi)}" for name in "ypd")
    plot = figure(
        height=HEIGHT,
        sizing_mode="stretch_width",
        x_axis_type="datetime",
        x_range=together.x_range,
        stylesheets=[together.style],
        tools="xbox_zoom,xpan,reset,save",
        active_drag="xbox_zoom",
        name=f"chart {kpi.name} {lines.shape.window}",
        html_attributes={"role": "img", "aria-label": f"{kpi.name}, {lines.shape.spoken}; its table holds the same"},
    )
    plot.toolbar.update(autohide=True, logo=None)
    plot.yaxis.formatter = together.short
    plot.xaxis.update(formatter=together.clock, ticker=together.ticker)
    plot.xgrid.ticker = together.ticker

    def draw(source: ColumnDataSource, glyph: Any, view: CDSView | None = None, name: str = "") -> Any:  # noqa: ANN401 - any glyph
        return plot.add_glyph(source, glyph, view=view or together.all[source.id], name=name or None)

    strip: dict[str, Any] = {"x0": "left", "x1": "right", "fill_alpha": 0, "line_alpha": 0, "hatch_color": QUIET, "hatch_weight": 0.7}
    draw(lines.finals, VStrip(**strip, hatch_pattern="/", hatch_alpha=0.35), together.gaps, "gaps")
    unknown = CDSView(filter=CustomJSFilter(code=UNKNOWN % y))
    draw(lines.finals, VStrip(**strip, hatch_pattern=".", hatch_alpha=0.6), unknown, "unknown")
    if len(band) > 1:
        low, high = (f"y{kpis.index(it)}" for it in (band[0], band[-1]))
        area = Quad(left="left", right="right", bottom=low, top=high, fill_color="colour", fill_alpha=0.18, line_color=None)
        draw(lines.finals, area, name="band")
    piece: dict[str, Any] = {
        "x0": "from",
        "y0": before,
        "x1": "at",
        "y1": y,
        "line_color": "colour",
        "line_width": 1.8,
        "line_cap": "round",
    }
    draw(lines.finals, Segment(**piece), name="finals")
    draw(lines.open, Segment(**piece, line_dash="dashed"), name="open")
    is_session = lines.shape.kind.is_session
    points = draw(lines.finals, Scatter(x="at", y=y, size=SESSION if is_session else POINT, fill_color="colour", line_color=None))
    hollow: dict[str, Any] = {"x": "at", "line_color": "colour", "fill_alpha": 0}
    draw(lines.open, Scatter(**hollow, y=provisional, size=5, line_width=1.5))
    draw(lines.finals, Scatter(**hollow, y=y, size=8, line_width=1.2, marker="square"), together.idle, "idle")
    reach = VStrip(x0="left", x1="right", fill_alpha=0, line_alpha=0)
    reached = [points] if is_session else [draw(lines.finals, reach), draw(lines.open, reach, together.provisional)]
    plot.add_tools(_hover(kpi, y, reached, together), CrosshairTool(overlay=together.crosshair, visible=False))
    return plot


def _hover(kpi: Kpi, y: str, reached: Sequence[Any], together: Together) -> HoverTool:
    """What is said of the window below the mouse."""
    moment, count, number = together.moment, together.count, together.number
    if kpi.error:
        number = CustomJSHover(args={"exact": kpi.exact_up_to, "bound": f" {short_bound(kpi)}"}, code=BOUND)
    formatters: dict[str, Any] = {"@start": moment, "@end": moment, "@events": count, "@revision": count, f"@{{{y}}}": number}
    length = ""
    if together.lines.shape.kind.is_session:
        formatters["@length"], length = together.length, " · @length{custom} long"
    hover = HoverTool(renderers=list[Any](reached), formatters=formatters, visible=False)
    hover.tooltips = TOOLTIP % (y, literal(kpi.unit), length)
    return hover


class Bars:
    """The newest window of a KPI that counts by value (by symbol, top k, by bins): a bar for each value, in their order from above."""

    def __init__(self, kpi: Kpi, together: Together) -> None:
        self._factors = FactorRange(factors=[])
        self.source = ColumnDataSource({"value": [], "number": []}, name=f"bars {kpi.name}")
        self.plot = figure(
            height=HEIGHT,
            sizing_mode="stretch_width",
            y_range=self._factors,
            stylesheets=[together.style],
            tools="",
            toolbar_location=None,
            name=f"chart {kpi.name} {together.lines.shape.window}",
            html_attributes={"role": "img", "aria-label": f"{kpi.name} by value, newest window; its table holds the same"},
        )
        self.plot.xaxis.formatter = together.short
        self.plot.x_range.update(start=0)
        self.plot.ygrid.visible = False
        bars = self.plot.hbar(y="value", right="number", height=0.72, source=self.source, color=together.lines.colours[0], line_alpha=0)
        hover = HoverTool(renderers=list[Any]([bars]), formatters={"@number": together.number}, visible=False)
        hover.tooltips = f'<div style="{TIP}"><b>@value</b> &nbsp;<b>@number{{custom}}</b> {literal(kpi.unit)}</div>'
        self.plot.add_tools(hover)

    def show(self, value: Value) -> None:
        """Draw a window's value; one that is unknown has no bars."""
        pairs = [*reversed(value)] if isinstance(value, tuple) else []
        data = {"value": [name for name, _ in pairs], "number": [number for _, number in pairs]}
        if data != self.source.data:
            factors = [name for name, _ in pairs]
            if factors != self._factors.factors:
                self._factors.factors = factors
                self.plot.height = max(HEIGHT, (BAR if len(factors) <= FEW else THIN) * len(factors) + 40)
            self.source.data = data
