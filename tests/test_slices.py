"""Frames cut into slices, groups and shards."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import slices
from flows.slices import Partial, partial_tables, partials
from flows.watermark import Mark
from tests.core import events, frame, planned, schema

FIELDS = schema({"ts": "long", "a": ["null", "string"], "b": ["null", "string"], "n": "long"})
PLAN = planned("windows = ['10s', '15s']\nby = [[], ['a'], ['a', 'b']]\nkpis.n = { sum = 'n' }", FIELDS)
TEXTS = st.none() | st.sampled_from(["", "x", "y", "\0", "\x1f", "Ünï", "null"]) | st.text(max_size=2)
ROWS = st.lists(st.tuples(st.integers(0, 60_000), TEXTS, TEXTS, st.integers(-9, 9)), max_size=25)
Rows = Sequence[tuple[int, str | None, str | None, int]]


def cut(rows: Rows, shards: int) -> dict[str, Partial]:
    return dict(partials(events(replace(PLAN, shards=shards), rows, {0: Mark(7, 8)}, 99, 3)))


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_a_group_set_has_as_many_shards_as_its_topic_says_and_the_total_has_one(shards: int) -> None:
    parts = partials(events(replace(PLAN, shards=shards), [], {0: Mark(7, 8)}, 99, 3))
    assert [key for key, _ in parts] == ["t||0", *(f"t|{names}|{shard}" for names in ("a", "a,b") for shard in range(shards))]


def sums(table: pl.DataFrame | None, paths: tuple[str, ...]) -> dict[tuple[object, ...], tuple[int, int]]:
    """(slice, *group) -> (events, sum)."""
    if table is None:
        return {}
    assert not table.select("start", *(f"by:{path}" for path in paths)).is_duplicated().any()
    return {(row["start"], *(row[f"by:{path}"] for path in paths)): (row["events"], row["sum:n"]) for row in table.iter_rows(named=True)}


@settings(max_examples=50, deadline=None)
@given(ROWS, st.integers(1, 5))
def test_every_event_is_in_one_slice_group_and_shard_of_every_group_set(rows: Rows, shards: int) -> None:
    parts = cut(rows, shards)

    for paths in PLAN.group_sets:
        want: dict[tuple[object, ...], tuple[int, int]] = {}
        for time_ms, a, b, n in rows:
            place = (time_ms // 5_000 * 5_000, *(a, b)[: len(paths)])
            before = want.get(place, (0, 0))
            want[place] = (before[0] + 1, before[1] + n)
        got = [sums(parts[f"t|{','.join(paths)}|{shard}"].table, paths) for shard in range(shards if paths else 1)]
        assert {place: it for part in got for place, it in part.items()} == want
        assert sum(len(part) for part in got) == len(want), "no group is in two shards"


def test_time_goes_on_for_every_shard_whatever_fell_there() -> None:
    for rows in ([], [(0, "x", "y", 1)]):
        parts = cut(rows, 3)

        assert list(parts) == ["t||0", "t|a|0", "t|a|1", "t|a|2", "t|a,b|0", "t|a,b|1", "t|a,b|2"]
        assert {(p.marks[0], p.partitions, p.clock_ms) for p in parts.values()} == {(Mark(7, 8), 3, 99)}


GOLDEN: Mapping[str | None, int] = {"DE": 1, "FR": 4, "": 0, "Ünï": 4, None: 5, "shop one": 5}


@pytest.mark.parametrize("group", GOLDEN)
def test_a_group_keeps_its_shard_for_ever(group: str | None) -> None:
    """Golden: in another shard, a group would lose its open windows at a restart, and one window would go out twice."""
    parts = cut([(0, group, None, 1)], 8)

    assert [shard for shard in range(8) if parts[f"t|a|{shard}"].table is not None] == [GOLDEN[group]]


def test_the_shard_of_two_values_is_golden_too() -> None:
    pairs = [("DE", "WEB"), ("DE", None), (None, "WEB"), (None, None)]

    found = [next(s for s in range(8) if cut([(0, a, b, 1)], 8)[f"t|a,b|{s}"].table is not None) for a, b in pairs]

    assert found == [0, 3, 5, 4]


def test_null_is_a_group_of_its_own() -> None:
    table = partial_tables(frame(PLAN, [(0, None, "z", 1), (0, "", "z", 2), (0, "null", "z", 4), (0, None, "z", 8)]), PLAN)["a",]

    assert sums(table, ("a",)) == {(0, None): (2, 9), (0, ""): (1, 2), (0, "null"): (1, 4)}


def test_a_group_is_spelled_as_text() -> None:
    made = planned("by = [['n', 'ok']]\nkpis.x.count = '*'", schema({"ts": "long", "n": "int", "ok": "boolean"}))
    table = partial_tables(pl.DataFrame({"time": [0], "by:n": [-7], "by:ok": [True]}), made)["n", "ok"]

    assert table.select("by:n", "by:ok").rows() == [("-7", "true")]


@settings(max_examples=50, deadline=None)
@given(ROWS, st.sampled_from(["a", "ab" * 1_000]))
def test_a_group_set_merged_of_a_finer_one_is_as_if_it_were_cut_from_the_events(rows: Rows, name: str) -> None:
    some = frame(PLAN, [*rows, (0, name, "x", 1), (1, name, name, 2), (2, name, None, 4)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "FINER", 0)
        merged = slices.partial_tables(some, PLAN)
        patch.setattr(slices, "FINER", 10**9)
        apart = slices.partial_tables(some, PLAN)

    for paths in PLAN.group_sets:
        assert sums(merged[paths], paths) == sums(apart[paths], paths)
