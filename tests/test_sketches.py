"""What sketches say is within their bounds: quantiles always, numbers of distinct values in 999 of 1,000 cases."""

import math
import sys
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import aggregates, sketches
from flows.tallies import COUNT, ITEM, MOST, ROW, gathered, tally_of
from flows.windows import END, START
from tests.core import frame, planned, schema

TINY = 5e-324
EXTREMES = [
    0.0,
    -0.0,
    TINY,
    -TINY,
    60 * TINY,
    2**26 * TINY,
    (2**26 + 1) * TINY,
    sys.float_info.min,
    sys.float_info.max,
    -sys.float_info.max,
    1e308,
]


def exactly_within(got: float, want: float) -> bool:
    """Without any rounding of its own: doubles cannot tell 1 % of a subnormal."""
    return abs(Fraction(got) - Fraction(want)) <= abs(Fraction(want)) / 100


def quantile_of(values: Sequence[float], q: float) -> float:
    made = planned(f"kpis.x = {{ quantile = 'it', q = [{q}] }}", schema({"ts": "long", "it": "double"}))
    table = aggregates.add(frame(made, [(0, value) for value in values]).with_columns(pl.lit(0).alias(START)), made, [START])
    found: float = aggregates.results(table.with_columns(pl.lit(1).alias(END)), made).item()
    return found


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(EXTREMES), min_size=1, max_size=30),
    st.sampled_from([0, 0.001, 0.5, 0.95, 0.999, 1]) | st.floats(0, 1),
)
def test_a_quantile_is_within_one_percent_of_the_value_at_its_place(values: list[float], q: float) -> None:
    assert exactly_within(quantile_of(values, q), sorted(values)[math.floor(q * (len(values) - 1))])


@pytest.mark.parametrize("seed", range(20))
def test_any_number_is_within_one_percent_of_the_middle_of_its_bucket(seed: int) -> None:
    """10,000 of every size, the edges of buckets among them; and a larger number has no smaller bucket."""
    rnd = np.random.default_rng(seed)
    sizes = np.exp(rnd.uniform(math.log(TINY), math.log(sys.float_info.max), 4_000))
    edges = np.exp(rnd.integers(-36_300, 35_480, 2_000) * sketches.WIDTH)
    small = rnd.integers(1, 2**28, 2_000) * TINY
    values = np.sort(np.concatenate([sizes, edges, np.nextafter(edges, np.inf), small, -sizes, EXTREMES]))
    found = sketches.buckets(pl.Series(values))
    middles = sketches.middles(found.cast(pl.Float64).to_numpy())

    assert found.is_sorted()
    assert all(map(exactly_within, middles.tolist(), values.tolist()))


def filled(hashes: Sequence[np.typing.NDArray[np.uint64]]) -> pl.Series:
    """A row of registers for each array of hashes."""
    rows = np.repeat(np.arange(len(hashes), dtype=np.uint32), [len(some) for some in hashes])
    pairs = sketches.rarest(sketches.registers(pl.DataFrame({ROW: rows, ITEM: np.concatenate(hashes)})))
    return gathered(pairs, len(hashes), tally_of(pl.UInt16(), pl.UInt8()))


@pytest.mark.parametrize(("size", "seeds"), [(1_025, 1_000), (5_000, 1_000), (100_000, 200)])
def test_a_number_of_distinct_hashes_is_within_two_percent_in_999_of_1000_cases(size: int, seeds: int) -> None:
    off = [
        abs(estimate / size - 1)
        for first in range(0, seeds, 20)
        for estimate in sketches.estimates(
            filled([np.random.default_rng(first + n).integers(0, 2**64, size, np.uint64) for n in range(20)])
        )
    ]

    assert sum(it > 0.02 for it in off) <= seeds / 1_000, max(off)
    assert float(np.mean(np.square(off))) ** 0.5 < (1 + 4 / math.sqrt(2 * seeds)) * 1.04 / math.sqrt(sketches.REGISTERS)


def distinct(parts: Sequence[Sequence[Any]], avro: object) -> tuple[pl.DataFrame, int]:
    """The table of parts that are added alone and then merged, one after the other, and the number of distinct values."""
    made = planned("kpis.x = { distinct = 'it' }", schema({"ts": "long", "it": avro}))
    tables = [aggregates.add(frame(made, [(0, v) for v in part]).with_columns(pl.lit(0).alias(START)), made, [START]) for part in parts]
    table = tables[0]
    for other in tables[1:]:
        table = aggregates.merge(pl.concat([table, other]), made, [START])
    return table, aggregates.results(table.with_columns(pl.lit(1).alias(END)), made).item()


@pytest.mark.parametrize("size", [1_000, 1_023, 1_024, 1_025, 1_100, 3_000])
def test_values_are_counted_exactly_up_to_1024_and_then_whatever_the_order_of_merges(size: int) -> None:
    rnd = Random(size)
    values = [f"buyer {number}" for number in range(size)] * 2
    found: list[tuple[Any, ...]] = []
    for count in (1, 2, 7, 200):
        rnd.shuffle(values)
        table, number = distinct([values[at::count] for at in range(count)], "string")
        found.append((number, *(sorted(map(str, table[f"{name}:it"].explode().to_list())) for name in ("hashes", "registers"))))

    assert found == [found[0]] * 4
    number = found[0][0]
    assert number == size if size <= MOST else number == pytest.approx(size, rel=0.02)
    assert (found[0][1] == ["None"]) == (size > MOST), "hashes or registers, never both"


@pytest.mark.parametrize("avro", ["string", "long", "double"])
def test_values_of_every_type_are_spread_evenly(avro: str) -> None:
    values: dict[str, list[Any]] = {
        "string": [f"user-{n}" for n in range(50_000)],
        "long": list(range(50_000)),
        "double": [n / 8 for n in range(50_000)],
    }

    assert distinct([values[avro]], avro)[1] == pytest.approx(50_000, rel=0.02)


def test_a_hash_is_the_same_in_every_process_and_version() -> None:
    """Golden: states hold these. The text of a value, as XXH3 sees it."""
    texts = hashes(pl.Series(["", "a", "é"]))

    assert texts == [3244421341483603138, 16629034431890738719, hashes(pl.Series(["é"]))[0]]


def hashes(values: pl.Series) -> list[int]:
    pairs = pl.DataFrame({ROW: pl.int_range(len(values), dtype=pl.UInt32, eager=True), ITEM: values})
    return sketches.hashed(pairs).sort(ROW)[ITEM].to_list()


def test_equal_numbers_have_one_hash_whatever_their_type() -> None:
    one = hashes(pl.Series([1, -20, 0]))

    assert hashes(pl.Series([1.0, -20.0, -0.0])) == one
    assert hashes(pl.Series([Decimal("1.00"), Decimal("-20.00"), Decimal("0.00")], dtype=pl.Decimal(38, 2))) == one
    assert hashes(pl.Series([Decimal(1), Decimal(-20), Decimal(0)], dtype=pl.Decimal(38, 0))) == one
    assert hashes(pl.Series([Decimal("1.50")], dtype=pl.Decimal(38, 2))) == hashes(pl.Series([1.5]))


def test_registers_that_are_full_or_nearly_empty_are_estimated_too() -> None:
    highest = pl.DataFrame(
        {ROW: pl.Series([0], dtype=pl.UInt32), ITEM: pl.Series([0], dtype=pl.UInt16), COUNT: pl.Series([50], dtype=pl.UInt8)}
    )
    full = pl.DataFrame({ROW: np.zeros(sketches.REGISTERS, np.uint32), ITEM: np.arange(sketches.REGISTERS, dtype=np.uint16)})
    for pairs in (highest, full.with_columns(pl.lit(50, pl.UInt8).alias(COUNT)).head(sketches.REGISTERS - 1)):
        (found,) = sketches.estimates(gathered(pairs, 1, tally_of(pl.UInt16(), pl.UInt8())))
        assert found > MOST, "more than are counted one by one"
