"""What a session looks at, and its address. In: URL queries, the catalog. Out: wishes, and the view that they get. Pure.

A wish is what the URL says and may name what is not there yet; a view is what can be shown of it now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode

from serve.series import Board, Catalog
from serve.shape import TOTAL, Group, Kpi, Shape

GROUP = 10_000  # characters of a group in a URL: three values of 1 KiB, quoted
TOP = 5  # groups shown where none is chosen
LINES = 8  # groups in one chart: as many as there are colours that can be told apart
NONE, EMPTY = "!", "*"  # a null and an empty group value in a URL, where quoting leaves neither bare
ALL = "all"  # as a window: every size, side by side
RANGES = {"5m": 300_000, "15m": 900_000, "1h": 3_600_000, "6h": 21_600_000, "24h": 86_400_000}  # name -> ms
THEMES = ("light", "dark")


@dataclass(frozen=True, slots=True)
class Wish:
    """What was chosen. Empty: not chosen, the page decides; `until_ms` is 0 while the page is live, else where it was paused."""

    topic: str = ""
    window: str = ""
    kpis: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    groups: tuple[tuple[str | None, ...], ...] = ()
    last: str = ""
    until_ms: int = 0
    tables: tuple[str, ...] = ()
    asides: bool = False
    theme: str = ""
    more: bool = False

    def query(self) -> str:
        """The URL query that `read_wish` reads back as this wish.

        >>> Wish("shop.orders", "1m", by=("country",), groups=(("DE",), (None,)), last="1h").query()
        'topic=shop.orders&window=1m&by=country&group=DE&group=%21&last=1h'
        """
        pairs = [("topic", self.topic), ("window", self.window), *(("kpi", kpi) for kpi in self.kpis), ("by", ",".join(self.by))]
        pairs += [("group", spell(values)) for values in self.groups]
        pairs += [("last", self.last), ("until", str(self.until_ms or "")), *(("table", kpi) for kpi in self.tables)]
        pairs += [("asides", "1" if self.asides else ""), ("theme", self.theme), ("more", "1" if self.more else "")]
        return urlencode([(name, it) for name, it in pairs if it])


def read_wish(arguments: Mapping[str, Sequence[bytes]]) -> Wish:
    """The wish in a URL query; what is too much or unreadable is left out."""

    def texts(name: str, most: int, longest: int = 1000) -> tuple[str, ...]:
        return tuple(text for each in arguments.get(name, ())[:most] if (text := each.decode("utf-8", "replace")[:longest]))

    def one_of(name: str, known: Sequence[str]) -> str:
        return next((text for text in texts(name, 1) if text in known), "")

    by = tuple(path for path in "".join(texts("by", 1)).split(",") if path)
    spelled = [read_values(text) for text in texts("group", LINES, GROUP)] if by else []
    groups = tuple(dict.fromkeys(values for values in spelled if len(values) == len(by)))
    until = "".join(texts("until", 1, 15))
    return Wish(
        topic="".join(texts("topic", 1)),
        window="".join(texts("window", 1)),
        kpis=texts("kpi", 100),
        by=by,
        groups=groups,
        last=one_of("last", [*RANGES]),
        until_ms=int(until) if until.isascii() and until.isdecimal() else 0,
        tables=texts("table", 100),
        asides=bool(texts("asides", 1)),
        theme=one_of("theme", THEMES),
        more=bool(texts("more", 1)),
    )


def spell(values: Sequence[str | None]) -> str:
    """A group's values as one text without any character that means something in HTML.

    >>> spell(["a,b", None, ""]), read_values("a%2Cb,!,*")
    ('a%2Cb,!,*', ('a,b', None, ''))
    """
    return ",".join(NONE if value is None else quote(value, safe="") or EMPTY for value in values)


def read_values(text: str) -> tuple[str | None, ...]:
    """The group values that were spelled so."""
    return tuple(None if value == NONE else unquote(value.removesuffix(EMPTY)) for value in text.split(","))


@dataclass(frozen=True, slots=True)
class View:
    """What is shown: KPI topics of one source topic (one window size, or all), some of their KPIs, one group set, the chosen groups.

    `windows`: all that there are, and what people call them. No groups: those with the largest newest values.
    """

    shapes: tuple[Shape, ...]
    windows: Mapping[str, str]
    kpis: tuple[Kpi, ...]
    sets: tuple[tuple[str, ...], ...]
    by: tuple[str, ...]
    groups: tuple[tuple[str | None, ...], ...]

    @property
    def shape(self) -> Shape:
        """The one whose newest rows decide the order of groups: the smallest window."""
        return self.shapes[0]

    @property
    def order(self) -> int | None:
        """Which KPI of `shape` orders the groups: the first that is shown. None: it has none of them, and their events do."""
        return self.shape.kpis.index(self.kpis[0]) if self.kpis and self.kpis[0] in self.shape.kpis else None

    @property
    def window(self) -> str:
        """What the choice of a window says."""
        return ALL if len(self.shapes) > 1 else self.shape.window


def resolve(wish: Wish, catalog: Catalog) -> View | None:
    """The view a wish gets now: what it does not say, or says of what is not there, is the first there is. None: no such topic yet."""
    offers = catalog.get(wish.topic or next(iter(catalog), ""))
    if not offers:
        return None
    chosen = offers.values() if wish.window == ALL else [offers.get(wish.window) or next(iter(offers.values()))]
    shapes = tuple(offer.shape for offer in chosen)
    sets = next(iter(chosen)).sets
    known = {kpi.name: kpi for shape in reversed(shapes) for kpi in shape.kpis}
    kpis = tuple(kpi for name, kpi in known.items() if name in wish.kpis)
    by = wish.by if wish.by in sets else sets[0]
    windows = {name: offer.shape.spoken for name, offer in offers.items()}
    return View(shapes, windows, kpis or tuple(known.values()), sets, by, wish.groups if by == wish.by else ())


def groups_shown(view: View, board: Board) -> list[Group]:
    """The groups of a view: those chosen, else those with the largest newest values of its first KPI."""
    shape = view.shape
    if view.groups:
        return [Group(view.by, values) for values in view.groups]
    return board.top(shape.topic, shape.window, view.by, TOP, view.order) if view.by else [TOTAL]
