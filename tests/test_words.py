"""What the page says, and that nothing from a topic is HTML in it."""

import doctest
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from serve import words
from serve.feed import State
from serve.selection import View
from serve.shape import Group, Kpi, Row, Shape

EVIL = '<img src=x onerror="alert(1)">'
KPI = Kpi(EVIL, EVIL, EVIL, EVIL)
ROW = Row(Group((EVIL,), (EVIL,)), 0, 10_000, 5, 1, True, EVIL, (EVIL,))
VIEW = View(Shape(EVIL, EVIL, 10_000, (KPI,), {}), (EVIL,), (KPI,), ((EVIL,),), (EVIL,), ((EVIL,),))
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
    yield words.tile(KPI, EVIL, ROW, EVIL)
    yield words.caption(KPI, ROW, EVIL)
    yield words.heading(VIEW, [("#000", (EVIL,))], 1.2, words.fate("dead", {EVIL: 3}))
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


def test_an_empty_page_says_what_to_do() -> None:
    away = words.empty(State("10.0.0.7:9092", "http://10.0.0.7:8081", trouble="Kafka does not answer"), "")
    assert all(text in away for text in ("Kafka does not answer", "10.0.0.7:9092", "http://10.0.0.7:8081", "KAFKA_BOOTSTRAP_SERVERS"))
    assert "python -m bytewax.run flows.kpi" in words.empty(FINE, "")


def test_counts_and_age_are_words() -> None:
    text = words.heading(VIEW, [], 1.23, " · ".join([words.fate("late", {"late": 12}), words.fate("dead", {"magic": 2, "short": 1})]))
    assert "data 1.2 s old" in text
    assert ">late 12<" in text
    assert 'title="magic 2, short 1">dead 3<' in text


def test_the_examples_in_the_documentation_are_true() -> None:
    assert doctest.testmod(words).failed == 0
