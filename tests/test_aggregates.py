"""Every aggregate: the same result however its events are cut up and put together, and the right one."""

import math
from collections.abc import Sequence
from decimal import Decimal
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import aggregates, declaration
from flows.plan import TopicPlan
from tests.core import MILLIS, money, planned, schema
from tests.differences import agree
from tests.oracle_aggregates import LONG_MAX, Value, result

SIZE_MS = 10_000
AVRO = {"integer": "long", "float": "double", "decimal": money(4), "boolean": "boolean", "string": "string", "time": MILLIS}
VALUES: dict[str, st.SearchStrategy[object]] = {
    "integer": st.integers(-LONG_MAX - 1, LONG_MAX) | st.integers(-9, 9),
    "float": st.floats(-1e15, 1e15) | st.floats(1e9 - 3, 1e9 + 3),
    "decimal": st.decimals(-(10**20), 10**20, places=4) | st.decimals(-9, 9, places=4),
    "boolean": st.booleans(),
    "string": st.text(max_size=3),
    "time": st.integers(0, 2**41),
}
TABLE = [(name, kind) for name, kinds in declaration.AGGREGATES.items() for kind in kinds or ("integer",) if kind in AVRO]


def measured(aggregate: str, kind: str) -> TopicPlan:
    of = "*" if aggregate == "rate" else "it"
    return planned(f"kpis.x = {{ {aggregate} = '{of}' }}", schema({"it": AVRO[kind]}))


def added(made: TopicPlan, values: Sequence[object]) -> pl.DataFrame:
    dtype = dict(made.columns).get("it", pl.Int64())
    return pl.DataFrame({"of:it": pl.Series(values, dtype=dtype)}).select(aggregates.add(made))


def merged(made: TopicPlan, parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(parts).select(aggregates.merge(made))


def answer(made: TopicPlan, table: pl.DataFrame) -> object:
    return table.select(aggregates.results(made, SIZE_MS)).item()


def of(aggregate: str, kind: str, *parts: Sequence[object]) -> object:
    """The result over some parts, each added by itself."""
    made = measured(aggregate, kind)
    return answer(made, merged(made, [added(made, part) for part in parts]))


def cuts(values: Sequence[object], rnd: Random) -> list[Sequence[object]]:
    """Anywhere, also into nothing."""
    edges = sorted(rnd.randint(0, len(values)) for _ in range(rnd.randint(0, 4)))
    return [values[a:b] for a, b in zip([0, *edges], [*edges, len(values)], strict=True)]


def wanted(aggregate: str, values: Sequence[object]) -> tuple[object, float]:
    """What the specification says, where it says something."""
    numbers = [value for value in values if isinstance(value, Value)]
    if aggregate == "count":
        return len([value for value in values if value is not None]), 0.0
    if aggregate in ("min", "max"):
        there = [value for value in values if value is not None]
        pick = min if aggregate == "min" else max
        return pick(there) if there else None, 0.0  # type: ignore[type-var] # all of one kind
    if aggregate == "mean" and numbers:
        return result(aggregate, numbers, len(values), SIZE_MS)[0], result("sum", numbers, 0, 1)[1]
    return result(aggregate, numbers, len(values), SIZE_MS)


@pytest.mark.parametrize(("aggregate", "kind"), TABLE)
@settings(max_examples=30, deadline=None)
@given(st.data(), st.randoms(use_true_random=False))
def test_a_result_is_right_whatever_the_order_and_grouping_of_merges(aggregate: str, kind: str, data: st.DataObject, rnd: Random) -> None:
    values = data.draw(st.lists(st.none() | VALUES[kind], max_size=12))
    made = measured(aggregate, kind)

    parts = [added(made, part) for part in cuts(values, rnd)]
    rnd.shuffle(parts)
    while len(parts) > 1:
        some = [parts.pop() for _ in range(rnd.randint(2, len(parts)))]
        parts.insert(rnd.randint(0, len(parts)), merged(made, some))
    got = answer(made, parts[0])

    want, slack = wanted(aggregate, values)
    assert agree(want, got, slack), f"got {got!r}, want {want!r}"


def test_a_deviation_of_one_around_a_thousand_million_comes_out_right() -> None:
    rnd = Random(7)
    values = [rnd.gauss(1e9, 1) for _ in range(10_000)]
    want, _ = result("deviation", values, len(values), SIZE_MS)
    parts = [values[start : start + 100] for start in range(0, len(values), 100)]

    assert of("deviation", "float", values) == pytest.approx(want, rel=1e-9)
    assert of("deviation", "float", *parts) == pytest.approx(want, rel=1e-9)


def test_stretches_far_apart_have_the_deviation_of_all() -> None:
    #  [ 0 0 )[ 100 100 )    mean 50, sum of squares 4 * 50²
    assert of("deviation", "integer", [0, 0], [100, 100]) == pytest.approx(math.sqrt(4 * 50**2 / 3))


@pytest.mark.parametrize(("parts", "want"), [([[]], None), ([[None]], None), ([[5]], None), ([[5], []], None), ([[5], [7]], math.sqrt(2))])
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


@pytest.mark.parametrize("parts", [[[Decimal("9e33"), Decimal("9e33")]], [[Decimal("9e33")], [Decimal("9e33")]]])
def test_a_decimal_sum_beyond_38_digits_is_null_and_no_crash(parts: list[list[object]]) -> None:
    assert of("sum", "decimal", *parts) is None


def test_of_nothing_a_sum_is_zero_and_a_measure_is_null() -> None:
    nothing: list[object] = [None, None]
    got = {aggregate: of(aggregate, "integer", nothing, []) for aggregate in ("count", "sum", "mean", "min", "max", "deviation")}

    assert got == {"count": 0, "sum": 0, "mean": None, "min": None, "max": None, "deviation": None}
    assert of("share", "boolean", [None]) is None


def test_a_share_is_of_those_that_say_yes_or_no() -> None:
    assert of("share", "boolean", [True, None, False], [True, True]) == 0.75


def test_a_rate_is_events_a_second_of_the_windows_own_size() -> None:
    made = measured("rate", "integer")
    table = added(made, [None] * 30)

    assert [table.select(aggregates.results(made, size_ms)).item() for size_ms in (10_000, 60_000, 1)] == [3.0, 0.5, 30_000.0]


def test_kpis_of_one_column_share_what_they_need() -> None:
    made = planned(
        "kpis = { a = { sum = 'it' }, b = { mean = 'it' }, c = { count = 'it' }, d = { share = 'ok' } }",
        schema({"it": "long", "ok": "boolean"}),
    )

    assert len(added_columns(made)) == len({"events", "sum of it", "n of it", "sum of ok", "n of ok"})


def added_columns(made: TopicPlan) -> list[str]:
    empty = pl.DataFrame(schema={f"of:{path}": dtype for path, dtype in made.columns})
    return empty.select(aggregates.add(made)).columns
