"""What is looked at, and its address in the browser."""

import doctest
from urllib.parse import parse_qs

from hypothesis import given, settings
from hypothesis import strategies as st

from serve import selection
from serve.selection import ALL, LINES, RANGES, THEMES, Wish, read_wish, resolve
from serve.series import Offer
from serve.shape import Kpi, Shape

KPIS = (Kpi("orders", "count", "*", ""), Kpi("revenue", "sum", "total", "EUR"))
SETS = ((), ("country",), ("country", "channel"))
CATALOG = {
    topic: {window: Offer(Shape(topic, window, size_ms, KPIS, {}), SETS) for window, size_ms in (("10s", 10_000), ("1m", 60_000))}
    for topic in ("pay", "shop")
}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    by = tuple(draw(st.lists(st.from_regex("[a-z_.]{1,9}", fullmatch=True), max_size=3, unique=True)))
    groups = draw(st.lists(st.tuples(*(st.none() | TEXT for _ in by)), max_size=LINES, unique=True)) if by else []
    names = [tuple(draw(st.lists(TEXT.filter(bool), max_size=3))) for _ in range(2)]
    rest = (
        draw(st.sampled_from(["", *RANGES])),
        draw(st.integers(0, 10**14)),
        names[1],
        draw(st.booleans()),
        draw(st.sampled_from(["", *THEMES])),
    )
    return Wish(draw(TEXT), draw(TEXT), names[0], by, tuple(groups), *rest)


@settings(deadline=None)
@given(wishes())
def test_what_is_written_into_the_address_is_read_back(wish: Wish) -> None:
    query = parse_qs(wish.query(), keep_blank_values=True)
    assert read_wish({name: [text.encode() for text in texts] for name, texts in query.items()}) == wish


def test_groups_as_long_as_a_record_has_them_are_read_back() -> None:
    wish = Wish("t", by=("a", "b", "c"), groups=(("ü" * 530, "€" * 350, "x" * 1_057),))
    query = parse_qs(wish.query(), keep_blank_values=True)
    assert read_wish({name: [text.encode() for text in texts] for name, texts in query.items()}) == wish


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["topic", "window", "kpi", "by", "group", "last", "until", "table", "asides", "theme", "more"]),
        st.lists(st.binary(max_size=50), max_size=20),
    )
)
def test_no_address_breaks_the_page(arguments: dict[str, list[bytes]]) -> None:
    wish = read_wish(arguments)
    assert len(wish.groups) <= LINES
    assert all(len(values) == len(wish.by) for values in wish.groups)
    resolve(wish, CATALOG)


def test_without_a_wish_the_first_topic_is_shown_with_its_smallest_window_all_kpis_and_the_total() -> None:
    view = resolve(Wish(), CATALOG)
    assert view is not None
    assert (view.shape.topic, view.shape.window, view.kpis, view.by) == ("pay", "10s", KPIS, ())


def test_a_wish_is_met() -> None:
    view = resolve(Wish("shop", "1m", ("revenue",), ("country",), (("DE",),)), CATALOG)
    assert view is not None
    assert (view.shape.topic, view.shape.window, view.kpis, view.by, view.groups) == ("shop", "1m", KPIS[1:], ("country",), (("DE",),))


def test_all_windows_are_shown_side_by_side() -> None:
    view = resolve(Wish("shop", ALL), CATALOG)
    assert view is not None
    assert ([shape.window for shape in view.shapes], view.window, view.shape.window) == (["10s", "1m"], ALL, "10s")


def test_a_kpi_that_only_some_windows_have_is_shown_too() -> None:
    more = (*KPIS, Kpi("new", "max", "total", "EUR"))
    catalog = {
        "shop": {"10s": Offer(Shape("shop", "10s", 10_000, KPIS, {}), SETS), "1m": Offer(Shape("shop", "1m", 60_000, more, {}), SETS)}
    }
    view = resolve(Wish("shop", ALL), catalog)
    assert view is not None
    assert sorted(kpi.name for kpi in view.kpis) == ["new", "orders", "revenue"]


def test_a_topic_that_is_not_there_yet_is_waited_for() -> None:
    assert resolve(Wish("new"), CATALOG) is None


def test_what_a_topic_does_not_have_falls_back_to_what_it_has() -> None:
    view = resolve(Wish("shop", "7m", ("gone",), ("planet",), (("Mars",),)), CATALOG)
    assert view is not None
    assert (view.shape.window, view.kpis, view.by, view.groups) == ("10s", KPIS, (), ())


def test_the_examples_in_the_documentation_are_true() -> None:
    assert doctest.testmod(selection).failed == 0
