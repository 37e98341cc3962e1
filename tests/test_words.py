"""What the page says, and that nothing from a topic is HTML in it."""

import doctest
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from serve import listings, words
from serve.asides import Aside
from serve.feed import State
from serve.kinds import Kind
from serve.selection import View
from serve.shape import TOTAL, Group, Kpi, Row, Shape

EVIL = '<img src=x onerror="alert(1)">'
KPI = Kpi(EVIL, EVIL, EVIL, EVIL, family=EVIL, doc=EVIL)
ROW = Row(Group((EVIL,), (EVIL,)), 0, 10_000, 5, 1, True, EVIL, (EVIL,))
SHAPE = Shape(EVIL, EVIL, 10_000, (KPI,), {}, doc=EVIL)
VIEW = View((SHAPE,), {EVIL: EVIL}, (KPI,), ((EVIL,),), (EVIL,), ((EVIL,),))
ASIDE = Aside("dead", EVIL, EVIL, EVIL, 0, 7, 0, None, EVIL.encode(), 300)
FINE = State("127.0.0.1:9092", "http://127.0.0.1:8081", looked=True)


class Tags(HTMLParser):
    """Collects the tags of a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.found |= {tag, *(name for name, _ in attrs if name.startswith("on"))}  # type: ignore[attr-defined]


def said() -> Iterator[str]:
    yield words.tile(KPI, EVIL, EVIL, "")
    yield words.tile(KPI, ((EVIL, 1.0),), None, "")
    yield words.tiles(EVIL, ROW, [])
    yield words.link(EVIL, "", chosen=True)
    yield words.caption(KPI, EVIL, ROW, EVIL)
    yield words.heading(VIEW, "")
    yield words.legend([("#000", (EVIL,))])
    yield listings.table(KPI, EVIL, [(ROW, EVIL), (ROW, ((EVIL, 1.0),))])
    yield listings.asides(EVIL, [ASIDE], EVIL)
    yield listings.asides(EVIL, [], EVIL)
    yield words.status(State(EVIL, EVIL, trouble=EVIL), 0)
    yield words.status(State(EVIL, EVIL, looked=True), 0)
    yield words.empty(State(EVIL, EVIL, trouble=EVIL), "")
    yield words.empty(FINE, EVIL)
    yield words.literal(EVIL)


@pytest.mark.parametrize("text", [*said()])
def test_nothing_that_came_from_a_topic_is_html(text: str) -> None:
    assert EVIL not in text
    assert "&lt;img" in text
    assert Tags(text).found & {"img", "script", "onerror"} == set()


def test_nothing_that_came_from_a_topic_is_a_placeholder_of_a_tooltip() -> None:
    assert not set("@$<>") & set(words.literal("@{y0}{safe} $name <b>"))


def test_trouble_names_the_address_that_was_tried_and_since_when() -> None:
    text = words.status(State("10.0.0.7:9092", "", trouble="Kafka does not answer at 10.0.0.7:9092", trouble_s=100.0), 112.0)
    assert "Kafka does not answer at 10.0.0.7:9092 · for 12 s · trying again" in text


def test_while_history_is_read_it_says_how_much_is_to_come() -> None:
    assert "reading history, 120,000 records to go" in words.status(State("", "", behind=120_000, looked=True), 0)


def test_an_empty_page_says_what_to_do() -> None:
    away = words.empty(State("10.0.0.7:9092", "http://10.0.0.7:8081", trouble="Kafka does not answer"), "")
    assert all(text in away for text in ("Kafka does not answer", "10.0.0.7:9092", "http://10.0.0.7:8081", "KAFKA_BOOTSTRAP_SERVERS"))
    assert "python -m bytewax.run flows.kpi" in words.empty(FINE, "")


def test_how_far_behind_the_numbers_are_is_said_in_words() -> None:
    text = words.freshness(100.0, 98_800, 88_000, 0)
    assert [part in text for part in ("data 1.2 s old", "watermark 12 s behind", "lag 0")] == [True] * 3
    assert "lag unknown" in words.freshness(100.0, None, None, None)


def test_old_data_looks_old_in_a_second_way() -> None:
    assert ['class="old"' in words.freshness(age_s, 0, None, 0) for age_s in (29.0, 31.0)] == [False, True]


def test_a_table_has_the_newest_rows_first_with_all_digits_and_says_what_it_leaves_out() -> None:
    rows = [
        Row(TOTAL, at * 10_000, (at + 1) * 10_000, 5, 2, at < 120, "idle" if at < 120 else None, (at + 0.123456789,)) for at in range(121)
    ]
    text = listings.table(Kpi("revenue", "sum", "total", "EUR"), "10s", [(row, row.values[0]) for row in rows])
    assert text.index("120.123456789") < text.index("119.123456789")
    assert "the newest 100 of 121 rows" in text
    assert "<td>provisional</td>" in text
    assert "<td>final, closed by idle</td>" in text
    assert '<th scope="col">Value (EUR)</th>' in text


def test_a_table_of_a_stretch_so_far_has_its_newest_step_first_and_says_how_far_a_value_may_be_off() -> None:
    rows = [Row(TOTAL, 0, end * 60_000, 5, 0, True, "data", (float(end),)) for end in (1, 3, 2)]
    buyers = Kpi("buyers", "distinct", "id", "", error=0.02, exact_up_to=1_024)
    text = listings.table(buyers, "1d so far, each 1m", [(row, row.values[0]) for row in rows])
    assert re.findall(r"<td>(\d)</td><td>5</td>", text) == ["3", "2", "1"]
    assert '<th scope="col">Value (± 2 % above 1,024)</th>' in text
    assert "Value (ms, ± 1 %)" in listings.table(Kpi("p95", "quantile", "ms", "ms", 0.95, error=0.01), "10s", [])


def test_a_chart_says_how_far_its_values_may_be_off_and_whose_windows_they_are() -> None:
    assert "quantile of ms · ± 1 % · 5m every 1m" in words.caption(
        Kpi("p95", "quantile", "ms", "ms", 0.95, error=0.01), "5m every 1m", None, None
    )
    hopping = replace(SHAPE, window="5m-1m", size_ms=300_000, kind=Kind("hopping", 60_000))
    session = replace(SHAPE, window="session-30s", size_ms=30_000, kind=Kind("session"))
    assert ">5m every 1m · by" in words.heading(replace(VIEW, shapes=(hopping,)), "")
    assert ">sessions, 30s gap · by" in words.heading(replace(VIEW, shapes=(session,)), "")


def test_of_many_values_a_tile_says_the_largest_three_whatever_their_order() -> None:
    assert words.number((("< 10", 1.0), ("10 to 50", 7.0), ("50 to 90", 3.0), ("≥ 90", 9.0))) == "≥ 90 9, 10 to 50 7, 50 to 90 3"


def test_a_message_whose_time_nobody_knows_says_so() -> None:
    assert "time unknown" in listings.asides("shop", [replace(ASIDE, timestamp_ms=-1)], "")


def test_a_message_that_was_set_aside_is_shown_with_its_place_and_its_first_bytes() -> None:
    aside = Aside("dead", "magic", "begins with 0x7b", "shop", 3, 41, 1_000, b"k", b'{"a"', 300)
    text = listings.asides("shop", [aside], "magic 1")
    assert [part in text for part in ("magic", "begins with 0x7b", "partition 3", "offset 41", "kpi.dead-letters")] == [True] * 5
    assert "7b 22 61 22" in text
    assert "296 bytes more" in text


def test_the_examples_in_the_documentation_are_true() -> None:
    assert doctest.testmod(words).failed == 0
    assert doctest.testmod(listings).failed == 0
