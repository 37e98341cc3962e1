"""The row of small charts at the top: one tile a topic, its first KPI. In: the board. Out: Bokeh models that follow it."""

from collections.abc import Callable

from bokeh.models import Column, InlineStyleSheet
from bokeh.models.ui import UIElement
from bokeh.models.widgets import Button, Div

from serve import words
from serve.charts import COLOURS, Line, spark
from serve.series import Board, Catalog, Offer
from serve.shape import TOTAL, Group

TILES = 24  # further topics are in the list of topics


class Tile:
    """A topic's first KPI at its smallest window: name, newest value, change, sparkline. The name is a button that opens the topic."""

    def __init__(self, offer: Offer, group: Group, style: InlineStyleSheet, opened: Callable[[str], None]) -> None:
        shape = offer.shape
        self.offer, self.group = offer, group
        self.line = Line(shape.topic, COLOURS[0], len(shape.kpis))
        button = Button(label=shape.topic, css_classes=["name"], stylesheets=[style], sizing_mode="stretch_width")
        button.on_click(lambda: opened(shape.topic))
        self.text = Div(css_classes=["words"], stylesheets=[style], sizing_mode="stretch_width", disable_math=True)
        parts: list[UIElement] = [button, self.text]
        if shape.kpis:
            parts.append(spark(0, self.line))
        self.root = Column(children=parts, css_classes=["card", "tile"], stylesheets=[style], sizing_mode="stretch_width")

    def show(self, board: Board) -> None:
        """Follow the board. The value is the newest final one, compared with the final before; the newest of all while none is final."""
        shape = self.offer.shape
        version, points = board.points(shape.topic, shape.window, self.group)
        if self.line.show(version, points) and shape.kpis and (row := self.line.newest):
            before = [point.row.values[0] for point in points if point.row.end_ms == row.start_ms]
            self.text.text = words.tile(shape.kpis[0], shape.window, row, before[0] if before else None)


class Overview:
    """All tiles."""

    def __init__(self, board: Board, style: InlineStyleSheet, opened: Callable[[str], None]) -> None:
        self._board, self._style, self._opened = board, style, opened
        self._tiles: dict[str, Tile] = {}
        self.root = Column(children=[Div()], css_classes=["tiles"], stylesheets=[style], sizing_mode="stretch_width", name="overview")

    def follow(self, catalog: Catalog) -> None:
        """One tile for each topic of the catalog; those that have not changed stay."""
        tiles = {}
        for topic, offers in list(catalog.items())[:TILES]:
            offer, tile = next(iter(offers.values())), self._tiles.get(topic)
            if tile is None or tile.offer != offer:
                group = TOTAL if () in offer.sets else self._board.top(topic, offer.shape.window, offer.sets[0], 1)[0]
                tile = Tile(offer, group, self._style, self._opened)
            tiles[topic] = tile
        if tiles != self._tiles:
            self._tiles = tiles
            self.root.children = [tile.root for tile in tiles.values()]

    def show(self, topic: str) -> None:
        """Bring every tile up to the board; mark the one whose topic is open."""
        for its_topic, tile in self._tiles.items():
            tile.show(self._board)
            classes = ["card", "tile", *(["chosen"] if its_topic == topic else [])]
            if tile.root.css_classes != classes:
                tile.root.css_classes = classes
