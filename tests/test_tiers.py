"""A table in parts: all of them together are what was added, and few of them change."""

from functools import partial

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import tiers
from flows.tiers import FACTOR, SMALL_ROWS, TABLE_ROWS, Tiers


def merged(tables: list[pl.DataFrame], calls: list[int] | None = None) -> pl.DataFrame:
    if calls is not None:
        calls.append(sum(map(len, tables)))
    return pl.concat(tables).group_by("key").agg(pl.col("n").sum())


def table(keys: range) -> pl.DataFrame:
    return pl.DataFrame({"key": keys, "n": [1] * len(keys)}, schema={"key": pl.Int64, "n": pl.Int64})


lengths = st.lists(st.tuples(st.integers(0, 2_000), st.integers(1, 900), st.sampled_from(["", "few", "one"])), max_size=30)


@settings(deadline=None)
@given(lengths)
def test_whatever_is_asked_in_between_the_parts_are_the_table(steps: list[tuple[int, int, str]]) -> None:
    level, added = Tiers(), [table(range(0))]
    for start, count, asked in steps:
        one = table(range(start, start + count))
        added.append(one)
        level.add(one, merged)
        if asked == "few":
            lengths = [len(part) for part in level.few(merged)]
            assert len(lengths) <= 1 + sum(lengths).bit_length() + level.loose // TABLE_ROWS
            assert level.loose < SMALL_ROWS
        elif asked:
            assert len(level.parts) >= 1
            assert level.one(merged) is level.one(merged)
    found = merged([table(range(0)), *level.parts]).sort("key")
    assert found.equals(merged(added).sort("key"))


def test_a_long_part_stays_the_same_object_while_little_is_added() -> None:
    level = Tiers()
    level.add(table(range(100_000)), merged)
    (long,) = level.few(merged)
    for number in range(50):
        level.add(table(range(number, number + 300)), merged)
        assert level.few(merged)[0] is long
    assert len(level.parts) <= 8


def test_a_row_is_merged_about_as_often_as_the_table_can_be_halved() -> None:
    level, calls = Tiers(), list[int]()
    for number in range(1_000):
        level.add(table(range(1_000 * number, 1_000 * (number + 1))), partial(merged, calls=calls))
        level.few(partial(merged, calls=calls))
    assert sum(calls) / 1_000_000 <= FACTOR * (1_000_000 // SMALL_ROWS).bit_length()


def test_what_waits_is_merged_when_it_is_more_than_what_is_merged() -> None:
    level = Tiers()
    for _ in range(10 * tiers.LOOSE_ROWS // 1_000):
        level.add(table(range(1_000)), merged)
        assert sum(map(len, level.parts)) <= tiers.LOOSE_ROWS + 2_000


def test_tables_without_a_row_are_no_parts() -> None:
    level = Tiers([table(range(2 * SMALL_ROWS))])
    for _ in range(100):
        level.add(table(range(0)), merged)
    assert len(level.few(merged)) == 1


def test_a_few_rows_are_merged_now_and_then_not_at_each_snapshot() -> None:
    level, calls = Tiers(), list[int]()
    for number in range(100):
        level.add(table(range(10 * number, 10 * number + 10)), merged)
        assert len(level.few(partial(merged, calls=calls))) <= 2 + SMALL_ROWS // TABLE_ROWS
    assert 0 < len(calls) <= 100 * (10 + TABLE_ROWS) // SMALL_ROWS


def test_parts_do_not_pile_up_where_a_flow_begins_again_and_again() -> None:
    parts: list[pl.DataFrame] = []
    for number in range(200):
        level = Tiers(parts)
        level.add(table(range(number, number + 1)), merged)
        parts = level.few(merged)
    assert len(parts) <= 2 + SMALL_ROWS // TABLE_ROWS
