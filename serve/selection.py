"""What a session looks at, and its address. In: URL queries, the catalog. Out: wishes, and the view that they get. Pure.

A wish is what the URL says and may name what is not there yet; a view is what can be shown of it now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote, urlencode

from serve.series import Catalog
from serve.shape import Kpi, Shape

GROUP = 10_000  # characters of a group in a URL: three values of 1 KiB, quoted
LINES = 8  # groups in one chart: as many as there are colours that can be told apart
NONE, EMPTY = "!", "*"  # a null and an empty group value in a URL, where quoting leaves neither bare


@dataclass(frozen=True, slots=True)
class Wish:
    """What was chosen. Empty: not chosen, the page decides."""

    topic: str = ""
    window: str = ""
    kpis: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    groups: tuple[tuple[str | None, ...], ...] = ()

    def query(self) -> str:
        """The URL query that `read_wish` reads back as this wish.

        >>> Wish("shop.orders", "1m", by=("country",), groups=(("DE",), (None,))).query()
        'topic=shop.orders&window=1m&by=country&group=DE&group=%21'
        """
        pairs = [("topic", self.topic), ("window", self.window), *(("kpi", kpi) for kpi in self.kpis), ("by", ",".join(self.by))]
        return urlencode([*((name, it) for name, it in pairs if it), *(("group", spell(values)) for values in self.groups)])


def read_wish(arguments: Mapping[str, Sequence[bytes]]) -> Wish:
    """The wish in a URL query; what is too much or unreadable is left out."""

    def texts(name: str, most: int, longest: int = 1000) -> tuple[str, ...]:
        return tuple(text for each in arguments.get(name, ())[:most] if (text := each.decode("utf-8", "replace")[:longest]))

    by = tuple(path for path in "".join(texts("by", 1)).split(",") if path)
    groups = tuple(values for text in texts("group", LINES, GROUP) if len(values := read_values(text)) == len(by))
    return Wish("".join(texts("topic", 1)), "".join(texts("window", 1)), texts("kpi", 100), by, groups if by else ())


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
    """What is shown: one KPI topic, some of its KPIs, one group set, the chosen groups (empty: those with the most events)."""

    shape: Shape
    windows: tuple[str, ...]
    kpis: tuple[Kpi, ...]
    sets: tuple[tuple[str, ...], ...]
    by: tuple[str, ...]
    groups: tuple[tuple[str | None, ...], ...]


def resolve(wish: Wish, catalog: Catalog) -> View | None:
    """The view a wish gets now: what it does not say, or says of what is not there, is the first there is. None: no such topic yet."""
    offers = catalog.get(wish.topic or next(iter(catalog), ""))
    if not offers:
        return None
    shape, sets = offers.get(wish.window) or next(iter(offers.values()))
    kpis = tuple(kpi for kpi in shape.kpis if kpi.name in wish.kpis)
    by = wish.by if wish.by in sets else sets[0]
    return View(shape, tuple(offers), kpis or shape.kpis, sets, by, wish.groups if by == wish.by else ())
