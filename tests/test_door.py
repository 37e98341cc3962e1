"""How many pages are open: who counts, from when, until when. Sessions are drawn as what the door asks of Bokeh's."""

from dataclasses import dataclass

from serve.door import COMING_S, Door


@dataclass
class Visitor:
    """A session: when it was made and when its browser left last (seconds), and whether one is connected."""

    id: str
    now: list[float]
    last_s: float
    connection_count: int = 0

    @property
    def milliseconds_since_last_unsubscribe(self) -> float:
        return (self.now[0] - self.last_s) * 1000


class House:
    """A door with a clock of its own."""

    def __init__(self, most: int) -> None:
        self.now = [100.0]
        self.sessions: list[Visitor] = []
        self.door = Door(most, lambda: self.sessions, lambda: self.now[0])

    def ask(self, name: str) -> Visitor:
        """A page is asked for and sent."""
        visitor = Visitor(name, self.now, self.now[0])
        self.sessions.append(visitor)
        self.door.entered(name)
        return visitor

    def after(self, seconds: float) -> None:
        self.now[0] += seconds

    def close(self, visitor: Visitor) -> None:
        """Its browser leaves; Bokeh remembers the session."""
        visitor.connection_count, visitor.last_s = 0, self.now[0]


def test_a_page_counts_from_the_moment_it_was_asked_for() -> None:
    house = House(1)
    assert house.door.has_room()
    house.ask("a")
    assert (house.door.open(), house.door.has_room()) == (1, False)


def test_a_page_counts_as_long_as_its_browser_is_connected() -> None:
    house = House(1)
    house.ask("a").connection_count = 1
    house.after(1_000_000)
    assert not house.door.has_room()


def test_a_page_that_was_closed_gives_its_place_back_at_once() -> None:
    house = House(1)
    visitor = house.ask("a")
    house.after(0.3)
    visitor.connection_count = 1
    house.after(0.2)
    house.close(visitor)
    assert house.door.has_room()


def test_pages_that_come_one_after_another_need_one_place() -> None:
    house = House(1)
    for number in range(5):
        assert house.door.has_room()
        visitor = house.ask(f"load {number}")
        house.after(0.3)
        visitor.connection_count = 1
        house.after(0.5)
        house.close(visitor)


def test_who_asks_and_never_connects_gives_the_place_back_after_a_while() -> None:
    house = House(1)
    house.ask("a")
    house.after(COMING_S - 0.1)
    assert not house.door.has_room()
    house.after(0.2)
    assert house.door.has_room()


def test_a_session_that_was_refused_its_page_does_not_count() -> None:
    house = House(1)
    house.sessions.append(Visitor("refused", house.now, house.now[0]))
    assert house.door.has_room()


def test_the_sign_says_how_many_pages_are_open_and_how_to_have_more() -> None:
    house = House(2)
    house.ask("a")
    house.ask("b")
    sign = house.door.sign()
    assert "2 pages are open" in sign
    assert "serves 2 at once" in sign
    assert "DASHBOARD_SESSIONS=4" in sign
    assert '<noscript><meta http-equiv="refresh" content="15"></noscript>' in sign
    assert "bokeh" not in sign.lower()
