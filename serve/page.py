"""One session's page. In: a document, the feed, the URL's query. Out: charts that follow the board. Runs in Bokeh's loop alone.

Four times a second it takes from the board what has changed and sends that; it waits for nothing. The names of its roots are those in
dashboard/templates/index.html.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from html import escape
from pathlib import Path
from time import time
from typing import Any

from bokeh.document import Document
from bokeh.models import Column, CustomJS, DataRange1d, InlineStyleSheet, Row
from bokeh.models.annotations import Span
from bokeh.models.ui import UIElement
from bokeh.models.widgets import Div, MultiChoice, Select

from serve import metrics, words
from serve.charts import COLOURS, Line, chart
from serve.feed import Feed
from serve.overview import Overview
from serve.selection import LINES, View, Wish, read_values, read_wish, resolve, spell
from serve.shape import Group, label

TICK_MS = 250
TOP = 5  # groups shown when none is chosen
OFFERED = 200  # groups in the list
OFFER_TICKS = 20  # the list of groups follows the data this seldom: when it changes, it closes under the reader's hands
ADDRESS = "history.replaceState(null, '', location.pathname + (cb_obj.tags[0] ? '?' + cb_obj.tags[0] : ''))"


@cache
def _css() -> str:
    return Path(__file__).with_name("page.css").read_text("utf-8")


class Page:
    """The page of a session. Nothing outside refers to it, so it goes when its document goes."""

    def __init__(self, document: Document, feed: Feed, arguments: Mapping[str, Sequence[bytes]], clock: Callable[[], float] = time) -> None:
        self._feed, self._board, self._clock = feed, feed.board, clock
        self._wish = read_wish(arguments)
        self._view: View | None = None
        self._catalog: object = None
        self._ticks = 0
        self._lines: list[Line] = []
        self._groups: list[Group] = []
        self._captions: list[Div] = []
        style = self._style = InlineStyleSheet(css=_css())
        wide: dict[str, Any] = {"stylesheets": [style], "sizing_mode": "stretch_width"}
        self._status = Div(css_classes=["words"], disable_math=True, name="status", **wide)
        self._status.js_on_change("tags", CustomJS(code=ADDRESS))
        self._overview = Overview(self._board, style, lambda topic: self._choose(topic=topic))
        small: dict[str, Any] = {"stylesheets": [style], "margin": 0}
        self._topic = Select(title="Topic", width=230, **small)
        self._window = Select(title="Window", width=110, **small)
        self._kpis = MultiChoice(title="KPIs", placeholder="all", width=260, **small)
        self._by = Select(title="Grouped by", width=200, **small)
        self._values = MultiChoice(title="Groups", max_items=LINES, search_option_limit=OFFERED, width=360, **small)
        widgets: list[UIElement] = [self._topic, self._window, self._kpis, self._by, self._values]
        self._controls = Row(children=widgets, css_classes=["controls"], name="controls", visible=False, **wide)
        self._heading = Div(css_classes=["words"], disable_math=True, name="heading", **wide)
        self._empty = Div(css_classes=["words", "empty"], disable_math=True, **wide)
        self._charts = Column(children=[self._empty], css_classes=["charts"], name="charts", **wide)
        self._topic.on_change("value", lambda _attr, _old, new: self._choose(topic=new))
        self._window.on_change("value", lambda _attr, _old, new: self._choose(window=new))
        self._kpis.on_change("value", lambda _attr, _old, new: self._choose(kpis=tuple(new)))
        self._by.on_change("value", lambda _attr, _old, new: self._choose(by=tuple(new.split(",")) if new else ()))
        self._values.on_change("value", lambda _attr, _old, new: self._choose(groups=tuple(map(read_values, new))))
        for root in (self._status, self._overview.root, self._controls, self._heading, self._charts):
            document.add_root(root)
        document.title = "Live KPIs"
        document.add_periodic_callback(self.tick, TICK_MS)
        self.tick()

    def tick(self) -> None:
        """Follow the board."""
        with metrics.frame.time():
            self._follow()

    def _follow(self) -> None:
        self._ticks += 1
        if self._catalog is not self._board.catalog:
            self._catalog = self._board.catalog
            self._overview.follow(self._board.catalog)
            self._look()
        elif self._view and self._view.by and not self._view.groups and len(self._lines) < TOP and self._ticks % OFFER_TICKS == 0:
            self._draw(self._view)  # groups may have come since
        if self._view and self._ticks % OFFER_TICKS == 0:
            self._offer_groups(self._view)
        self._overview.show(self._view.shape.topic if self._view else "")
        for line, group in zip(self._lines, self._groups, strict=True):
            if self._view:
                line.show(*self._board.points(self._view.shape.topic, self._view.shape.window, group))
        self._say()

    def _choose(self, **said: Any) -> None:  # noqa: ANN401 - the fields of Wish
        """What a widget says. Widgets also speak when the page sets them: then they say what is shown already."""
        view = self._view
        shown = Wish(view.shape.topic, view.shape.window, self._shown_kpis(), view.by, view.groups) if view else self._wish
        if all(getattr(shown, name) == value for name, value in said.items()):
            return
        wish = asdict(self._wish) | {"topic": shown.topic} | said
        if "topic" in said:
            wish |= {"kpis": (), "by": (), "groups": ()}
        if "by" in said:
            wish |= {"groups": ()}
        if wish["groups"] and view:
            wish["by"] = view.by
        self._wish = Wish(**wish)
        self._status.tags = [self._wish.query()]
        self._look()

    def _shown_kpis(self) -> tuple[str, ...]:
        return tuple(name for name in self._wish.kpis if self._view and name in {kpi.name for kpi in self._view.shape.kpis})

    def _look(self) -> None:
        """Resolve the wish anew; draw anew only if that changes what is shown."""
        wish = replace(self._wish, topic=self._view.shape.topic) if self._view and not self._wish.topic else self._wish
        view = resolve(wish, self._board.catalog)  # what is shown unasked stays when topics come that would be shown before it
        topics = dict.fromkeys((*self._board.catalog, *([self._wish.topic] if self._wish.topic else ())))
        self._topic.options = list[Any](topics)
        self._controls.visible = bool(topics)
        if view is None:
            self._view, self._lines, self._groups, self._captions = None, [], [], []
            self._topic.value = self._wish.topic
            self._heading.text = ""
            self._charts.children = [self._empty]
            return
        if view != self._view:
            self._view = view
            self._set_widgets(view)
            self._draw(view)

    def _set_widgets(self, view: View) -> None:
        self._topic.value = view.shape.topic
        self._window.options, self._window.value = list[Any](view.windows), view.shape.window
        self._kpis.options, self._kpis.value = [kpi.name for kpi in view.shape.kpis], [*self._shown_kpis()]
        sets: list[Any] = [(",".join(by), ", ".join(by) or "nothing: the total") for by in view.sets]
        self._by.options, self._by.value = sets, ",".join(view.by)
        self._values.visible = bool(view.by)
        self._values.placeholder = f"top {TOP} by events"
        self._offer_groups(view)
        self._values.value = [spell(values) for values in view.groups]

    def _offer_groups(self, view: View) -> None:
        """The list of groups. Its labels are HTML to the widget, so they are escaped; its values are spelled as in a URL."""
        top = self._board.top(view.shape.topic, view.shape.window, view.by, OFFERED) if view.by else []
        all_values = dict.fromkeys((*view.groups, *(group.values for group in top)))
        options: list[Any] = sorted((spell(values), escape(label(values))) for values in all_values)
        if options != self._values.options:
            self._values.options = options

    def _draw(self, view: View) -> None:
        topic, window = view.shape.topic, view.shape.window
        chosen = [Group(view.by, values) for values in view.groups]
        self._groups = chosen or (self._board.top(topic, window, view.by, TOP) if view.by else [Group()])
        self._lines = [Line(label(group.values), COLOURS[at % len(COLOURS)], len(view.shape.kpis)) for at, group in enumerate(self._groups)]
        together, crosshair = (
            DataRange1d(range_padding=0.03, default_span=10 * view.shape.size_ms),
            Span(dimension="height", line_color="#94a3b8", line_width=1),
        )
        cards: list[UIElement] = []
        self._captions = []
        for kpi in view.kpis:
            caption = Div(css_classes=["words"], stylesheets=[self._style], sizing_mode="stretch_width", disable_math=True)
            plot = chart(kpi, view.shape.kpis.index(kpi), self._lines, together, crosshair)
            cards.append(Column(children=[caption, plot], css_classes=["card"], stylesheets=[self._style], sizing_mode="stretch_width"))
            self._captions.append(caption)
        self._charts.css_classes = ["charts", "by2" if len(cards) % 2 == 0 and len(cards) % 3 else "by3"]
        self._charts.children = cards

    def _say(self) -> None:
        """All words that change, sent only if they did."""
        now = self._clock()
        state, view = self._feed.state, self._view
        _set(self._status, words.status(state, now))
        if view is None:
            _set(self._empty, words.empty(state, self._wish.topic if self._board.catalog else ""))
            return
        topic = view.shape.topic
        newest_ms = self._board.newest_ms(topic)
        fates = " · ".join(words.fate(fate, self._board.fates(topic, fate)) for fate in ("late", "dead"))
        lines = [(line.colour, group.values) for line, group in zip(self._lines, self._groups, strict=True)]
        _set(self._heading, words.heading(view, lines, None if newest_ms is None else now - newest_ms / 1000, fates))
        for kpi, caption in zip(view.kpis, self._captions, strict=True):
            if self._lines and (row := self._lines[0].newest):
                _set(caption, words.caption(kpi, row, row.values[view.shape.kpis.index(kpi)]))


def _set(div: Div, text: str) -> None:
    if div.text != text:
        div.text = text
