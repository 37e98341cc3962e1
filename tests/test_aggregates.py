"""Every aggregate: the same result however its events are cut up and put together, and the right one."""

import math
import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from random import Random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import aggregates, declaration
from flows.plan import Kpi, TopicPlan
from flows.tallies import MOST, labels
from flows.vault import packed, unpacked
from flows.windows import END, START
from tests.core import MILLIS, frame, money, planned, schema
from tests.differences import agree
from tests.oracle_aggregates import FLOOR, LONG_MAX, result

SIZE_MS, SLICE_MS = 30, 10
STATE = {"type": "enum", "name": "State", "symbols": ["NEW", "PAID", "GONE"]}
AVRO: dict[str, Any] = {
    "integer": "long",
    "float": "double",
    "decimal": money(4),
    "boolean": "boolean",
    "string": "string",
    "enum": STATE,
    "time": MILLIS,
}
FINITE = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 5e-324, -5e-324, 1e308, -1e308, sys.float_info.max])
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.integers(-LONG_MAX - 1, LONG_MAX) | st.integers(-9, 9) | st.sampled_from([LONG_MAX, -LONG_MAX - 1]),
    "float": st.floats(-1e15, 1e15) | st.floats(1e9 - 3, 1e9 + 3),
    "decimal": st.decimals(-(10**20), 10**20, places=4) | st.decimals(-9, 9, places=4),
    "boolean": st.booleans(),
    "string": st.text(max_size=3) | st.sampled_from("ab"),
    "enum": st.sampled_from(STATE["symbols"]),
    "time": st.integers(0, 2**41),
}
ANY_FLOAT = ("min", "max", "first", "last", "quantile", "distinct", "histogram", "count")  # that no value can drive beyond a double
MORE = {"quantile": ", q = [0, 0.5, 0.99, 1]", "top": ", k = 2", "histogram": ", edges = [-1e9, 0, 2.5]"}
TABLE = [
    (name, kind) for name, kinds in declaration.AGGREGATES.items() if name != "ratio" for kind in kinds or ("integer",) if kind in AVRO
]
Event = tuple[int, str | None, Any]


def measured(aggregate: str, avro: object, *versions: object) -> TopicPlan:
    """The plan of one KPI over `it`, of each of the field's types one version of the schema."""
    of = "*" if aggregate == "rate" else "it"
    said = f"by = ['g']\nwindows = ['10ms']\n[topics.t.kpis]\nx = {{ {aggregate} = '{of}'{MORE.get(aggregate, '')} }}"
    fields = [schema({"ts": "long", "g": ["null", "string"], "it": one}, number) for number, one in enumerate((avro, *versions), 1)]
    return planned(said, *fields)


def framed(made: TopicPlan, events: Sequence[Event]) -> pl.DataFrame:
    """Events, each in its slice; those of one time come one after the other."""
    rows = [(ms, g, *[value] * len(made.measures)) for ms, g, value in events]
    return frame(made, rows).with_columns((pl.col("time") // SLICE_MS * SLICE_MS).alias(START))


def keys(made: TopicPlan) -> list[str]:
    return [START, *(f"by:{path}" for path in made.groups)]


def added(made: TopicPlan, rows: pl.DataFrame) -> pl.DataFrame:
    return aggregates.add(rows, made, keys(made))


def merged(made: TopicPlan, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return aggregates.merge(pl.concat(parts), made, keys(made))


def whole(made: TopicPlan, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Closed parts as the window that they are of."""
    return merged(made, [part.with_columns(pl.lit(0, pl.Int64).alias(START)) for part in parts])


def answers(made: TopicPlan, table: pl.DataFrame) -> dict[str | None, tuple[int, list[object]]]:
    """Of each group its events and the values of its KPIs."""
    found = aggregates.results(table.with_columns((pl.col(START) + SIZE_MS).alias(END)), made)
    assert found.columns == [f"kpi:{kpi.name}" for kpi in made.kpis]
    return {g: (events, list(row)) for g, events, row in zip(table["by:g"], table["events"], found.iter_rows(), strict=True)}


def of(aggregate: str, kind: str, *parts: Sequence[object]) -> object:
    """The result over some parts, each added by itself."""
    made = measured(aggregate, AVRO[kind])
    tables = [added(made, framed(made, [(number, "a", value) for value in part])) for number, part in enumerate(parts)]
    return answers(made, whole(made, tables))["a"][1][0]


def increase(values: Sequence[Any]) -> Any:
    risen = sum((b - a if b >= a else b for a, b in pairwise(values)), type(values[0])(0))
    return None if isinstance(risen, int) and not -LONG_MAX - 1 <= risen <= LONG_MAX else risen


def pairs(label: str, counts: Sequence[tuple[str, int]]) -> list[dict[str, object]]:
    return [{label: name, "n": n} for name, n in counts]


def texts(values: Sequence[object]) -> list[tuple[str, int]]:
    spelled = Counter(str(value).lower() if isinstance(value, bool) else str(value) for value in values)
    return sorted(spelled.items(), key=lambda it: (-it[1], it[0]))


def bins(values: Sequence[Any], edges: Sequence[float]) -> list[tuple[str, int]]:
    """An edge of decimals is what is written."""
    exact = [Fraction(repr(edge)) if isinstance(values[0], Decimal) else Fraction(edge) for edge in edges]
    counts = Counter(bisect_right(exact, Fraction(value)) for value in values)
    return [(name, counts[number]) for number, name in enumerate(labels(edges))]


BY_HAND: dict[str, Callable[[Kpi, list[Any]], Any]] = {
    "min": lambda _, values: min(values),
    "max": lambda _, values: max(values),
    "increase": lambda _, values: increase(values),
    "first": lambda _, values: values[0],
    "last": lambda _, values: values[-1],
    "counts": lambda _, values: pairs("value", sorted(texts(values))),
    "top": lambda kpi, values: pairs("value", texts(values)[: kpi.k]),
    "histogram": lambda kpi, values: pairs("bin", bins(values, kpi.edges)),
    "quantile": lambda kpi, values: float(sorted(values)[math.floor((kpi.q or 0) * (len(values) - 1))]),
}


def wanted(kpi: Kpi, values: list[Any], events: int) -> tuple[Any, float]:
    """What the specification says of values in order, and by how much a float may miss it."""
    there = [value for value in values if value is not None]
    if kpi.aggregate in {"count", "distinct"}:
        return len(there if kpi.aggregate == "count" else set(there)), 0.0
    if kpi.aggregate in BY_HAND:
        want = BY_HAND[kpi.aggregate](kpi, there) if there else None
        slack: dict[str, Callable[[], float]] = {
            "quantile": lambda: 0.01 * abs(want or 0),
            "increase": lambda: 4 * FLOOR * float(sum(map(abs, there))),
        }
        return want, slack.get(kpi.aggregate, float)()
    if kpi.aggregate == "mean" and there:
        return result("mean", there, events, SIZE_MS)[0], result("sum", there, 0, 1)[1]
    return result(kpi.aggregate, there, events, SIZE_MS)


def checked(made: TopicPlan, table: pl.DataFrame, events: Sequence[Event]) -> None:
    ordered = sorted(events, key=lambda event: event[0])  # stable: those of one time stay as they came
    found = answers(made, table)
    assert set(found) == {g for _, g, _ in events}
    for g, (count, got) in found.items():
        mine = [value for _, other, value in ordered if other == g]
        assert count == len(mine)
        for kpi, value in zip(made.kpis, got, strict=True):
            want, slack = wanted(kpi, mine, len(mine))
            same = value == want if isinstance(want, list) else agree(want, value, slack)
            assert same, f"{kpi.name} of {mine}: got {value!r}, want {want!r}"


def cuts(rows: pl.DataFrame, rnd: Random) -> list[pl.DataFrame]:
    """Anywhere, also into nothing."""
    edges = sorted(rnd.randint(0, len(rows)) for _ in range(rnd.randint(0, 4)))
    return [rows[a:b] for a, b in pairwise([0, *edges, len(rows)])]


def streams(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Event]]:
    return st.lists(st.tuples(st.integers(0, SIZE_MS - 1), st.sampled_from([None, "", "a"]), st.none() | values), max_size=14)


@pytest.mark.parametrize(("aggregate", "kind"), TABLE)
@settings(max_examples=40, deadline=None)
@given(st.data(), st.randoms(use_true_random=False))
def test_a_result_is_right_whatever_the_order_and_grouping_of_merges(aggregate: str, kind: str, data: st.DataObject, rnd: Random) -> None:
    """Parts of open slices come in any order; closed ones, settled or not, are put together with their neighbours in any grouping.

    events -> any cut -> add -> any merge -> slices 0, 10, 20 -> settle or not -> any merge of neighbours -> settle or not -> ... window
    """
    values = FINITE if kind == "float" and aggregate in ANY_FLOAT else VALUES[kind]
    events = data.draw(streams(values))
    made = measured(aggregate, AVRO[kind])

    rows = framed(made, events)
    parts = [added(made, part) for part in cuts(rows[rnd.sample(range(len(rows)), len(rows))], rnd)]
    rnd.shuffle(parts)
    while len(parts) > 1:
        some = [parts.pop() for _ in range(rnd.randint(2, len(parts)))]
        parts.insert(rnd.randint(0, len(parts)), merged(made, some))
    closed = [parts[0].filter(pl.col(START) == start_ms) for start_ms in range(0, SIZE_MS, SLICE_MS)]
    closed = [unpacked(packed(one)) if rnd.random() < 0.3 else one for one in closed]
    while len(closed) > 1:
        closed = [aggregates.settle(one, made) if rnd.random() < 0.6 else one for one in closed]
        at = rnd.randint(0, len(closed) - 2)
        closed[at : at + 2] = [whole(made, rnd.sample(closed[at : at + 2], 2))]
    (window,) = closed

    checked(made, window, events)
    checked(made, whole(made, [added(made, rows)]), events)
    assert window.schema == added(made, rows).schema


@pytest.mark.parametrize(("aggregate", "kind"), TABLE)
@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_state_that_lacks_a_kpi_holds_events_without_values(aggregate: str, kind: str, data: st.DataObject) -> None:
    before, after = data.draw(streams(VALUES[kind])), data.draw(streams(VALUES[kind]))
    made = measured(aggregate, AVRO[kind])
    old = planned("by = ['g']\nwindows = ['10ms']\nkpis.x = { count = '*' }", schema({"ts": "long", "g": ["null", "string"]}))
    table = aggregates.conform(added(old, framed(old, before)), made, aggregates.scales(old))

    assert table.schema == added(made, framed(made, [])).schema
    checked(made, whole(made, [table, added(made, framed(made, after))]), [*((ms, g, None) for ms, g, _ in before), *after])


@pytest.mark.parametrize(
    ("before", "after"), [("int", "long"), ("long", "double"), ("long", money(2)), (money(2), money(4)), (money(2), "double")]
)
@pytest.mark.parametrize("aggregate", [name for name, kinds in declaration.AGGREGATES.items() if "decimal" in kinds])
@settings(max_examples=10, deadline=None)
@given(numbers=st.lists(st.integers(-999, 999), min_size=1, max_size=6), split=st.integers(0, 6))
def test_values_of_a_field_that_is_promoted_count_as_what_they_are_now(
    aggregate: str, before: Any, after: Any, numbers: list[int], split: int
) -> None:
    old, new = measured(aggregate, before), measured(aggregate, before, after)
    number = {"int": int, "long": int, "double": float}
    was, now = (number.get(str(avro), Decimal) for avro in (before, after))
    first = [(ms, "a", was(n)) for ms, n in enumerate(numbers[:split])]
    second = [(ms, "a", now(n)) for ms, n in enumerate(numbers[split:], SLICE_MS)]
    table = aggregates.settle(added(old, framed(old, first)), old)
    conformed = aggregates.conform(table, new, aggregates.scales(old))

    assert conformed.schema == added(new, framed(new, [])).schema
    checked(new, whole(new, [conformed, added(new, framed(new, second))]), [(ms, g, now(n)) for ms, g, n in (*first, *second)])


# -- one at a time


def test_a_deviation_of_one_around_a_thousand_million_comes_out_right() -> None:
    rnd = Random(7)
    values = [rnd.gauss(1e9, 1) for _ in range(10_000)]
    want, slack = result("deviation", values, len(values), SIZE_MS)
    parts = [values[start : start + 100] for start in range(0, len(values), 100)]

    assert of("deviation", "float", values) == pytest.approx(want, abs=slack)
    assert of("deviation", "float", *parts) == pytest.approx(want, abs=slack)


def test_stretches_far_apart_have_the_deviation_of_all() -> None:
    #  [ 0 0 )[ 100 100 )    mean 50, sum of squares 4 * 50²
    assert of("deviation", "integer", [0, 0], [100, 100]) == pytest.approx(math.sqrt(4 * 50**2 / 3))


@pytest.mark.parametrize(("parts", "want"), [([[None]], None), ([[5]], None), ([[5], [None]], None), ([[5], [7]], math.sqrt(2))])
def test_a_deviation_needs_two_values(parts: list[list[object]], want: float | None) -> None:
    assert of("deviation", "integer", *parts) == pytest.approx(want)


@pytest.mark.parametrize(
    ("parts", "want"),
    [
        ([[LONG_MAX]], LONG_MAX),
        ([[LONG_MAX - 1], [1]], LONG_MAX),
        ([[LONG_MAX], [1]], None),
        ([[LONG_MAX, 1]], None),
        ([[-LONG_MAX - 1]], -LONG_MAX - 1),
        ([[-LONG_MAX], [-1]], -LONG_MAX - 1),
        ([[-LONG_MAX - 1], [-1]], None),
        ([[LONG_MAX, LONG_MAX], [-LONG_MAX], [-LONG_MAX, 3]], 3),  # beyond a long on the way, and back
        ([[LONG_MAX, LONG_MAX], [LONG_MAX, LONG_MAX]], None),  # twice around a long would be -4
    ],
)
def test_an_integer_sum_is_exact_to_the_edges_of_a_long_and_null_beyond(parts: list[list[object]], want: int | None) -> None:
    assert of("sum", "integer", *parts) == want


def test_a_mean_is_right_where_its_sum_is_beyond_a_long() -> None:
    assert of("mean", "integer", [LONG_MAX, LONG_MAX], [LONG_MAX]) == float(LONG_MAX)


def test_decimals_are_exact_to_the_last_digit() -> None:
    cents = [Decimal("0.10")] * 3
    large, negative = Decimal("123456789012345678901234567890.1234"), Decimal("-123456789012345678901234567890.1234")
    below = Decimal("123456789012345678901234567890.1233")

    assert of("sum", "decimal", cents[:1], cents[1:]) == Decimal("0.30")
    assert of("sum", "decimal", [large], [Decimal("0.0001")], [negative]) == Decimal("0.0001")
    assert of("max", "decimal", [below], [large]) == large
    assert of("min", "decimal", [below], [large]) == below
    assert of("last", "decimal", [large], [below]) == below
    assert of("increase", "decimal", [below], [large]) == Decimal("0.0001")
    assert of("distinct", "decimal", [below, large], [Decimal("1.10"), Decimal("1.1"), Decimal(1)]) == 4


@pytest.mark.parametrize("parts", [[[Decimal("9e33"), Decimal("9e33")]], [[Decimal("9e33")], [Decimal("9e33")]]])
def test_a_decimal_sum_beyond_38_digits_is_null_and_no_crash(parts: list[list[object]]) -> None:
    assert of("sum", "decimal", *parts) is None


def test_of_nothing_sums_and_numbers_are_zero_and_all_else_is_null() -> None:
    zero = {"count", "sum", "distinct"}
    for aggregate, kind in TABLE:
        if aggregate != "rate":
            assert of(aggregate, kind, [None, None], [None]) == (0 if aggregate in zero else None), aggregate


def test_a_share_is_of_those_that_say_yes_or_no() -> None:
    assert of("share", "boolean", [True, None, False], [True, True]) == 0.75


def test_a_rate_is_events_a_second_of_the_windows_own_length() -> None:
    made = measured("rate", "long")
    table = whole(made, [added(made, framed(made, [(0, "a", None)] * 30))])
    ends = [aggregates.results(table.with_columns(pl.lit(end, pl.Int64).alias(END)), made).item() for end in (10_000, 60_000, 1)]

    assert ends == [3.0, 0.5, 30_000.0]


def test_kpis_of_one_column_share_what_they_need() -> None:
    made = planned(
        "windows = ['10ms']\n[topics.t.kpis]\na = { sum = 'it' }\nb = { mean = 'it' }\nc = { count = 'it' }\nd = { share = 'ok' }\n"
        "e = { quantile = 'it' }\nf = { quantile = 'it', q = [0.1] }\ng = { histogram = 'it', edges = [1] }\n"
        "h = { histogram = 'it', edges = [1, 2] }",
        schema({"it": "long", "ok": "boolean"}),
    )
    columns = aggregates.add(frame(made, []).with_columns(pl.lit(0).alias(START)), made, [START]).columns

    assert len(columns) == len([START, "events", "sum of it", "n of it", "sum of ok", "n of ok", "buckets", "one edge", "two edges"])


@pytest.mark.parametrize("scale", [0, 1, 2, 17, 22, 23, 37])
def test_a_value_beside_an_edge_is_in_its_bin_though_a_double_cannot_tell_them_apart(scale: int) -> None:
    made = planned(
        "by = ['g']\nwindows = ['10ms']\n[topics.t.kpis]\nx = { histogram = 'it', edges = [-10, 0.1, 0.3, 7, 1e20, 1e300] }",
        schema({"ts": "long", "g": ["null", "string"], "it": money(scale)}),
    )
    at = [int(Fraction(edge) * 10**scale) for edge in ("-10", "0.1", "0.3", "7", "1e20")]
    values = [Decimal(unscaled + by).scaleb(-scale) for unscaled in at for by in (-1, 0, 1) if abs(unscaled) < 10**37]
    events = [(0, "a", value) for value in values]

    checked(made, whole(made, [added(made, framed(made, events))]), events)


@pytest.mark.parametrize("edge", [2**53, 2**60, 2**63])
def test_a_whole_number_beside_an_edge_is_in_its_bin(edge: int) -> None:
    made = planned(
        f"by = ['g']\nwindows = ['10ms']\n[topics.t.kpis]\nx = {{ histogram = 'it', edges = [{-edge}, 0.5, {edge}] }}",
        schema({"ts": "long", "g": ["null", "string"], "it": "long"}),
    )
    values = [sign * edge + by for sign in (-1, 1) for by in (-1, 0, 1)] + [0, 1]
    events = [(0, "a", value) for value in values if -(2**63) <= value < 2**63]

    checked(made, whole(made, [added(made, framed(made, events))]), events)


def test_a_table_without_lists_has_events_and_times_of_sessions() -> None:
    made = planned("windows = ['gap 10ms']\nkpis.n = { count = '*' }", schema({"ts": "long"}))
    parts = [aggregates.add(frame(made, rows).with_columns(pl.lit(0).alias(START)), made, [START]) for rows in ([(7,), (3,)], [(9,)])]
    table = aggregates.merge(pl.concat(parts), made, [START])

    assert table.select("events", aggregates.FIRST_TIME, aggregates.LAST_TIME).rows() == [(3, 3, 9)]


@pytest.mark.parametrize(
    ("above", "below", "want"),
    [(3, 4, 0.75), (3, 0, None), (None, 4, None), (0, 4, 0.0), (LONG_MAX, 1, float(LONG_MAX))],
)
def test_a_ratio_is_of_the_results_of_two_kpis(above: int | None, below: int, want: float | None) -> None:
    made = planned("kpis = { r = { ratio = ['a', 'b'] }, a = { max = 'a' }, b = { sum = 'b' } }", schema({"a": "long", "b": "long"}))
    assert ratio_of(made, above, below) == want


@pytest.mark.parametrize(("above", "below", "want"), [(1e308, 0.1, None), (1e-308, 1e308, 0.0), (-3.0, 2.0, -1.5), (5e-324, 5e-324, 1.0)])
def test_a_ratio_beyond_a_double_is_null(above: float, below: float, want: float | None) -> None:
    made = planned("kpis = { r = { ratio = ['a', 'b'] }, a = { max = 'a' }, b = { sum = 'b' } }", schema({"a": "double", "b": "double"}))
    assert ratio_of(made, above, below) == want


def test_a_ratio_may_be_of_a_decimal_and_of_a_number_of_values() -> None:
    said = "kpis = { r = { ratio = ['a', 'b'] }, a = { sum = 'a' }, b = { distinct = 'b' } }"
    assert ratio_of(planned(said, schema({"a": money(2), "b": "string"})), Decimal("1.50"), "12") == 1.5


def ratio_of(made: TopicPlan, above: object, below: object) -> object:
    table = aggregates.add(frame(made, [(0, above, below)]).with_columns(pl.lit(0).alias(START)), made, [START])
    found = aggregates.results(table.with_columns(pl.lit(1).alias(END)), made)
    assert found.columns == ["kpi:r", "kpi:a", "kpi:b"]
    return found["kpi:r"].item()


def test_first_and_last_are_by_time_then_partition_then_offset_and_not_by_arrival() -> None:
    #  [0 ----------)[10 --------)     the later slice is folded first; of one time the smaller offset is the earlier
    made = measured("first", "string")
    events = [(12, "a", "d"), (3, "a", None), (5, "a", "b"), (5, "a", "c")]
    parts = [added(made, framed(made, events)[at : at + 1]) for at in (0, 3, 1, 2)]

    assert answers(made, whole(made, parts))["a"] == (4, ["b"])


@pytest.mark.parametrize(
    ("samples", "want"),
    [([5], 0), ([3, 5, 9, 2, 4], 6 + 2 + 2), ([0, LONG_MAX, 0, LONG_MAX], None), ([-LONG_MAX - 1, LONG_MAX], None), ([-5, -3, -4], 2 - 4)],
)
def test_a_counter_that_begins_anew_goes_on_from_there(samples: list[int], want: int | None) -> None:
    assert of("increase", "integer", samples) == want
    assert of("increase", "integer", *[[sample] for sample in samples]) == want


def test_an_increase_of_decimals_beyond_38_digits_is_null() -> None:
    edge = Decimal((0, (9,) * 38, -4))

    assert of("increase", "decimal", [Decimal(0)], [edge]) == edge
    assert of("increase", "decimal", [edge.copy_negate()], [edge]) is None
    assert of("increase", "decimal", [edge.copy_negate(), edge, edge.copy_negate(), edge]) is None, "where 128 bits came around, too"


def test_samples_of_one_slice_may_come_between_each_other() -> None:
    #  [ 1 . 3 . 5 )  and  [ . 2 . 4 . )  in one slice: 1 2 3 4 5, no restart
    made = measured("increase", "long")
    rows = framed(made, [(ms, "a", ms) for ms in range(1, 6)])
    table = merged(made, [added(made, rows[::2]), added(made, rows[1::2])])

    assert answers(made, aggregates.settle(table, made))["a"][1] == [4]
    assert aggregates.settle(table, made)["runs:it"].list.len().to_list() == [1]


def test_a_top_beyond_its_capacity_misses_no_count_by_more_than_its_share() -> None:
    """12,000 values, 3,000 different: ten of them often, all in parts of every size."""
    rnd = Random(5)
    values = [f"often {number}" for number in range(10) for _ in range(200 + 10 * number)]
    values += [f"seldom {number}" for number in rnd.choices(range(3_000), k=12_000 - len(values))]
    rnd.shuffle(values)
    made = planned("kpis.x = { top = 'it', k = 100 }", schema({"ts": "long", "it": "string"}))
    true = Counter(values)
    for size in (100, 1_500, len(values)):
        parts = [values[at : at + size] for at in range(0, len(values), size)]
        tables = [aggregates.add(frame(made, [(0, v) for v in part]).with_columns(pl.lit(0).alias(START)), made, [START]) for part in parts]
        rnd.shuffle(tables)
        while len(tables) > 1:
            tables.insert(0, aggregates.merge(pl.concat([tables.pop(), tables.pop()]), made, [START]))
        assert tables[0]["often:it"].list.len().item() <= MOST
        found = aggregates.results(tables[0].with_columns(pl.lit(1).alias(END)), made).item().to_list()
        for pair in found:
            assert 0 <= true[pair["value"]] - pair["n"] <= len(values) / (MOST + 1)
        assert [pair["value"] for pair in found[:10]] == [f"often {number}" for number in range(9, -1, -1)]


def test_a_top_of_values_that_all_come_once_and_are_too_many_is_empty_and_not_null() -> None:
    assert of("top", "string", [str(number) for number in range(MOST + 1)]) == []
    assert len(of("top", "string", [str(number) for number in range(MOST)])) == 2  # type: ignore[arg-type] # a list
