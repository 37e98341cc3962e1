"""What the dashboard reads from KPI topics' schemas and values."""

import doctest
import io
import json
import math
from decimal import Decimal
from typing import Any

import fastavro
import pytest

from serve import kinds, shape
from serve.kinds import Kind
from serve.shape import DOC, MOST_BARS, MOST_LISTED, Bars, Group, Kpi, Shape, Value, label, plain, read_row, read_shape, shown

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
KPIS = (Kpi("revenue", "sum", "total", "EUR"), Kpi("last_seen", "max", "at", "", text=True))
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


PAIR = {"type": "record", "name": "pair", "fields": [{"name": "value", "type": "string"}, {"name": "count", "type": "long"}]}
LIST, MAP = {"type": "array", "items": PAIR}, {"type": "map", "values": "double"}


def widened(kind: object, said: dict[str, object] | None = None, **more: object) -> str:
    """The text of the schema with one KPI more, `kpi`, of that type."""
    schema = json.loads(TEXT)
    schema["fields"].append({"name": "kpi", "type": ["null", kind], "kpi": {"aggregate": "top"} | (said or {}), **more})
    return json.dumps(schema)


def kpi(text: str) -> Kpi | None:
    shape = read_shape(text)
    return shape.kpis[-1] if shape else None


def read(kind: object, value: object) -> Value:
    """A value of that type as a row has it, after it was written and read as Avro."""
    text = widened(kind)
    shape, parsed = read_shape(text), fastavro.parse_schema(plain(text))
    assert shape
    out = io.BytesIO()
    fastavro.schemaless_writer(out, parsed, {**VALUE, "revenue": 10.5, "kpi": value})
    record: Any = fastavro.schemaless_reader(io.BytesIO(out.getvalue()), parsed, None)
    return read_row(shape, record).values[-1]


def test_a_quantile_says_which_and_of_which_family() -> None:
    said = {"aggregate": "quantile", "of": "latency_ms", "unit": "ms", "q": 0.95, "family": "latency"}
    assert kpi(widened("double", said)) == Kpi("kpi", "quantile", "latency_ms", "ms", 0.95, "latency")


@pytest.mark.parametrize("q", ["0.5", True, None, 7, -0.1, [0.5], 1e999])
def test_a_quantile_that_is_none_is_unknown(q: object) -> None:
    assert kpi(widened("double", {"aggregate": "quantile", "q": q})) == Kpi("kpi", "quantile", "", "")


def test_texts_of_the_schema_are_one_line_and_not_long() -> None:
    schema = json.loads(widened("double", doc=" What\n  it is\0 " + "x" * 1_000))
    shape = read_shape(json.dumps(schema | {"doc": "Orders\nof the shop"}))
    assert shape
    assert shape.doc == "Orders of the shop"
    assert shape.kpis[-1].doc.startswith("What it is\\x00 xxx")
    assert len(shape.kpis[-1].doc) <= DOC


@pytest.mark.parametrize(
    ("kind", "value", "order"),
    [
        (MAP, {"DE": 1.5, "FR": 3.0, "AT": 1.5}, ["FR", "AT", "DE"]),  # a map has no order: the largest first, equal ones by name
        (LIST, [{"value": "DE", "count": 1}, {"value": "FR", "count": 3}, {"value": "AT", "count": 1}], ["DE", "FR", "AT"]),
    ],
)
def test_many_values_are_bars_a_maps_the_largest_first_and_an_arrays_in_its_order(kind: object, value: object, order: list[str]) -> None:
    found = read(kind, value)
    assert isinstance(found, tuple)
    assert [name for name, _ in found] == order
    assert (kpi(widened(kind)) or SHAPE.kpis[0]).bars
    assert read(kind, None) is None


def test_all_bins_of_a_histogram_are_kept_in_their_order_and_no_more_than_it_can_have() -> None:
    bins = ["< 0", *(f"{edge} \u2013 {edge + 1}" for edge in range(99)), "≥ 99"]
    value = [{"value": name, "count": (7 * at) % 101} for at, name in enumerate(bins)]
    assert read(LIST, value) == tuple((name, float((7 * at) % 101)) for at, name in enumerate(bins))
    assert len(read(LIST, [*value, *({"value": f"x{at}", "count": 1} for at in range(100))]) or ()) == MOST_LISTED  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("string", True), ({"type": "enum", "name": "e", "symbols": ["a"]}, True), (MILLIS, True), ("boolean", False), (MAP, False)],
)
def test_words_and_moments_are_text_and_anything_else_is_not(kind: object, *, text: bool) -> None:
    assert [it.text for it in (kpi(widened(kind)),) if it] == [text]


@pytest.mark.parametrize(
    ("said", "bound"),
    [
        ({"error": 0.02, "exact_up_to": 1_024}, (0.02, 1_024)),
        ({"error": 0.01}, (0.01, 0)),
        ({"error": "0.1", "exact_up_to": True}, (0.0, 0)),
        ({"error": math.inf, "exact_up_to": math.inf}, (0.0, 0)),
        ({"error": -1, "exact_up_to": -5}, (0.0, 0)),
    ],
)
def test_a_kpi_says_how_far_it_may_be_off(said: dict[str, object], bound: tuple[float, int]) -> None:
    assert [(it.error, it.exact_up_to) for it in (kpi(widened("double", said)),) if it] == [bound]


ABOUT = {"topic": "shop.orders", "window": "x", "size_ms": 300_000}


@pytest.mark.parametrize(
    ("said", "kind", "spoken"),
    [
        ({}, Kind(), "x"),  # as schemas were before there were kinds
        ({"kind": "tumbling", "step_ms": 0, "unit": "", "zone": ""}, Kind(), "x"),
        ({"kind": "tumbling", "unit": "1d", "zone": "Europe/Berlin"}, Kind("tumbling", 0, "1d", "Europe/Berlin"), "1d Europe/Berlin"),
        ({"kind": "hopping", "step_ms": 60_000}, Kind("hopping", 60_000), "5m every 1m"),
        ({"kind": "cumulate", "step_ms": 60_000}, Kind("cumulate", 60_000), "5m so far, each 1m"),
        ({"kind": "cumulate", "step_ms": 60_000, "unit": "1d"}, Kind("cumulate", 60_000, "1d"), "1d so far, each 1m"),
        ({"kind": "session", "step_ms": 7}, Kind("session"), "sessions, 5m gap"),
        ({"kind": "hopping"}, Kind(), "x"),
        ({"kind": "hopping", "step_ms": True}, Kind(), "x"),
        ({"kind": "spiral", "step_ms": 60_000}, Kind(), "x"),
        ({"kind": ["session"], "unit": 7, "zone": "<b>"}, Kind(), "x"),
    ],
)
def test_a_schema_says_of_what_kind_its_windows_are(said: dict[str, object], kind: Kind, spoken: str) -> None:
    shape = read_shape(json.dumps(json.loads(TEXT) | {"kpi": ABOUT | said}))
    assert shape
    assert (shape.kind, shape.spoken) == (kind, spoken)


@pytest.mark.parametrize("kind", ["double", "string", {"type": "map", "values": MAP}, {"type": "map", "values": "string"}])
def test_anything_else_is_not_bars(kind: object) -> None:
    found = kpi(widened(kind))
    assert found
    assert not found.bars


def test_a_value_that_is_neither_a_number_nor_a_text_nor_bars_is_unknown() -> None:
    assert read({"type": "map", "values": MAP}, {"a": {"b": 1.0}}) is None


@pytest.mark.parametrize(
    ("value", "bars"),
    [
        ({"a": math.nan, "b": math.inf, "c": -1.0}, (("c", -1.0),)),
        ({}, ()),
        ({"": 2.0, "a\n": 1.0}, (("(empty)", 2.0), ("a\\n", 1.0))),
        ({"a\n": 2.0, "a\\n": 1.0}, (("a\\n", 2.0), ("a\\n (2)", 1.0))),  # no two bars have one label
    ],
)
def test_what_bars_cannot_show_is_left_out_and_every_label_is_harmless_and_its_own(value: object, bars: Bars) -> None:
    assert read(MAP, value) == bars


def test_of_a_hundred_thousand_values_twenty_are_kept_and_long_names_are_cut() -> None:
    found = read(MAP, {f"{'x' * 200}{number}": float(number) for number in range(100_000)})
    assert isinstance(found, tuple)
    assert len(found) == MOST_BARS
    assert found[0][1] == 99_999
    assert {len(name) for name, _ in found} == {81}


NODE = {"type": "record", "name": "node", "fields": [{"name": "next", "type": ["null", "node"]}]}


@pytest.mark.parametrize("kind", [{"type": "array", "items": "null"}, {"type": "map", "values": {"type": "array", "items": "long"}}, NODE])
def test_a_type_whose_values_can_be_larger_than_their_bytes_or_nested_without_end_is_no_kpi_topics(kind: object) -> None:
    assert read_shape(widened(kind)) is None


def test_only_the_bounds_of_a_window_are_read_as_bare_integers() -> None:
    types = {field["name"]: field["type"] for field in plain(TEXT)["fields"]}
    assert (types["window_start"], types["window_end"], types["last_seen"]) == ("long", "long", ["null", MILLIS])


def test_the_examples_in_the_documentation_are_true() -> None:
    assert doctest.testmod(shape).failed == doctest.testmod(kinds).failed == 0
