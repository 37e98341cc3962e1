"""The cards at the top: one for each topic, with a tile for each of its KPIs. In: the board. Out: Bokeh models that follow it."""

from collections.abc import Sequence
from functools import lru_cache

from bokeh.models import Column, InlineStyleSheet
from bokeh.models.widgets import Div

from serve import words
from serve.lines import Seen, closed, pending, see
from serve.selection import Wish
from serve.series import Board, Catalog, Offer
from serve.shape import TOTAL, Group, Row, Shape, Value

CARDS = 24  # topics; further ones are in the list of topics
TILES = 6  # KPIs of a topic; further ones are below, in its charts
WINDOWS = 60  # windows in a sparkline


@lru_cache(maxsize=256)  # every session shows the same tiles
def tiles(shape: Shape, seen: Seen) -> str:
    """A topic's tiles as HTML: the newest final row, compared with the final before; the newest of all while none is final."""
    rows = [row for row in closed(seen) or pending(seen) if isinstance(row, Row)][-WINDOWS:]
    if not rows:
        return words.tiles(shape.spoken, None, [])
    newest = rows[-1]
    before = rows[-2] if len(rows) > 1 and shape.kind.follows(rows[-2].bounds, newest.bounds) else None
    shown = [
        words.tile(kpi, newest.values[at], before.values[at] if before else None, path(rows, at, shape))
        for at, kpi in enumerate(shape.kpis[:TILES])
    ]
    return words.tiles(shape.spoken, newest, shown)


def path(rows: Sequence[Row], at: int, shape: Shape) -> str:
    """A KPI of rows, oldest first, as an SVG path in a box of 100 by 24; a window that is missing or unknown is a gap."""
    drawn: list[tuple[Row, Value]] = [(row, row.values[at]) for row in rows]
    known = [value for _, value in drawn if isinstance(value, float)]
    if not known:
        return ""
    low, high = min(known), max(known)
    height = high / 2 - low / 2  # halves: from -1e308 to 1e308 it is further than the largest double
    kind = shape.kind
    from_ms, to_ms = (kind.place(rows[end].bounds) for end in (0, -1))
    parts: list[str] = []
    before: Row | None = None
    for row, value in drawn:
        if isinstance(value, float):
            x = 100 * (kind.place(row.bounds) - from_ms) / max(to_ms - from_ms, shape.spacing_ms, 1)
            y = 22 - 20 * ((value / 2 - low / 2) / height) if height else 12.0
            parts.append(f"{'L' if before and kind.follows(before.bounds, row.bounds) else 'M'}{x:.1f} {y:.1f}")
        before = row if isinstance(value, float) else None
    return "".join(parts)


class Card:
    """A topic: its name, a link that opens it, and its tiles. Only the tiles change, so a link that has the keyboard keeps it."""

    def __init__(self, offer: Offer, group: Group, style: InlineStyleSheet) -> None:
        self.offer = offer
        self._group = group
        self._topic = Div(css_classes=["words"], stylesheets=[style], sizing_mode="stretch_width", disable_math=True)
        self._tiles = Div(css_classes=["words"], stylesheets=[style], sizing_mode="stretch_width", disable_math=True)
        self.root = Column(
            children=[self._topic, self._tiles], css_classes=["card", "topic"], stylesheets=[style], sizing_mode="stretch_width"
        )

    def show(self, board: Board, wish: Wish, *, chosen: bool) -> None:
        """Follow the board, and the address that the link leads to."""
        shape = self.offer.shape
        link = words.link(shape.topic, wish.query(), chosen=chosen)
        if self._topic.text != link:
            self._topic.text = link
            self.root.css_classes = ["card", "topic", *(["chosen"] if chosen else [])]
        text = tiles(shape, see(board, shape, self._group))
        if text != self._tiles.text:
            self._tiles.text = text


class Overview:
    """All cards."""

    def __init__(self, board: Board, style: InlineStyleSheet) -> None:
        self._board, self._style = board, style
        self._cards: dict[str, Card] = {}
        self.root = Column(children=[Div()], css_classes=["cards"], stylesheets=[style], sizing_mode="stretch_width", name="overview")

    def follow(self, catalog: Catalog) -> None:
        """One card for each topic of the catalog; those that have not changed stay."""
        cards = {}
        for topic, offers in list(catalog.items())[:CARDS]:
            offer, card = next(iter(offers.values())), self._cards.get(topic)
            if card is None or card.offer != offer:
                of_set = [] if () in offer.sets else self._board.top(topic, offer.shape.window, offer.sets[0], 1)
                group = of_set[0] if of_set else TOTAL
                card = Card(offer, group, self._style)
            cards[topic] = card
        if cards != self._cards:
            self._cards = cards
            self.root.children = [card.root for card in cards.values()]

    def show(self, wish: Wish, topic: str) -> None:
        """Bring every card up to the board; mark the one whose topic is open. Its link keeps of the wish what is not about a topic."""
        for its_topic, card in self._cards.items():
            card.show(self._board, Wish(its_topic, last=wish.last, theme=wish.theme), chosen=its_topic == topic)
