"""Which groups keep a row of their own: a function of the data alone, however it was cut, ordered and merged on the way."""

import random
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import fold, tiers
from flows.fold import Fold
from flows.limit import CRC, OTHER, cut, short
from flows.plan import TopicPlan
from flows.slices import Partial, partials
from flows.watermark import NEVER, Mark
from tests.core import events, finals, partial, planned, provisional, schema

FIELDS = schema({"ts": "long", "g": ["null", "string"], "h": ["null", "string"], "n": "long"})
ONE = planned("windows = ['10s', '15s', '1m']\nby = [['g']]\nupdate = 'off'\nkpis.n = { sum = 'n' }", FIELDS)
TWO = planned("windows = ['10s', '1m']\nby = [['g', 'h']]\nupdate = 'off'\nkpis.n = { sum = 'n' }", FIELDS)
TEXTS = st.none() | st.sampled_from([*"abcdefghijkl", "", "\0", "\x1f", OTHER])
Row = tuple[int, str | None, str | None, int]


def crc32(group: Sequence[str | None]) -> int:
    return zlib.crc32("\x1f".join("\0" if value is None else value for value in group).encode())


def kept(groups: set[tuple[str | None, ...]], keep: int) -> set[tuple[str | None, ...]]:
    """By brute force: the first by crc32, then by values, null before text; the rest never."""

    def order(group: tuple[str | None, ...]) -> tuple[object, ...]:
        return (crc32(group), *((value is not None, value or "") for value in group))

    return set(sorted((group for group in groups if set(group) != {OTHER}), key=order)[:keep])


def want(rows: Sequence[Row], sizes_ms: Sequence[int], paths: int, keep: int) -> dict[tuple[object, ...], tuple[int, int]]:
    """(size, start, *group) -> (events, sum) of every window, the rest among them."""
    found: dict[tuple[object, ...], tuple[int, int]] = {}
    for size_ms in sizes_ms:
        for start_ms in {time_ms // size_ms * size_ms for time_ms, *_ in rows}:
            inside = [((g, h)[:paths], n) for time_ms, g, h, n in rows if time_ms // size_ms * size_ms == start_ms]
            own = kept({group for group, _ in inside}, keep)
            for group, n in inside:
                place = (size_ms, start_ms, *(group if group in own else (OTHER,) * paths))
                before = found.get(place, (0, 0))
                found[place] = (before[0] + 1, before[1] + n)
    return found


def got(turns: Sequence[fold.Turn], paths: Sequence[str]) -> dict[tuple[object, ...], tuple[int, int]]:
    """The same of a shard's rows and its rests."""
    rows = [row for turn in turns for row in finals(turn.rows)]
    found = {(row["size"], row["start"], *(row[path] for path in paths)): (row["events"], row["n"]) for row in rows}
    assert len(found) == len(rows), "each once"
    for turn in turns:
        if turn.passed is not None and turn.passed.rests is not None:
            for row in turn.passed.rests.iter_rows(named=True):
                place = (turn.passed.plan.windows[row["window"]].size_ms, row["start"], *(OTHER for _ in paths))
                assert place not in found, "one rest a window"
                found[place] = (row["events"], row["sum:n"])
    return found


ROWS = st.lists(st.tuples(st.integers(0, 89_999), TEXTS, TEXTS, st.integers(-9, 9)), max_size=40)


@settings(max_examples=150, deadline=None)
@given(ROWS, st.integers(1, 6), st.sampled_from([ONE, TWO]), st.data())
def test_the_same_groups_stay_in_every_order_batching_and_merging(rows: list[Row], keep: int, made: TopicPlan, data: st.DataObject) -> None:
    paths = made.group_sets[0]
    made = replace(made, max_groups=keep)
    shuffled = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(rows)), max_size=5)))
    parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(rows)], strict=True)]
    stream = [partial(made, [(t, *(g, h)[: len(paths)], n) for t, g, h, n in part], 0) for part in parts]
    merges = data.draw(st.lists(st.booleans(), min_size=len(stream), max_size=len(stream)))

    folded, turns = Fold(), []
    for one, merge in zip(stream, merges, strict=True):
        turns.append(folded.take([one]))
        if merge:
            folded = Fold(folded.snapshot())
    watermarks = data.draw(st.sampled_from([[10**6], [15_000, 60_000, 10**6], [5_000 * n for n in range(30)]]))
    turns += [folded.take([partial(made, [], watermark_ms)]) for watermark_ms in watermarks]

    assert got(turns, paths) == want(rows, [window.size_ms for window in made.windows], len(paths), keep)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(1, 12), st.integers(2, 4))
def test_a_shard_keeps_its_part_of_the_limit_and_one_at_least(rows: list[Row], limit: int, shards: int) -> None:
    made = replace(TWO, max_groups=limit, shards=shards)
    folds: dict[str, Fold] = {}
    turns: dict[str, list[fold.Turn]] = {}
    for watermark_ms, some in ((0, rows[:20]), (0, rows[20:]), (10**6, [])):
        for key, one in partials(events(made, some, {0: Mark(watermark_ms, watermark_ms)})):
            turns.setdefault(key, []).append(folds.setdefault(key, Fold()).take([one]))

    for shard in range(shards):
        mine = [row for row in rows if crc32(row[1:3]) % shards == shard]
        assert got(turns[f"t|g,h|{shard}"], ("g", "h")) == want(mine, (10_000, 60_000), 2, max(1, limit // shards))


def cut_to(keep: int, *rows: tuple[str | None, str | None, int]) -> tuple[set[tuple[Any, ...]], int]:
    """What becomes of one stretch: (g, h, events), and how many were put into the rest."""
    columns = {"start": pl.Int64, "by:g": pl.String, "by:h": pl.String, "events": pl.Int64, "sum:n": pl.Int128}
    table = pl.DataFrame([(0, *row, 1) for row in rows], columns, orient="row")
    whole, over = cut(table, ["by:g", "by:h"], keep, TWO)
    assert whole.columns == table.columns
    return set(whole.select("by:g", "by:h", "events").rows()), over


def test_groups_that_are_spelled_alike_stay_apart_and_null_stays_before_text() -> None:
    """(null, x) and (NUL, x) have one crc32, as have (a US b, c) and (a, b US c): by crc32 alone, neither or both would be over."""
    assert cut_to(1, ("\0", "x", 1), (None, "x", 2)) == ({(None, "x", 2), (OTHER, OTHER, 1)}, 1)
    assert cut_to(1, ("a\x1fb", "c", 1), ("a", "b\x1fc", 2)) == ({("a", "b\x1fc", 2), (OTHER, OTHER, 1)}, 1)
    assert cut_to(2, ("\0", "x", 1), (None, "x", 2)) == ({("\0", "x", 1), (None, "x", 2)}, 0)


def test_a_group_named_like_the_rest_joins_it_and_counts_for_no_group() -> None:
    rows: list[tuple[str | None, str | None, int]] = [("a", "b", 1), (OTHER, OTHER, 2), (OTHER, "b", 4), (None, OTHER, 8)]
    first = kept({(g, h) for g, h, _ in rows}, 2)
    own = {(g, h, n) for g, h, n in rows if (g, h) in first}

    assert cut_to(3, *rows) == (set(rows), 0)
    assert cut_to(2, *rows) == (own | {(OTHER, OTHER, 15 - sum(n for *_, n in own))}, 1)


def test_what_events_call_other_has_a_final_row_only_and_no_second_one() -> None:
    made = replace(ONE, update_ms=1_000, max_groups=1)
    folded = Fold()
    first = folded.take([partial(made, [(1_000, OTHER, 1), (1_000, "a", 1), (1_000, "b", 1)], NEVER, 5_000)])
    last = folded.take([partial(made, [(1_000, OTHER, 1)], 60_000, 9_000)])

    assert {row["g"] for row in provisional(first.rows)} <= {"a", "b"}
    assert {row["g"] for row in finals(last.rows)} < {"a", "b"}
    assert last.passed is not None
    assert last.passed.rests is not None
    assert last.passed.rests.select("window", "events").rows() == [(0, 3), (1, 3), (2, 3)]


def test_the_total_knows_no_limit_and_tells_nothing() -> None:
    made = replace(ONE, group_sets=((),), max_groups=1)
    turn = Fold().take([partial(made, [(1_000, 1), (2_000, 2)], 60_000)])

    assert {(row["events"], row["n"]) for row in finals(turn.rows)} == {(2, 3)}
    assert (turn.passed, turn.over) == (None, 0)


def test_a_shard_tells_how_far_it_is_only_when_a_window_can_have_closed() -> None:
    #  slices of 5 s, windows of 10 s, 15 s and 1 m
    folded = Fold()
    told = [
        folded.take([partial(ONE, [], watermark_ms)]).passed for watermark_ms in (0, 4_999, 5_000, 10_000, 15_000, 20_000, 29_000, 29_999)
    ]

    assert [None if passed is None else passed.closed_ms for passed in told] == [0, None, None, 10_000, 15_000, 20_000, None, None]


def test_provisional_rows_tell_only_of_groups_that_still_stay_and_of_all_their_events() -> None:
    """A group that a closed slice put into the rest may come again in the next: its row would lack what came before."""
    made = replace(ONE, update_ms=1_000, max_groups=2)
    names = sorted("abcdefgh", key=lambda name: zlib.crc32(name.encode()))
    folded = Fold()
    folded.take([partial(made, [(1_000, name, 1) for name in names], NEVER, 1_000)])
    turn = folded.take([partial(made, [(11_000, name, 1) for name in names[1:]], 10_000, 5_000)])

    minute = {row["g"]: row["events"] for row in provisional(turn.rows) if row["size"] == 60_000}
    assert minute == {names[1]: 2}, "the first did not change, the others are in the rest"
    assert {row["g"] for row in provisional(turn.rows) if row["size"] == 10_000} == set(names[1:3])


EVENT = st.tuples(st.integers(0, 30_000), st.sampled_from("abcdefghijkl"), st.integers(1, 9))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(EVENT, max_size=12), max_size=6), st.integers(1, 4))
def test_a_provisional_row_of_a_group_that_stays_holds_all_that_came_so_far(stream: list[list[tuple[int, str, int]]], keep: int) -> None:
    made = replace(ONE, update_ms=1, max_groups=keep)
    folded, seen, watermark_ms = Fold(), list[tuple[int, str, int]](), 0
    for clock_ms, drawn in enumerate(stream):
        rows = [(watermark_ms + ahead_ms, name, n) for ahead_ms, name, n in drawn]
        seen += rows
        watermark_ms += 9_000
        for row in provisional(folded.take([partial(made, rows, watermark_ms, 1_000 * clock_ms)]).rows):
            inside = [(name, n) for time_ms, name, n in seen if time_ms // row["size"] * row["size"] == row["start"]]
            assert (row["g"],) in kept({(name,) for name, _ in inside}, keep)
            assert row["n"] == sum(n for name, n in inside if name == row["g"])


def test_a_group_is_counted_each_time_it_goes_into_the_rest() -> None:
    made = replace(ONE, max_groups=2)
    folded, rows = Fold(), [(1_000, name, 1) for name in "abcdefgh"]
    over = [folded.take([partial(made, rows, watermark_ms)]).over for watermark_ms in (0, 5_000)]

    assert over == [6, 6], "they came again"


def test_a_group_that_goes_into_the_rest_has_no_final_row() -> None:
    made = replace(ONE, update_ms=1_000, max_groups=1)
    first, second = sorted("ab", key=lambda name: zlib.crc32(name.encode()))
    folded = Fold()
    before = folded.take([partial(made, [(1_000, second, 1)], NEVER, 1_000)])
    after = folded.take([partial(made, [(1_000, first, 1), (1_000, second, 1)], NEVER, 5_000)])
    last = folded.take([partial(made, [], 60_000, 9_000)])

    assert {row["g"] for row in provisional(before.rows)} == {second}
    assert {row["g"] for row in provisional(after.rows)} == {first} == {row["g"] for row in finals(last.rows)}


# -- what is kept in memory


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_a_frame_of_many_groups_makes_small_partials(shards: int) -> None:
    rows = [(1_000, f"group {number}", 1) for number in range(30_000)]
    parts = dict(partials(events(replace(ONE, max_groups=80, shards=shards), rows, {0: Mark()})))

    assert [len(part.table) for part in parts.values() if part.table is not None] == [80 // shards + 1] * shards
    assert sum(part.over for part in parts.values()) == 30_000 - 80
    assert sum(int(part.table["events"].sum()) for part in parts.values() if part.table is not None) == 30_000


@pytest.mark.parametrize("update_ms", [None, 1_000])
def test_tables_that_wait_are_merged_when_they_are_many(update_ms: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (fold, tiers):
        monkeypatch.setattr(module, "LOOSE_ROWS", 500)
    made = replace(ONE, update_ms=update_ms, max_groups=20)
    folded = Fold()
    for number in range(300):
        folded.take([partial(made, [(1_000, f"{number} {group}", 1) for group in range(10)], NEVER, 0)])

    assert sum(len(one) for level in folded.levels.values() for one in level.parts) <= 521 + 10
    assert sum(map(len, folded.touched)) <= 521 + 10


def test_what_was_told_of_groups_that_are_gone_is_forgotten() -> None:
    made = replace(ONE, update_ms=1_000, max_groups=20)
    folded = Fold()
    for number in range(50):
        folded.take([partial(made, [(1_000, f"{number} {group}", 1) for group in range(10)], NEVER, 1_000 * number)])

    assert folded.published is not None
    assert len(folded.published) <= 3 * 30
    assert sum(map(len, folded.touched)) <= 30


FLOOD = """
import resource, sys
import polars as pl
from flows.fold import Fold
from flows.slices import Events, partials
from flows.watermark import Mark
from tests.core import planned, schema

rows = most = over = 0
made = planned("windows = ['10s', '1h']\\nby = [['g']]\\nkpis.n = { sum = 'n' }", schema({"ts": "long", "g": "string", "n": "long"}))
folds = {}
for number in range(FRAMES):
    names = pl.int_range(number * 100_000, (number + 1) * 100_000, eager=True)
    frame = pl.DataFrame({"time": names // 20, "by:g": "a customer of a long name " + names.cast(pl.String), "of:n": names})
    mark = Mark(number * 5_000 - 5_000, number * 5_000 - 5_000)
    for key, one in partials(Events(made, frame, {0: mark}, 1, number * 200, {})):
        turn = folds.setdefault(key, Fold()).take([one])
        rows, over = rows + sum(len(told.table) for told in turn.rows), over + turn.over
    if number == 1:
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    levels = [table for f in folds.values() for level in f.levels.values() for table in level.parts]
    told = [table for f in folds.values() for table in (*f.touched, *([] if f.published is None else [f.published]))]
    most = max(most, sum(map(len, [*levels, *told])))
print(rows, most, over, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) // 1024)
"""


@pytest.mark.timeout(120)
def test_a_stream_of_1_200_000_groups_stays_small() -> None:
    """Each group is new; windows of 10 s and an hour, provisional rows on. Rows kept at a time, rows told, growth of memory."""
    code = FLOOD.replace("FRAMES", "12")
    child = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    rows, most, over, grown_mb = map(int, child.stdout.split())

    assert over > 1_000_000
    assert most < 400_000
    assert rows < 100_000
    assert grown_mb < 250


# -- long values


def test_a_value_of_1_kib_stays_and_a_longer_one_is_cut_between_characters() -> None:
    assert short("x" * 1024) == "x" * 1024
    for text in ("x" * 1025, "ü" * 513, "x" + "€" * 400, "😀" * 300, "\0" * 2000):
        head, _, digest = short(text).rpartition("…")
        assert text.startswith(head)
        assert 1024 - 3 <= len(head.encode()) <= 1024
        assert len(digest) == 32


def test_long_values_are_equal_afterwards_only_if_they_were_before() -> None:
    draw = random.Random(1)
    texts = {"x" * 1024 + str(draw.random()) for _ in range(500)} | {"x" * n for n in range(1020, 1030)}
    texts |= {short(text) for text in texts}  # also those that look like one that was cut

    assert len({short(text) for text in texts}) == len(texts)


def test_a_message_of_a_megabyte_of_group_makes_a_short_one() -> None:
    long = "<script>" + "x" * 2**20
    rows = [(1_000, long, 1), (2_000, long, 2), (2_000, long + "y", 4), (2_000, None, 8)]
    found = finals(Fold().take([partial(ONE, rows, 10_000)]).rows)

    assert Counter(len((row["g"] or "").encode()) for row in found) == {0: 1, 1024 + 3 + 32: 2}
    assert {row["g"]: row["n"] for row in found} == {short(long): 3, short(long + "y"): 4, None: 8}


def test_the_shard_of_a_long_value_is_that_of_its_short_form() -> None:
    long = "x" * 2000
    made = replace(TWO, group_sets=(("g",),), shards=8)
    parts: dict[str, Partial] = dict(partials(events(made, [(0, long, 1)], {0: Mark()})))
    (shard,) = [number for number in range(8) if parts[f"t|g|{number}"].table is not None]

    assert shard == zlib.crc32(short(long).encode()) % 8
    assert CRC not in parts[f"t|g|{shard}"].table.columns  # type: ignore[union-attr]
