"""Plans: what is computed, from what is declared and what the schemas hold."""

import json
import pickle
from collections.abc import Mapping

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.declaration import AGGREGATES
from flows.durations import label
from flows.errors import ConfigError
from flows.fields import Schema, read_schema
from flows.outputs import _say
from flows.windows import Window
from tests.core import MILLIS, money, planned, schema

MICROS = {"type": "long", "logicalType": "timestamp-micros"}
LOCAL = {"type": "long", "logicalType": "local-timestamp-millis"}
DATE = {"type": "int", "logicalType": "date"}
KINDS = {
    "integer": "long",
    "float": "double",
    "decimal": money(2),
    "boolean": "boolean",
    "string": "string",
    "time": MILLIS,
    "enum": {"type": "enum", "name": "E", "symbols": ["A", "B"]},
}
ORDERS = schema(
    {
        "placed_at": MILLIS,
        "total": money(2, 18),
        "price": "double",
        "quantity": "int",
        "status": ["null", "string"],
        "paid": "boolean",
        "channel": {"type": "enum", "name": "Channel", "symbols": ["WEB", "APP"]},
        "address": {"type": "record", "name": "Address", "fields": [{"name": "country", "type": "string"}]},
        "tags": {"type": "map", "values": "string"},
        "blob": "bytes",
    }
)


@pytest.mark.parametrize(
    ("fields", "time"),
    [
        ({"created_at": MILLIS, "ts": MILLIS, "event_time": MILLIS}, "event_time"),  # usual names in their own order
        ({"ts": "long", "timestamp": MICROS}, "timestamp"),
        ({"first": MILLIS, "occurred_at": "long"}, "occurred_at"),  # a usual name, as integer milliseconds, before any other timestamp
        ({"timestamp": "string", "second": MILLIS}, "second"),  # a usual name that is no time
        ({"timestamp": "double"}, None),
        ({"day": DATE, "a": MICROS, "b": MILLIS}, "a"),  # the first timestamp; a day is too coarse
        ({"a": LOCAL}, "a"),  # without a zone: UTC
        ({"a": ["null", MILLIS]}, "a"),
        ({"n": "long"}, None),  # the Kafka timestamp
    ],
)
def test_the_time_is_the_first_usual_name_else_the_first_timestamp_else_kafkas(fields: dict[str, object], time: str | None) -> None:
    assert planned("", schema(fields)).time == time


LOGICAL = schema(
    {
        "at": MILLIS,
        "day": ["null", DATE],
        "opens": {"type": "int", "logicalType": "time-millis"},
        "span": {"type": "fixed", "name": "Span", "size": 12, "logicalType": "duration"},
        "big": {"type": "bytes", "logicalType": "big-decimal"},
        "id": {"type": "fixed", "name": "Id", "size": 16, "logicalType": "uuid"},
        "mixed": ["null", "string", "long"],
        "number": ["null", "int", "double"],
        "paid": [
            {"type": "record", "name": "Card", "fields": [{"name": "fee", "type": "long"}]},
            {"type": "record", "name": "Cash", "fields": [{"name": "fee", "type": "long"}]},
        ],
        "tags": {"type": "map", "values": "string"},
    }
)


@pytest.mark.parametrize(
    ("field", "kind", "can"),
    [
        ("day", "date", {"count", "min", "max", "first", "last", "distinct"}),
        ("opens", "daytime", {"count", "min", "max", "first", "last", "distinct"}),
        ("at", "time", {"count", "min", "max", "first", "last", "distinct"}),
        ("span", "bytes", {"count"}),
        ("big", "bytes", {"count"}),
        ("id", "string", {"count", "min", "max", "first", "last", "distinct", "top"}),
        ("number", "float", set(AGGREGATES) - {"rate", "ratio", "share", "counts", "top"}),
    ],
)
def test_what_a_logical_type_can_be_measured_by(field: str, kind: str, can: set[str]) -> None:
    for aggregate in set(AGGREGATES) - {"rate", "ratio"}:
        said = f"kpis.x = {{ {aggregate} = '{field}'{', edges = [1]' if aggregate == 'histogram' else ''} }}"
        if aggregate in can:
            assert {kpi.kind for kpi in planned(said, LOGICAL).kpis} == {kind}
        else:
            with pytest.raises(ConfigError, match=rf"^topics\.t\.kpis\.x\.{aggregate}: got '{field}' of kind {kind}, want "):
                planned(said, LOGICAL)


@pytest.mark.parametrize("field", ["span", "big"])
def test_bytes_are_no_groups(field: str) -> None:
    with pytest.raises(ConfigError, match=rf"by\[0\]: got '{field}' of kind bytes, want text"):
        planned(f"by = ['{field}']", LOGICAL)


@pytest.mark.parametrize(
    ("said", "place", "what"),
    [
        ("kpis.x = { sum = 'mixed' }", "kpis.x.sum", "'mixed', which is a union of string and long"),
        ("kpis.x = { count = 'mixed' }", "kpis.x.count", "'mixed', which is a union of string and long"),
        ("by = ['paid.fee']", "by[0]", "'paid', which is a union of Card and Cash"),
        ("where = 'paid.fee > 1'", "where", "'paid', which is a union of Card and Cash"),
        ("by = ['UPPER(tags) AS t']", "by[0]", "'tags', which is a map"),
        ("time = 'mixed'", "time", "'mixed', which is a union of string and long"),
    ],
)
def test_a_field_of_several_types_or_values_is_refused_with_what_it_is(said: str, place: str, what: str) -> None:
    with pytest.raises(ConfigError) as refused:
        planned(said, LOGICAL)
    assert str(refused.value) == f"topics.t.{place}: got {what}, want a field of one value and one type"


def test_of_dates_and_times_of_day_nothing_is_derived() -> None:
    assert not [kpi for kpi in planned("", LOGICAL).kpis if kpi.of in {"day", "opens", "span", "big", "id"}]


def test_a_declared_time_goes_before_every_other() -> None:
    fields = schema(
        {"event_time": MILLIS, "n": "long", "inner": {"type": "record", "name": "I", "fields": [{"name": "at", "type": MILLIS}]}}
    )

    assert planned("time = 'n'", fields).time == "n"
    assert planned("time = 'inner.at'", fields).time == "inner.at"


@pytest.mark.parametrize(("time", "kind"), [("price", "float"), ("status", "string"), ("total", "decimal"), ("paid", "boolean")])
def test_a_declared_time_must_be_one(time: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"^topics\.t\.time: got '{time}' of kind {kind}, want a timestamp or integer"):
        planned(f"time = '{time}'", ORDERS)


def test_kpis_follow_from_types_where_none_are_declared() -> None:
    kpis = {kpi.name: (kpi.aggregate, kpi.of) for kpi in planned("", ORDERS).kpis}

    assert kpis == {
        "rate": ("rate", "*"),
        "total_sum": ("sum", "total"),
        "total_mean": ("mean", "total"),
        "total_min": ("min", "total"),
        "total_max": ("max", "total"),
        "price_mean": ("mean", "price"),
        "price_min": ("min", "price"),
        "price_max": ("max", "price"),
        "quantity_mean": ("mean", "quantity"),
        "quantity_min": ("min", "quantity"),
        "quantity_max": ("max", "quantity"),
        "paid_share": ("share", "paid"),
    }
    assert planned("", ORDERS).group_sets == ((),)


def test_an_integer_time_is_not_measured() -> None:
    assert [kpi.name for kpi in planned("", schema({"ts": "long"})).kpis] == ["rate"]


def test_a_nested_number_is_measured_by_its_path() -> None:
    place = {"type": "record", "name": "P", "fields": [{"name": "height", "type": "float"}]}

    assert ("place.height_max", "place.height") in {(kpi.name, kpi.of) for kpi in planned("", schema({"place": place})).kpis}


def test_what_is_declared_replaces_what_follows_from_types() -> None:
    assert [kpi.name for kpi in planned("kpis.n = { count = '*' }", ORDERS).kpis] == ["n"]


def test_only_what_is_needed_is_decoded() -> None:
    made = planned("by = [[], ['address.country']]\nwhere = \"status <> 'TEST'\"\nkpis.worth = { sum = 'price * quantity' }", ORDERS)

    assert {path for path, _ in made.columns} == {"placed_at", "address.country", "status", "price", "quantity"}


@pytest.mark.parametrize(
    ("said", "place", "got", "near"),
    [
        ("time = 'placd_at'", "time", "placd_at", "placed_at"),
        ("by = [[], ['channel', 'adress.country']]", "by[1]", "adress.country", "address.country"),
        ("where = \"statu <> 'TEST'\"", "where", "statu", "status"),
        ("kpis.x = { sum = 'totl' }", "kpis.x.sum", "totl", "total"),
        ("kpis.x = { sum = 'price * quantiy' }", "kpis.x.sum", "quantiy", "quantity"),
    ],
)
def test_an_unknown_field_is_named_with_its_place_the_choice_and_the_nearest(said: str, place: str, got: str, near: str) -> None:
    with pytest.raises(ConfigError) as refused:
        planned(said, ORDERS)

    line = str(refused.value)
    assert line.startswith(f"topics.t.{place}: got {got!r}, want one of ")
    assert near in line
    assert got == "blob" or f"did you mean {near!r}?" in line
    assert "\n" not in line


def said(aggregate: str) -> str:
    """That aggregate of `it`, as a table in kpi.toml."""
    return f"{{ {aggregate} = 'it'{', edges = [1, 5]' if aggregate == 'histogram' else ''} }}"


@pytest.mark.parametrize(("aggregate", "kind"), [(a, k) for a, kinds in AGGREGATES.items() if kinds for k in KINDS if k not in kinds])
def test_an_aggregate_refuses_what_it_cannot_measure(aggregate: str, kind: str) -> None:
    with pytest.raises(ConfigError, match=rf"^topics\.t\.kpis\.x\.{aggregate}: got 'it' of kind {kind}, want "):
        planned(f"kpis.x = {said(aggregate)}", schema({"it": KINDS[kind]}))


@pytest.mark.parametrize(("aggregate", "kind"), [(a, k) for a, kinds in AGGREGATES.items() for k in KINDS if k in kinds])
def test_an_aggregate_knows_the_kind_of_what_it_measures(aggregate: str, kind: str) -> None:
    kpis = planned(f"kpis.x = {said(aggregate)}", schema({"it": KINDS[kind]})).kpis

    assert {(kpi.aggregate, kpi.of, kpi.kind, kpi.scale) for kpi in kpis} == {(aggregate, "it", kind, 2 if kind == "decimal" else 0)}
    assert len(kpis) == (3 if aggregate == "quantile" else 1)


def test_a_quantile_is_a_kpi_for_each_q_and_all_of_one_family() -> None:
    kpis = planned("kpis.slow = { quantile = 'price', q = [0.5, 0.999], unit = 'ms' }", ORDERS).kpis

    assert [(kpi.name, kpi.q, kpi.family, kpi.unit) for kpi in kpis] == [
        ("slow_p50", 0.5, "slow", "ms"),
        ("slow_p99_9", 0.999, "slow", "ms"),
    ]


def test_a_top_and_a_histogram_know_what_they_were_told() -> None:
    top, bins = planned("kpis.x = { top = 'status', k = 3 }\nkpis.y = { histogram = 'price', edges = [-1, 0.5] }", ORDERS).kpis

    assert (top.k, bins.edges) == (3, (-1.0, 0.5))
    assert planned("kpis.x = { top = 'status' }", ORDERS).kpis[0].k == 10


RATIO = "kpis.worth = { sum = 'total' }\nkpis.n = { count = '*' }\nkpis.last = { last = 'status' }\nkpis.at = { max = 'placed_at' }\n"


def test_a_ratio_is_of_two_other_kpis() -> None:
    ratio = planned(RATIO + "kpis.basket = { ratio = ['worth', 'n'], unit = 'EUR' }", ORDERS).kpis[-1]

    assert (ratio.name, ratio.aggregate, ratio.parts, ratio.unit, ratio.of) == ("basket", "ratio", ("worth", "n"), "EUR", "*")


@pytest.mark.parametrize(("part", "near"), [("wort", "worth"), ("last", ""), ("at", ""), ("basket", ""), ("nn", "n")])
def test_a_ratio_takes_numbers_only_and_names_what_there_is(part: str, near: str) -> None:
    with pytest.raises(ConfigError) as refused:
        planned(RATIO + f"kpis.basket = {{ ratio = ['{part}', 'n'] }}", ORDERS)

    line = str(refused.value)
    assert line.startswith(f"topics.t.kpis.basket.ratio: got {part!r}, want two of the KPIs that are one number: worth, n")
    assert (f"did you mean {near!r}?" in line) == bool(near)


@pytest.mark.parametrize(
    ("sql", "kind", "scale"),
    [
        ("quantity + 1", "integer", 0),
        ("price * quantity", "float", 0),
        ("total * quantity", "decimal", 2),
        ("total - total", "decimal", 2),
        ('LENGTH("address.country")', "integer", 0),  # a path inside SQL stands in double quotes
    ],
)
def test_an_expression_has_the_kind_of_its_result(sql: str, kind: str, scale: int) -> None:
    (kpi,) = planned(f"kpis.x.sum = '{sql}'", ORDERS).kpis

    assert (kpi.kind, kpi.scale) == (kind, scale)


@pytest.mark.parametrize("where", ["quantity", "price + 1", "'yes'"])
def test_a_where_is_a_condition(where: str) -> None:
    with pytest.raises(ConfigError, match=r"^topics\.t\.where: got .* want a condition"):
        planned(f'where = "{where}"', ORDERS)


@pytest.mark.parametrize("sql", ["quantity >", "nosuch(quantity) > 1", "(SELECT 1) = 1", "quantity; price", "COLUMNS('p|q') > 1", "*", ""])
def test_what_is_no_expression_is_refused_in_one_line(sql: str) -> None:
    for said, place in ((f'where = "{sql}"', "where"), (f'kpis.x.sum = "{sql} "', r"kpis\.x\.sum")):
        with pytest.raises(ConfigError, match=rf"^topics\.t\.{place}: got [^\n]*want [^\n]*$"):
            planned(said, ORDERS)


@pytest.mark.parametrize("sql", ["SUM(quantity) > 3", "quantity > AVG(quantity) OVER (PARTITION BY status)", "ROW_NUMBER() OVER () > 1"])
def test_an_expression_that_looks_at_more_than_one_event_is_refused(sql: str) -> None:
    """Its result would depend on how the events were batched."""
    with pytest.raises(ConfigError, match=r"^topics\.t\.where: got "):
        planned(f'where = "{sql}"', ORDERS)


@pytest.mark.parametrize(
    "sql", ["status = 'Len'", "status LIKE '%Range%'", "status IN ('Rank', 'Sort')", "REPLACE(status, 'Agg', 'Over') = 'x'"]
)
def test_a_text_that_is_spelled_like_a_function_is_no_function(sql: str) -> None:
    assert planned(f'where = "{sql}"', ORDERS).where == sql


def test_a_field_may_be_called_like_a_function() -> None:
    fields = schema({"ts": MILLIS, "Len": "long", "Rank": "double", "Filter": "boolean"})

    made = planned('where = \'"Filter"\'\nkpis.x = { sum = \'"Len" + "Rank"\' }', fields)

    assert {path for path, _ in made.columns} == {"ts", "Len", "Rank", "Filter"}


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("int", "long", "integer"),
        ("long", "double", "float"),
        ("double", "int", "float"),  # the older holds both
        ("long", "string", "integer"),  # what KPIs cannot use changes nothing
        ("string", "long", "integer"),
        ("boolean", "string", "boolean"),
        ("long", money(2), "decimal"),
    ],
)
def test_a_field_is_what_both_its_versions_are_or_what_can_be_measured(old: object, new: object, kind: str) -> None:
    (kpi,) = planned("kpis.x = { count = 'it' }", schema({"it": old}, 1), schema({"it": new}, 2)).kpis

    assert kpi.kind == kind


def test_a_time_field_that_is_added_does_not_make_older_messages_timeless() -> None:
    old, new = schema({"at": MILLIS}, 1), schema({"at": MILLIS, "event_time": MILLIS}, 2)

    assert planned("", old, new).time == "at"
    assert planned("", new).time == "event_time"


def test_without_a_declared_time_the_field_depends_on_the_versions_met_so_far() -> None:
    #  met first   then     event time of what is read
    #  2           1        event_time, then at
    #  1           2        at, then at
    one, two = schema({"at": MILLIS}, 1), schema({"at": MILLIS, "event_time": MILLIS}, 2)

    assert [planned("", two).time, planned("", two, one).time] == ["event_time", "at"]
    assert [planned("", one).time, planned("", one, two).time] == ["at", "at"]
    assert [planned("time = 'at'", two).time, planned("time = 'at'", two, one).time] == ["at", "at"], "declared"


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**7), min_size=1, max_size=5))
def test_every_window_is_made_of_whole_slices_and_no_longer_slice_would_do(sizes_ms: list[int]) -> None:
    made = planned(f"windows = {[f'{size_ms}ms' for size_ms in sizes_ms]}", ORDERS)

    assert all(size_ms % made.slice_ms == 0 for size_ms in sizes_ms)
    assert not any(all(size_ms % (made.slice_ms * times) == 0 for size_ms in sizes_ms) for times in (2, 3, 5, 7, 11))
    assert made.windows == tuple(Window(size_ms, label(size_ms)) for size_ms in sorted(set(sizes_ms)))


@settings(deadline=None)
@given(st.integers(1, 10**15), st.integers(1, 10**15))
def test_two_sizes_never_share_a_label(one_ms: int, other_ms: int) -> None:
    assert (label(one_ms) == label(other_ms)) == (one_ms == other_ms)


def test_a_plan_is_the_same_whatever_order_versions_were_met_in() -> None:
    one, two, three = schema({"a": "int"}, 3), schema({"a": "int", "b": "double"}, 12), schema({"b": "double"}, 100)

    assert planned("", one, two, three) == planned("", three, one, two)
    assert planned("", three, one).version == (3, 100)


def test_the_newest_version_says_what_a_field_is_and_none_is_forgotten() -> None:
    """A higher id is the newer one, also where it sorts lower as text."""
    made = planned("", schema({"a": "int", "gone": "int"}, 9), schema({"a": "double", "new": "boolean"}, 10))

    assert dict(made.columns) == {"a": pl.Float64(), "gone": pl.Int64(), "new": pl.Boolean()}
    assert {kpi.name for kpi in made.kpis} == {"rate", "a_mean", "a_min", "a_max", "gone_mean", "gone_min", "gone_max", "new_share"}


def test_a_topic_without_a_readable_schema_has_a_plan_that_folds_nothing() -> None:
    made = planned("time = 'placed_at'\nby = [['status']]\nwhere = 'paid'\nkpis.x = { sum = 'total' }")

    assert (made.time, made.where, made.kpis, made.columns, made.version) == (None, None, (), (), ())
    assert made.group_sets == (("status",),)


def test_a_plan_travels_between_processes() -> None:
    made = planned("by = [[], ['status']]", ORDERS)

    assert pickle.loads(pickle.dumps(made)) == made


def annotated(fields: Mapping[str, tuple[object, object]], schema_id: int = 1) -> Schema:
    """An event of these fields: name -> (Avro type, annotation)."""
    named = [{"name": name, "type": avro, "kpi": kpi, "unit": "u"} for name, (avro, kpi) in fields.items()]
    return read_schema(schema_id, json.dumps({"type": "record", "name": "Event", "fields": named}))


def test_a_field_has_the_kpis_that_its_annotation_says_and_the_others_those_of_their_types() -> None:
    fields = {
        "total": (money(2), ["sum", "mean"]),
        "latency": (["null", "long"], {"quantile": [0.5, 0.99], "max": True}),
        "status": ("string", {"top": 3, "distinct": True}),
        "secret": ("long", []),
    }
    plain = {"name": "paid", "type": "boolean"}
    text = json.loads(annotated(fields).text)
    made = planned("", read_schema(1, json.dumps(text | {"fields": [*text["fields"], plain]})))

    assert [(kpi.name, kpi.aggregate, kpi.of, kpi.unit) for kpi in made.kpis] == [
        ("rate", "rate", "*", None),
        ("total_sum", "sum", "total", "u"),
        ("total_mean", "mean", "total", "u"),
        ("latency_p50", "quantile", "latency", "u"),
        ("latency_p99", "quantile", "latency", "u"),
        ("latency_max", "max", "latency", "u"),
        ("status_top", "top", "status", None),
        ("status_distinct", "distinct", "status", None),
        ("paid_share", "share", "paid", None),
    ]
    assert [kpi.k for kpi in made.kpis if kpi.aggregate == "top"] == [3]
    assert {path for path, _ in made.columns} == {"total", "latency", "status", "paid"}
    assert made.faults == ()


def test_what_the_file_declares_stands_in_place_of_annotations() -> None:
    made = planned("kpis.n = { count = '*' }", annotated({"total": ("long", ["sum"]), "x": ("long", "nonsense")}))

    assert ([kpi.name for kpi in made.kpis], made.faults) == (["n"], ())


@pytest.mark.parametrize(
    ("kpi", "fault"),
    [
        ("sum", 'it: got "sum", want a list such as ["sum", "mean"], or a table such as {"quantile": [0.5, 0.99]}'),
        (None, "it: got null, want a list"),
        (3, "it: got 3, want a list"),
        (["sum", "sum"], 'it: got ["sum", "sum"], want a list'),
        ([["sum"]], 'it: got [["sum"]], want a list'),
        (["summ"], "it: got 'summ', want one of count, sum, "),
        (["summ"], "(did you mean 'sum'?)"),
        (["rate"], "it: got 'rate', want one of count"),
        (["ratio"], "it: got 'ratio', want one of count"),
        (["histogram"], "it: histogram: got True, want edges beside histogram"),
        ({"quantile": [50]}, "it: quantile: got [50], want at most 20 different numbers from 0 to 1"),
        ({"top": "x"}, "it: top: got 'x', want a whole number from 1 to 100"),
        ({"sum": 3}, "it: sum: got 3, want true"),
        ({"aggregate": "sum", "of": "total"}, "it: got 'aggregate', want one of count"),  # as a KPI topic's schema says it
        (["share"], "it: share: got 'it' of kind integer, want boolean"),
    ],
)
def test_an_annotation_of_no_use_is_said_and_the_field_has_the_kpis_of_its_type(kpi: object, fault: str) -> None:
    made = planned("", annotated({"it": ("long", kpi)}))

    assert [fault in said for said in made.faults] == [True], made.faults
    assert [kpi.name for kpi in made.kpis] == ["rate", "it_mean", "it_min", "it_max"]


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda of: st.lists(of) | st.dictionaries(st.sampled_from([*AGGREGATES, "x"]), of),
        max_leaves=5,
    )
)
def test_no_annotation_whatever_it_is_keeps_a_topic_from_its_kpis(kpi: object) -> None:
    made = planned("", annotated({"it": ("long", kpi), "other": ("double", ["max"])}))

    names = [kpi.name for kpi in made.kpis]
    assert {"rate", "other_max"} <= set(names)
    assert len(set(names)) == len(names)
    assert not made.faults or "it_mean" in names


def test_the_newest_version_that_has_a_field_says_what_kpis_it_has() -> None:
    old, new = annotated({"a": ("long", ["sum"]), "b": ("long", ["max"])}, 1), annotated({"a": ("double", ["last"])}, 2)

    assert [kpi.name for kpi in planned("", new, old).kpis] == ["rate", "a_last", "b_max"]


def test_an_annotated_time_is_measured_too() -> None:
    made = planned("", annotated({"at": (MILLIS, ["last"])}))

    assert (made.time, [kpi.name for kpi in made.kpis]) == ("at", ["rate", "at_last"])


def test_an_annotation_of_no_use_is_one_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    one, two = planned("", annotated({"it": ("long", ["summ"])})), planned("", annotated({"it": ("long", ["summ"])}, 2))

    _say(None, one)
    _say(one, two)

    (line,) = caplog.messages
    assert line.startswith("t: the schema's annotation \"kpi\" is left out: it: got 'summ', want one of ")
