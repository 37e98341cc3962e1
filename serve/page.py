"""One session's page. In: a document, the feed, the URL's query. Out: charts that follow the board. Runs in Bokeh's loop alone.

Four times a second it takes from the board what has changed and sends that; it waits for nothing. The names of its roots are those in
dashboard/templates/index.html.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from time import time
from typing import Any
from urllib.parse import parse_qs

from bokeh.document import Document
from bokeh.models import Column, CustomJS, InlineStyleSheet
from bokeh.models.widgets import Button, Div

from serve import listings, metrics, words
from serve.cards import Card, cards
from serve.controls import Controls
from serve.export import chosen, csv_text, file_name
from serve.feed import Feed
from serve.lines import Lines
from serve.overview import Overview
from serve.pace import Pace
from serve.selection import RANGES, TOP, View, Wish, groups_shown, read_wish, resolve
from serve.shape import Group

TICK_MS = 250
SAY_TICKS = 8  # ages are said anew this seldom: each text that changes is a message, 1 ms of CPU
CARDS = 12  # charts; to make a hundred of them takes seconds in which no other page is served
MORE_TICKS = 20  # while fewer groups than that are known, further ones are looked for this seldom


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
        self._lines: list[Lines] = []
        self._groups: list[Group] = []
        self._cards: list[Card] = []
        self._arrived = 0  # rows of the topic when the page was paused
        self._aside_count = 0  # messages set aside when their list was made
        self._read_back = False  # whether the past of what is shown was there: until then a paused page follows too
        self._pace = Pace()
        style = self._style = InlineStyleSheet(css=_css())
        wide: dict[str, Any] = {"stylesheets": [style], "sizing_mode": "stretch_width"}
        self._status, self._heading, self._legend, self._empty, self._asides = (
            Div(css_classes=["words", *more], disable_math=True, **wide) for more in ((), (), (), ("empty",), ())
        )
        self._status.name = "status"
        self._overview = Overview(self._board, style)
        self._controls = Controls(self._board, style, self._choose)
        self._newer = Button(label="", visible=False, css_classes=["act"], stylesheets=[style])
        self._more = Button(label="", visible=False, css_classes=["act"], stylesheets=[style])
        self._more.on_click(lambda: self._choose(more=True))
        heading = Column(children=[self._heading, self._newer, self._asides, self._legend, self._pace.beat], name="heading", **wide)
        self._charts = Column(children=[self._empty], css_classes=["charts"], name="charts", **wide)
        self._controls.asked.on_change("value", lambda _attr, _old, new: self._go(new) if new else None)
        self._controls.pause.on_click(lambda: self._choose(until_ms=0 if self._wish.until_ms else int(self._clock() * 1000)))
        self._controls.csv.on_click(self._save)
        self._newer.on_click(self._list_asides)
        self._former = CustomJS(code="")  # knows the cards that were replaced: what a browser still says of them is no error then
        self._status.js_on_change("disabled", self._former)
        self.tick()
        with document.models.freeze():  # else Bokeh walks through all models for each
            for root in (self._status, self._overview.root, self._controls.root, heading, self._charts):
                document.add_root(root)
        document.title = "Live KPIs"
        document.add_periodic_callback(self.tick, TICK_MS)

    def tick(self) -> None:
        """Follow the board."""
        with metrics.frame.time():
            self._follow()

    def _follow(self) -> None:
        if self._catalog is not self._board.catalog:
            self._catalog = self._board.catalog
            self._overview.follow(self._board.catalog)
            self._look()
        elif self._view and self._ticks % MORE_TICKS == 0 and self._has_more_groups(self._view):
            self._draw(self._view)
        self._overview.show(self._wish, self._view.shape.topic if self._view else "")
        state = self._feed.state  # as it is before the board is looked at
        if self._pace.is_due():
            follows = not self._wish.until_ms or not self._read_back
            if follows and [lines for lines in self._lines if lines.show(self._board, self._wish.until_ms)]:
                self._show_cards()
                self._pace.sent()
            self._read_back |= bool(self._view) and state.looked and not state.behind
        if self._ticks % SAY_TICKS == 0:
            self._say()
        self._ticks += 1
        if self._ticks % MORE_TICKS == 0 and self._former.args:
            self._former.args = {}

    def _has_more_groups(self, view: View) -> bool:
        """Whether groups have come that there is still a place for."""
        few = len(self._groups) < TOP and bool(view.by) and not view.groups
        return few and len(groups_shown(view, self._board)) > len(self._groups)

    def _show_cards(self) -> None:
        for card in self._cards:
            card.show()

    def _go(self, query: str) -> None:
        """Follow a link of the page: its query is a wish."""
        arguments = {name: [text.encode() for text in texts] for name, texts in parse_qs(query, keep_blank_values=True).items()}
        self._choose(**asdict(read_wish(arguments)))

    def _choose(self, **said: Any) -> None:  # noqa: ANN401 - the fields of Wish
        """What a widget says. Widgets also speak when the page sets them: then they say what is shown already."""
        view, wish = self._view, self._wish
        shown = replace(wish, topic=view.shape.topic, window=view.window, kpis=self._shown_kpis(view), by=view.by) if view else wish
        if all(getattr(shown, name) == value for name, value in said.items()):
            return
        new = asdict(wish) | {"topic": shown.topic} | said
        if said.get("topic", shown.topic) != shown.topic:
            new |= {
                name: it
                for name, it in asdict(Wish()).items()
                if name in {"kpis", "by", "groups", "until_ms", "tables", "more"} - set(said)
            }
        if "by" in said and "groups" not in said:
            new |= {"groups": ()}
        if new["groups"] and view and "by" not in said:
            new["by"] = view.by
        self._wish = Wish(**new)
        self._controls.write_address(self._wish, entry=bool(said.keys() & {"topic", "window", "by"}))
        if view and said.keys() & {"last", "more"}:
            self._draw(view)
        self._look()
        if "until_ms" in said:
            self._paused()
        self._ticks = 0  # say it at once

    def _shown_kpis(self, view: View) -> tuple[str, ...]:
        return tuple(kpi.name for kpi in view.kpis if kpi.name in self._wish.kpis)

    def _look(self) -> None:
        """Resolve the wish anew; draw anew only if that changes what is shown."""
        wish, catalog = self._wish, self._board.catalog
        if self._view and not wish.topic and self._view.shape.topic in catalog:
            wish = replace(wish, topic=self._view.shape.topic)  # what is shown unasked stays when topics come that would be shown before it
        view = resolve(wish, catalog)
        self._controls.follow([*self._board.catalog], self._wish)
        if view is None:
            self._view, self._lines, self._groups, self._cards = None, [], [], []
            self._charts.children = [self._empty]
            self._heading.text = self._legend.text = self._asides.text = ""
            self._asides.visible = False
            self._say()
        elif view != self._view:
            elsewhere = self._view is None or self._view.shape.topic != view.shape.topic
            self._view = view
            self._draw(view)
            self._paused()
            self._say()
            if elsewhere:
                self._list_asides()  # else the list of the topic before would stand below this one's name
        if self._view and bool(self._asides.text) != self._wish.asides:
            self._list_asides()

    def _draw(self, view: View) -> None:
        colours = dict(zip(self._groups, self._lines[0].colours, strict=True)) if self._lines else {}
        self._groups = groups_shown(view, self._board)
        self._lines = [Lines(each, self._groups, RANGES.get(self._wish.last, 0), colours) for each in view.shapes]
        for lines in self._lines:
            lines.show(self._board, self._wish.until_ms)
        self._pace.listen(self._lines)
        self._former.args = {f"card{at}": card.root for at, card in enumerate(self._cards)}
        self._cards, count = cards(view.kpis, self._lines, self._style, self._tell_table, 10_000 if self._wish.more else CARDS)
        self._more.update(visible=count > len(self._cards), label=f"Show {count - len(self._cards):,} more charts")
        for card in self._cards:
            card.open(table=card.kpi.name in self._wish.tables)
        self._show_cards()
        self._charts.css_classes = ["charts", "by2" if len(self._cards) % 2 == 0 and len(self._cards) % 3 else "by3"]
        self._charts.children = [*(card.root for card in self._cards), self._more]
        self._legend.text = words.legend(
            [(colour, group.values) for colour, group in zip(self._lines[0].colours, self._groups, strict=True)]
        )
        self._controls.show(view, self._groups)

    def _tell_table(self, kpi: str, open_: bool) -> None:  # noqa: FBT001 - what a toggle says
        names = dict.fromkeys(self._wish.tables)
        tables_ = (*names, kpi) if open_ else tuple(name for name in names if name != kpi)
        self._choose(tables=tuple(dict.fromkeys(tables_)))

    def _paused(self) -> None:
        """Stop at the moment that the wish names, or go on."""
        topic = self._view.shape.topic if self._view else ""
        self._arrived = self._board.arrived(topic)
        self._controls.pause.label = words.waiting(0) if self._wish.until_ms else "Pause"

    def _list_asides(self) -> None:
        """The list of messages set aside, as it is now; it does not change under the reader's eyes."""
        self._asides.visible = self._view is not None and self._wish.asides
        if self._view is None or not self._wish.asides:
            self._asides.text = ""
            return
        topic = self._view.shape.topic
        late, dead = (self._board.fates(topic, fate) for fate in ("late", "dead"))
        self._aside_count = sum(late.values()) + sum(dead.values())
        self._asides.text = listings.asides(topic, self._board.asides(topic), words.reasons(late, dead, self._clock()))

    def _save(self) -> None:
        """Let the browser save what is seen: also of a paused page, which does not see what the board has now."""
        if self._view:
            rows = [(lines.shape, row) for lines in self._lines for row in lines.rows()]
            self._controls.save(file_name(self._view), csv_text(chosen(rows, self._view, self._wish)))

    def _say(self) -> None:
        """All words that change, sent only if they did."""
        now = self._clock()
        state, view = self._feed.state, self._view
        _set(self._status, words.status(state, now))
        if view is None:
            _set(self._empty, words.empty(state, self._wish.topic if self._board.catalog else ""))
            return
        topic, board = view.shape.topic, self._board
        fresh = words.freshness(now, board.newest_ms(topic), board.watermark_ms(topic), board.lag(topic))
        _set(self._heading, words.heading(view, fresh))
        self._controls.count()
        late, dead = board.fates(topic, "late"), board.fates(topic, "dead")
        self._controls.asides.label = words.fates(late, dead)
        new = sum(late.values()) + sum(dead.values()) - self._aside_count
        self._newer.update(visible=self._wish.asides and new > 0, label=f"Show the newest ({new:,} more)")
        if self._wish.until_ms:
            self._controls.pause.label = words.waiting(board.arrived(topic) - self._arrived)


def _set(div: Div, text: str) -> None:
    if div.text != text:
        div.text = text
