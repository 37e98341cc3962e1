"""What the dashboard reads from KPI topics' schemas and values."""

import doctest
import json
from decimal import Decimal

import pytest

from serve import shape
from serve.shape import Group, Kpi, Shape, label, plain, read_row, read_shape, shown

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
TEXT = json.dumps(
    {
        "type": "record",
        "name": "value",
        "kpi": {"topic": "shop.orders", "window": "1m", "size_ms": 60_000},
        "fields": [
            {"name": "group_by", "type": "string"},
            {"name": "address_country", "type": ["null", "string"], "default": None, "group": "address.country"},
            {"name": "window_start", "type": MILLIS},
            {"name": "window_end", "type": MILLIS},
            {"name": "events", "type": "long"},
            {"name": "revenue", "type": ["null", "double"], "kpi": {"aggregate": "sum", "of": "total", "unit": "EUR"}},
            {"name": "last_seen", "type": ["null", MILLIS], "kpi": {"aggregate": "max", "of": "at"}},
            {"name": "revision", "type": "int"},
            {"name": "final", "type": "boolean"},
            {"name": "closed_by", "type": ["null", "string"]},
        ],
    }
)
KPIS = (Kpi("revenue", "sum", "total", "EUR"), Kpi("last_seen", "max", "at", ""))
SHAPE = Shape("shop.orders", "1m", 60_000, KPIS, {"address.country": "address_country"}, 7)
VALUE: dict[str, object] = {
    "group_by": "address.country",
    "address_country": None,
    "window_start": 0,
    "window_end": 60_000,
    "events": 3,
    "revision": 2,
}
VALUE |= {"final": True, "closed_by": "idle", "revenue": Decimal("10.50")}


def test_a_schema_says_all_that_a_chart_needs() -> None:
    assert read_shape(TEXT, 7) == SHAPE


@pytest.mark.parametrize(
    "text", ['"string"', "[]", '{"type": "record", "name": "x", "fields": []}', '{"type": "record", "kpi": {"size_ms": "1"}}']
)
def test_a_schema_that_is_no_kpi_topics_has_no_shape(text: str) -> None:
    assert read_shape(text) is None


def test_a_row_names_its_group_by_paths_and_its_values_in_the_order_of_the_shape() -> None:
    row = read_row(SHAPE, VALUE)
    assert row.group == Group(("address.country",), (None,))
    assert (row.start_ms, row.end_ms, row.final, row.closed_by, row.values) == (0, 60_000, True, "idle", (10.5, None))


@pytest.mark.parametrize("broken", [{"window_start": "soon"}, {"events": None}])
def test_a_row_that_breaks_its_promise_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="want an integer"):
        read_row(SHAPE, VALUE | broken)


def test_long_groups_that_differ_only_at_their_end_are_two_and_their_labels_differ() -> None:
    groups = [read_row(SHAPE, {**VALUE, "address_country": "x" * 1_024 + end}).group for end in ("…1", "…2")]

    assert groups[0] != groups[1]
    assert {len(label(group.values)) for group in groups} == {81}
    assert label(groups[0].values) != label(groups[1].values)


@pytest.mark.parametrize("text", ["a\nb", "a\r\0", "\u202egnp.exe", "\u2066x", "\u200f", "\u2028", "\x1b[31m", "\x85"])
def test_nothing_that_acts_on_its_neighbours_is_shown(text: str) -> None:
    for said in (label([text]), shown(text)):
        assert isinstance(said, str)
        assert said.isprintable()
        assert said.isascii()
        assert "\\" in said


def test_letters_of_every_script_are_shown_as_they_are() -> None:
    for text in ("Ünï", "שלום", "a\u200cb", "日本", "👩\u200d🚀", "\\n"):
        assert label([text]) == shown(text) == text


def test_only_the_bounds_of_a_window_are_read_as_bare_integers() -> None:
    types = {field["name"]: field["type"] for field in plain(TEXT)["fields"]}
    assert (types["window_start"], types["window_end"], types["last_seen"]) == ("long", "long", ["null", MILLIS])


def test_the_examples_in_the_documentation_are_true() -> None:
    assert doctest.testmod(shape).failed == 0
