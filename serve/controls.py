"""What a person can choose. In: the view, the board. Out: widgets, and what was said with them, as fields of a wish."""

from collections.abc import Callable, Sequence
from typing import Any

from bokeh.models import Column, CustomJS, InlineStyleSheet, Row
from bokeh.models.ui import UIElement
from bokeh.models.widgets import Button, CheckboxGroup, Select, TextInput, Toggle

from serve import words
from serve.selection import ALL, LINES, RANGES, THEMES, View, Wish
from serve.series import Board
from serve.shape import Group, label

OFFERED = 12  # groups in the list: those with the largest values, or of those that the search finds
ADDRESS = """const [query, entry] = cb_obj.tags, search = query ? "?" + query : ""
if (search != location.search) history[entry ? "pushState" : "replaceState"](null, "", location.pathname + search)"""
SAVE = """const [name, text] = cb_obj.tags
const link = Object.assign(document.createElement("a"), {download: name, href: URL.createObjectURL(new Blob([text], {type: "text/csv"}))})
link.click(); setTimeout(() => URL.revokeObjectURL(link.href), 10000)"""
Said = Callable[..., None]


class Controls:
    """The widgets. `said(**fields)` is called with what a person chose; `asked` hears of links followed, and writes the address."""

    def __init__(self, board: Board, style: InlineStyleSheet, said: Said) -> None:
        self._board, self._said = board, said
        self._view: View | None = None
        self._listed: list[Group] = []
        self._listed_of: object = None
        self._drawn: list[Group] = []
        small: dict[str, Any] = {"stylesheets": [style], "margin": 0}
        self.topic = Select(title="Topic", width=220, **small)
        self.window = Select(title="Window", width=190, **small)
        self.by = Select(title="Grouped by", width=190, **small)
        self.last = Select(
            title="Time range", width=130, options=list[Any]([("", "all there is"), *((name, f"last {name}") for name in RANGES)]), **small
        )
        self.theme = Select(title="Theme", width=110, options=list[Any]([("", "automatic"), *((name, name) for name in THEMES)]), **small)
        self.pause = Button(label="Pause", name="pause", css_classes=["act"], **small)
        self.csv = Button(label="CSV", name="csv", css_classes=["act"], **small)
        self.asides = Toggle(label=words.fates({}, {}), name="asides", css_classes=["act"], **small)
        self.kpis = CheckboxGroup(inline=True, css_classes=["chips"], html_attributes={"role": "group", "aria-label": "KPIs"}, **small)
        self.search = TextInput(title="Groups", placeholder="search", width=190, **small)
        self.groups = CheckboxGroup(inline=True, css_classes=["chips"], html_attributes={"role": "group", "aria-label": "Groups"}, **small)
        self.asked = TextInput(name="asked", visible=False)
        line: dict[str, Any] = {"stylesheets": [style], "sizing_mode": "stretch_width", "css_classes": ["controls"]}
        first: list[UIElement] = [self.topic, self.window, self.by, self.last, self.theme, self.pause, self.csv, self.asides, self.asked]
        self._find = Row(children=[self.search, self.groups], **line)
        lines: list[UIElement] = [Row(children=first, **line), Row(children=[self.kpis], **line), self._find]
        self.root = Column(
            children=lines, name="controls", visible=False, stylesheets=[style], sizing_mode="stretch_width", css_classes=["rows"]
        )
        self._listen()

    def _listen(self) -> None:
        for name in ("topic", "window", "last", "theme"):
            getattr(self, name).on_change("value", lambda _attr, _old, new, name=name: self._said(**{name: new}))
        self.by.on_change("value", lambda _attr, _old, new: self._said(by=tuple(new.split(",")) if new else ()))
        self.asides.on_change("active", lambda _attr, _old, new: self._said(asides=new))
        self.kpis.on_change("active", lambda _attr, _old, new: self._chosen(new))
        self.groups.on_change("active", lambda _attr, _old, new: self._ticked(new))
        self.search.on_change("value_input", lambda _attr, _old, _new: self._list())
        self.asked.js_on_change("tags", CustomJS(code=ADDRESS))
        self.csv.js_on_change("tags", CustomJS(code=SAVE))

    def follow(self, topics: Sequence[str], wish: Wish) -> None:
        """The topics that there are, and what does not depend on one."""
        options = list[Any](dict.fromkeys((*topics, *([wish.topic] if wish.topic else ()))))
        if options != self.topic.options:
            self.topic.options = options
        self.root.visible = bool(options)
        self.topic.value = self.topic.value or wish.topic
        self.last.value, self.theme.value, self.asides.active = wish.last, wish.theme, wish.asides

    def show(self, view: View, drawn: Sequence[Group]) -> None:
        """What is looked at now."""
        self._view, self._drawn = view, [*drawn]
        self.topic.value = view.shape.topic
        every = [(ALL, "all, side by side")] if len(view.windows) > 1 else []
        self.window.options, self.window.value = list[Any]([*view.windows.items(), *every]), view.window
        sets: list[Any] = [(",".join(by), ", ".join(by) or "nothing: the total") for by in view.sets]
        self.by.options, self.by.value = sets, ",".join(view.by)
        names = [kpi.name for kpi in self._all_kpis(view)]
        if names != self.kpis.labels:
            self.kpis.labels = names
        self.kpis.active = self._shown(view)
        self._find.visible = bool(view.by)
        of = (view.shape.topic, view.shape.window, view.by, view.order)
        if of == self._listed_of and set(self._drawn) <= set(self._listed):
            self._tick()  # the list stays as it is: a second tick may be under way, and it says a place in the list
        else:
            self._list()
        self._listed_of = of

    def _all_kpis(self, view: View) -> list[Any]:
        return [*{kpi.name: kpi for shape in reversed(view.shapes) for kpi in shape.kpis}.values()]

    def _chosen(self, active: Sequence[int]) -> None:
        self._said(kpis=self._named(active))
        if not active and self._view:
            self.kpis.active = self._shown(self._view)  # no choice is all of them

    def _shown(self, view: View) -> list[int]:
        shown = {kpi.name for kpi in view.kpis}
        return [at for at, name in enumerate(self.kpis.labels) if name in shown]

    def _named(self, active: Sequence[int]) -> tuple[str, ...]:
        """The KPIs ticked; none, or all of them: no choice."""
        names = tuple(self.kpis.labels[at] for at in sorted(active) if at < len(self.kpis.labels))  # the browser says 10 before 2
        return () if len(names) == len(self.kpis.labels) else names

    def _list(self) -> None:
        """The groups to tick: those drawn first, then what the search finds, else the largest."""
        view = self._view
        if view is None or not view.by:
            return
        found = self._board.search(view.shape.topic, view.shape.window, view.by, self.search.value_input or "", OFFERED, view.order)
        self._listed = [*dict.fromkeys((*self._drawn, *found))][: OFFERED + len(self._drawn)]
        labels = [label(group.values) for group in self._listed]
        if labels != self.groups.labels:
            self.groups.labels = labels
        self._tick()

    def _tick(self) -> None:
        self.groups.active = [at for at, group in enumerate(self._listed) if group in self._drawn]

    def count(self) -> None:
        """Say how many groups there are."""
        view = self._view
        if view is not None and view.by:
            title = f"Groups: {self._board.group_count(view.shape.topic, view.shape.window, view.by):,}"
            if title != self.search.title:
                self.search.title = title

    def _ticked(self, active: Sequence[int]) -> None:
        """The groups ticked, at most as many as there are colours; none: the page chooses."""
        ticked = {self._listed[at] for at in active if at < len(self._listed)}
        if ticked == set(self._drawn):
            return
        chosen = [*(group for group in self._drawn if group in ticked), *(it for it in self._listed if it in ticked - set(self._drawn))]
        self._said(groups=tuple(group.values for group in chosen[:LINES]))
        self._tick()  # as it is drawn: what is too much is unticked, and where none is left it is the page's choice

    def write_address(self, wish: Wish, *, entry: bool) -> None:
        """Put the wish into the browser's address; `entry`: the browser's button leads back from it."""
        self.asked.tags = [wish.query(), entry]

    def save(self, name: str, text: str) -> None:
        """Let the browser save a text as a file."""
        self.csv.tags = [name, text]
