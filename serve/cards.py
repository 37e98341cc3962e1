"""A card for each chart: its words, its figure, and the table behind it. In: lines, a KPI. Out: Bokeh models that follow them."""

from collections.abc import Callable, Sequence
from functools import partial

from bokeh.models import Column, InlineStyleSheet
from bokeh.models.ui import UIElement
from bokeh.models.widgets import Div, Toggle

from serve import listings, words
from serve.charts import Bars, Together, chart
from serve.lines import Lines
from serve.shape import Kpi


def families(kpis: Sequence[Kpi]) -> list[tuple[Kpi, ...]]:
    """KPIs, those that are one chart together: a number alone, the quantiles of one family from the lowest to the highest."""
    together: dict[tuple[str, str], list[Kpi]] = {}
    for kpi in kpis:
        together.setdefault((kpi.family, "" if kpi.family else kpi.name), []).append(kpi)
    return [tuple(sorted(each, key=lambda kpi: kpi.quantile or 0.0)) for each in together.values()]


class Card:
    """One KPI, or the quantiles of one, in one window size. Where values are text there is no figure: the newest and the table say it."""

    def __init__(self, band: Sequence[Kpi], together: Together, style: InlineStyleSheet) -> None:
        lines = self._lines = together.lines
        self.kpi = band[len(band) // 2]  # the line in a band: its median
        self._at = lines.shape.kpis.index(self.kpi)
        self._caption, self._table = (
            Div(css_classes=["words"], stylesheets=[style], sizing_mode="stretch_width", disable_math=True) for _ in range(2)
        )
        self._table.visible = False
        self.toggle = Toggle(label="", css_classes=["quiet"], stylesheets=[style], margin=0)
        self._bars = Bars(self.kpi, together) if self.kpi.bars else None
        figures = [] if self.kpi.text else [self._bars.plot if self._bars else chart(self.kpi, band, together)]
        self.toggle.on_change("active", lambda _attr, _old, _new: self.show())
        self._say_toggle()
        children: list[UIElement] = [self._caption, *figures, self.toggle, self._table]
        self.root = Column(children=children, css_classes=["card"], stylesheets=[style], sizing_mode="stretch_width")

    def open(self, *, table: bool) -> None:
        """Show the table, or put it away."""
        self.toggle.active = table

    def show(self) -> None:
        """Follow the lines."""
        row = self._lines.newest[0] if self._lines.newest else None
        text = words.caption(self.kpi, self._lines.shape.spoken, row, row.values[self._at] if row else None)
        if text != self._caption.text:
            self._caption.text = text
        if self._bars:
            self._bars.show(row.values[self._at] if row else None)
        self._say_toggle()
        if self.toggle.active:
            table = listings.table(self.kpi, self._lines.shape.spoken, [(row, row.values[self._at]) for row in self._lines.rows()])
            if table != self._table.text:
                self._table.text = table
        self._table.visible = self.toggle.active

    def _say_toggle(self) -> None:
        self.toggle.label = f"{'Hide' if self.toggle.active else 'Show'} table of {self.kpi.family or self.kpi.name}"


def cards(
    kpis: Sequence[Kpi], lines: Sequence[Lines], style: InlineStyleSheet, told: Callable[[str, bool], None], most: int
) -> tuple[list[Card], int]:
    """A card for each KPI and window size, at most so many, and how many there would be.

    Those of a size move together. `told(kpi, open)`: a person opened or closed its table.
    """
    sizes = [Together(each, style) for each in lines]
    places = [(its_band, together) for band in families(kpis) for together in sizes if (its_band := _own(band, together))]
    made = [Card(its_band, together, style) for its_band, together in places[:most]]
    for card in made:
        card.toggle.on_change("active", partial(_tell, told, card.kpi.name))
    return made, len(places)


def _own(band: Sequence[Kpi], together: Together) -> list[Kpi]:
    """What a window size has of a band: none of a KPI that its topic has not got yet."""
    own = {kpi.name: kpi for kpi in together.lines.shape.kpis}
    return [own[kpi.name] for kpi in band if kpi.name in own]


def _tell(told: Callable[[str, bool], None], kpi: str, _attr: str, _old: object, new: object) -> None:
    told(kpi, bool(new))
