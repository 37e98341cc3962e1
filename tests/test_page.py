"""One session's page on a real board, without a browser: what it shows after what a person, an address or a topic did."""

from collections.abc import Sequence
from dataclasses import replace

from bokeh.document import Document
from bokeh.plotting import figure

from flows.connection import connection
from serve.asides import Aside
from serve.controls import Controls
from serve.feed import Feed
from serve.kinds import Kind
from serve.page import Page
from serve.series import Board
from serve.shape import TOTAL, Group, Kpi, Row, Shape

SIZE_MS = 10_000
KPIS = tuple(Kpi(name, "sum", name, "") for name in ("orders", "revenue"))
SHOP = Shape("shop", "10s", SIZE_MS, KPIS, {"country": "country"})
COUNTRIES = "ABCDEFGHIJKLMN"


class Opened:
    """A page, and the board that it follows; no thread fills that."""

    def __init__(self, *rows: Row, shape: Shape = SHOP, query: str = "", behind: int = 0) -> None:
        self.feed = Feed(connection({}), Board())
        self.feed.state = replace(self.feed.state, looked=True, behind=behind)
        for row in rows:
            self.feed.board.upsert(shape, row, 0)
        arguments: dict[str, list[bytes]] = {}
        for name, _, text in (pair.partition("=") for pair in query.split("&") if pair):
            arguments.setdefault(name, []).append(text.encode())
        self.page = Page(Document(), self.feed, arguments)

    @property
    def controls(self) -> Controls:
        return self.page._controls

    def starts(self) -> list[float]:
        return [float(it) for it in self.page._lines[0].finals.data["start"]]

    def drawn(self) -> list[str | None]:
        return [group.values[0] for group in self.page._groups]

    def ticked(self) -> list[str]:
        return [str(self.controls.groups.labels[at]) for at in self.controls.groups.active]

    def tick(self, *names: str) -> None:
        """What a browser says where these boxes are ticked: their places, in the order of their digits."""
        places = [at for at, name in enumerate(self.controls.groups.labels) if name in names]
        self.controls.groups.active = sorted(places, key=str)


def row(window: int, group: Group = TOTAL, values: Sequence[float | None] = (1.0, 2.0), events: int = 5) -> Row:
    return Row(group, window * SIZE_MS, (window + 1) * SIZE_MS, events, 0, True, "data", tuple(values))


def countries(most: int = len(COUNTRIES)) -> list[Row]:
    """A group for each, the first the largest."""
    return [row(0, Group(("country",), (name,)), (100.0 - at, 1.0)) for at, name in enumerate(COUNTRIES[:most])]


def test_messages_set_aside_are_those_of_the_topic_that_is_shown() -> None:
    opened = Opened(row(0), query="topic=shop&asides=1")
    board = opened.feed.board
    board.upsert(replace(SHOP, topic="bank"), row(0), 0)
    board.put_aside(Aside("dead", "magic", "", "shop", 0, 7, 0, None, b"x", 1), 0)
    opened.page._list_asides()
    assert "of shop" in opened.page._asides.text
    opened.page.tick()
    opened.controls.topic.value = "bank"
    assert "of bank" in opened.page._asides.text
    assert "shop" not in opened.page._asides.text


def test_a_page_opened_where_it_was_paused_waits_for_the_past_and_stands_still_then() -> None:
    opened = Opened(row(9), query="until=100000", behind=5)
    for window in range(9):
        opened.feed.board.upsert(SHOP, row(window), 0)
    opened.page.tick()
    assert len(opened.starts()) == 10
    opened.feed.state = replace(opened.feed.state, behind=0)
    opened.page.tick()
    opened.feed.board.upsert(SHOP, row(3, values=(7.0, 7.0)), 1)
    opened.page.tick()
    assert 7.0 not in opened.page._lines[0].finals.data["y0"]


def test_a_group_named_twice_in_the_address_is_drawn_once() -> None:
    opened = Opened(*countries(3), query="by=country&group=A&group=A")
    assert (opened.drawn(), opened.ticked()) == (["A"], ["A"])


def test_a_topic_without_kpis_opens() -> None:
    shape = replace(SHOP, kpis=())
    assert Opened(*(it._replace(values=()) for it in countries(3)), shape=shape).drawn() == ["A", "B", "C"]


def test_two_boxes_ticked_before_the_server_has_answered_are_the_two_groups_beside_them() -> None:
    opened = Opened(*countries(), query="by=country")
    labels = [*opened.controls.groups.labels]
    for places in ([0, 1, 2, 3, 4, 7], [0, 1, 2, 3, 4, 7, 8]):  # both of the list as it was before the first
        opened.controls.groups.active = places
    assert (opened.drawn(), opened.controls.groups.labels) == ([*"ABCDEHI"], labels)


def test_a_ninth_group_is_not_ticked_and_the_eight_stay() -> None:
    opened = Opened(*countries(), query="by=country")
    opened.tick(*"ABCDEFGH")
    opened.tick(*"ABCDEFGHK")
    assert (opened.drawn(), opened.ticked()) == ([*"ABCDEFGH"], [*"ABCDEFGH"])


def test_the_last_group_and_the_last_kpi_unticked_are_the_page_s_choice_again() -> None:
    opened = Opened(*countries(1), query="by=country&kpi=orders")
    opened.tick()
    opened.controls.kpis.active = []
    assert (opened.ticked(), opened.controls.kpis.active) == (["A"], [0, 1])
    alone = Opened(row(0, values=(1.0,)), shape=replace(SHOP, kpis=KPIS[:1]))
    alone.controls.kpis.active = []
    assert alone.controls.kpis.active == [0]


def test_what_people_call_windows_stands_in_the_list_and_what_topics_call_them_in_the_address() -> None:
    opened = Opened(row(0))
    hopping = replace(SHOP, window="5m-1m", size_ms=300_000, kind=Kind("hopping", 60_000))
    opened.feed.board.upsert(hopping, row(0), 0)
    opened.page.tick()
    assert opened.controls.window.options == [("10s", "10s"), ("5m-1m", "5m every 1m"), ("all", "all, side by side")]
    opened.controls.window.value = "5m-1m"
    assert opened.page._wish.window == "5m-1m"


def test_a_page_whose_topic_is_gone_shows_another_unless_it_was_asked_for() -> None:
    opened, asked = Opened(row(0)), Opened(row(0), query="topic=shop")
    for each in (opened, asked):
        each.feed.board.upsert(replace(SHOP, topic="zoo"), row(0), 0)
        each.page.tick()
        each.feed.board.forget("shop", "10s")
        each.page.tick()
    assert [opened.page._view and opened.page._view.shape.topic, asked.page._view] == ["zoo", None]
    assert "No row of shop" in asked.page._empty.text
    assert asked.controls.topic.options == ["zoo", "shop"]


def test_a_kpi_of_words_has_its_newest_value_and_its_table_and_no_chart_of_nothing() -> None:
    shape = replace(SHOP, kpis=(Kpi("last_city", "last", "city", "", text=True), KPIS[0]))
    opened = Opened(row(0)._replace(values=("Berlin", 1.0)), shape=shape)
    words, number = opened.page._cards
    assert [len([*card.root.select({"type": figure})]) for card in (words, number)] == [0, 1]
    assert "Berlin" in words._caption.text
    words.toggle.active = True
    assert "<td>Berlin</td>" in words._table.text


def test_a_group_keeps_its_colour_while_others_come_and_go() -> None:
    opened = Opened(*countries(), query="by=country")

    def colours() -> dict[str | None, str]:
        return dict(zip(opened.drawn(), opened.page._lines[0].colours, strict=True))

    before = colours()
    opened.tick(*"BCDE")
    opened.tick(*"BCDEH")
    after = colours()
    assert {name: after[name] for name in "BCDE"} == {name: before[name] for name in "BCDE"}
    assert len(set(after.values())) == 5


def test_a_window_size_that_has_fewer_quantiles_shows_those_it_has() -> None:
    low, mid, high = (Kpi(f"latency_{q}", "quantile", "ms", "ms", q, "latency") for q in (0.05, 0.5, 0.95))
    old, new = replace(SHOP, kpis=(low, high)), replace(SHOP, window="1m", size_ms=60_000, kpis=(low, KPIS[0], mid, high), schema_id=2)
    opened = Opened(row(0), shape=old)
    opened.feed.board.upsert(new, Row(TOTAL, 0, 60_000, 5, 0, True, "data", (1.0, 2.0, 3.0, 4.0)), 0)
    opened.page.tick()
    opened.controls.window.value = "all"
    charts = [(card.kpi.name, card._lines.shape.window) for card in opened.page._cards]
    assert sorted(charts) == [("latency_0.5", "1m"), ("latency_0.95", "10s"), ("orders", "1m")]
