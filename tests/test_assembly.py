"""Windows of other kinds, of a shard, against all of their events at once; and that their cost does not follow their number of panes."""

import pickle
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import aggregates
from flows.fold import Fold, Rows
from flows.plan import TopicPlan
from flows.vault import unpacked
from flows.watermark import NEVER, Mark
from flows.windows import bounds, parse_window, steps
from tests.core import finals, partial, planned, provisional, schema

FIELDS = schema({"ts": "long", "g": ["null", "string"], "n": "long"})
SPELLED = ["6s/2s", "7s/3s", "5s/1s", "60s/1s", "12s^3s", "gap 4s", "gap 1s", "1d@Europe/Berlin", "1d^6h@Europe/Berlin", "10s", "20s"]
SWITCH_MS = int(datetime(2026, 10, 24, 21, 59, 50, tzinfo=UTC).timestamp()) * 1000  # 10 s before the day of 25 hours begins in Berlin
DAY_MS = 86_400_000
Event = tuple[int, str | None, int]


def made(*spelled: str, by: str = "[['g']]") -> TopicPlan:
    return planned(f"windows = {list(spelled)}\nby = {by}\nupdate = '1s'\nkpis.n = {{ sum = 'n' }}\nkpis.top = {{ max = 'n' }}", FIELDS)


def windows_of(spelled: str, times: Sequence[int]) -> Iterable[tuple[int, int]]:
    """Every window that holds one of the times, of one group."""
    window = parse_window(spelled)
    if window.kind == "session":
        times = sorted(times)
        begins = [t for before, t in zip([None, *times], times, strict=False) if before is None or t - before >= window.size_ms]
        for begin, after in zip(begins, [*begins[1:], 2**60], strict=True):
            yield begin, max(t for t in times if begin <= t < after) + window.size_ms
        return
    found = set()
    for t in times:
        if window.kind == "hopping":
            first = (t - window.size_ms) // window.step_ms + 1
            found |= {(k * window.step_ms, k * window.step_ms + window.size_ms) for k in range(first, t // window.step_ms + 1)}
            continue
        (start,), (end,) = (edge.tolist() for edge in bounds(window, pl.Series([t]).to_numpy()))
        ends = steps(window, start).tolist() if window.kind == "cumulate" else [end]
        found |= {(start, end) for end in ends if t < end}
    yield from found


def expected(spelled: str, events: Sequence[Event]) -> dict[tuple[Any, ...], tuple[int, int, int]]:
    rows = {}
    for group in {g for _, g, _ in events}:
        mine = [(t, n) for t, g, n in events if g == group]
        for start, end in windows_of(spelled, [t for t, _ in mine]):
            inside = [n for t, n in mine if start <= t < end]
            rows[start, end, group] = (len(inside), sum(inside), max(inside))
    return rows


def found(rows: Sequence[dict[str, Any]], size_ms: int) -> dict[tuple[Any, ...], tuple[int, int, int]]:
    mine = [row for row in rows if row["size"] == size_ms]
    told = {(row["start"], row["end"], row.get("g")): (row["events"], row["n"], row["top"]) for row in mine}
    assert len(told) == len(mine), "each once"
    return told


@st.composite
def streams(draw: st.DrawFn) -> tuple[int, list[tuple[list[Event], int]]]:
    """Events, none late, and the watermark after them."""
    base_ms, watermark_ms, stream = draw(st.sampled_from([0, 3, SWITCH_MS])), 0, []
    for _ in range(draw(st.integers(1, 7))):
        ahead = st.integers(0, 9_000) | st.sampled_from([0, 999, 1_000, 4_000, 20_000, 90_000])
        row = st.tuples(ahead, st.sampled_from(["a", "b", None]), st.integers(-9, 9))
        events = [(base_ms + watermark_ms + ms, g, n) for ms, g, n in draw(st.lists(row, max_size=6))]
        watermark_ms += draw(st.sampled_from([0, 500, 1_000, 3_000, 4_000, 11_000, 70_000]))
        stream.append((events, base_ms + watermark_ms // 1_000 * 1_000))
    return base_ms, stream


@settings(max_examples=150, deadline=None)
@given(streams(), st.sampled_from(SPELLED), st.sampled_from(["[['g']]", "[[]]"]), st.data())
def test_a_shard_says_what_all_events_of_each_window_say_through_any_restart(
    drawn: tuple[int, list[tuple[list[Event], int]]], spelled: str, by: str, data: st.DataObject
) -> None:
    base_ms, stream = drawn
    plan = made(spelled, *(["1s"] if spelled != "gap 1s" else []), by=by)  # rows are told apart by size
    folded, rows = Fold(), list[Rows]()
    for clock_s, (events, watermark_ms) in enumerate([*stream, ([], base_ms + 3 * DAY_MS)]):
        given_ = events if by == "[['g']]" else [(t, n) for t, _, n in events]
        rows += folded.take([partial(plan, given_, Mark(watermark_ms, watermark_ms), 2_000 * clock_s)]).rows
        if data.draw(st.booleans()):
            folded = Fold(pickle.loads(pickle.dumps(folded.snapshot())))
    events = [(t, g if by == "[['g']]" else None, n) for events, _ in stream for t, g, n in events]

    window = parse_window(spelled)
    assert found(finals(rows), window.size_ms) == expected(spelled, events)
    assert folded.snapshot()["windows"] == {}
    revisions: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in [*provisional(rows), *finals(rows)]:
        revisions.setdefault((row["size"], row["start"], row["end"], row.get("g")), []).append(row)
    for of_one in revisions.values():
        assert [row["revision"] for row in of_one] == list(range(len(of_one)))
        assert of_one[-1]["final"], "what was told of an open window is told in the end"


@pytest.mark.parametrize(("spelled", "start", "end", "n"), [("60s/20s", 20_000, 80_000, 6), ("60s^20s", 60_000, 80_000, 4)])
def test_of_windows_that_overlap_the_one_that_closes_next_is_told_while_it_is_open(spelled: str, start: int, end: int, n: int) -> None:
    #  [20 --------- 60 -------- 80)       closed to 61 s
    #          30 2      62 4     85 8
    plan = made(spelled, by="[[]]")
    folded = Fold()
    folded.take([partial(plan, [(30_000, 2)], Mark(61_000, 61_000), 0)])
    rows = provisional(folded.take([partial(plan, [(62_000, 4), (85_000, 8)], Mark(61_000, 61_000), 5_000)]).rows)

    assert [(row["start"], row["end"], row["n"]) for row in rows] == [(start, end, n)]


def test_nothing_of_an_overlapping_window_is_told_before_the_watermark_is_known() -> None:
    plan = made("60s/20s")

    assert provisional(Fold().take([partial(plan, [(30_000, "a", 2)], NEVER, 5_000)]).rows) == []


def test_open_sessions_have_no_rows_as_their_key_would_move() -> None:
    plan = made("gap 5s")

    assert provisional(Fold().take([partial(plan, [(30_000, "a", 2)], 20_000, 5_000)]).rows) == []


@pytest.fixture
def merged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each merge is of."""
    sizes: list[int] = []
    merge = aggregates.merge

    def counted(table: pl.DataFrame, plan: TopicPlan, keys: Sequence[str]) -> pl.DataFrame:
        sizes.append(len(table))
        return merge(table, plan, keys)

    monkeypatch.setattr(aggregates, "merge", counted)
    return sizes


@pytest.mark.parametrize(("spelled", "most"), [("10m/1s", 6), ("6s/1s", 6)])
def test_the_merges_of_a_hop_do_not_follow_the_number_of_panes(spelled: str, most: int, merged: list[int]) -> None:
    plan, folded, hops = made(spelled, by="[[]]"), Fold(), 1_300
    for second in range(hops):
        folded.take([partial(plan, [(second * 1_000, 1)], Mark((second + 1) * 1_000, (second + 1) * 1_000), 0)])

    assert len(merged) <= most * hops
    assert sum(merged) <= 2 * most * hops, "rows that were merged"
    assert max(merged) <= 2 * 24 + 4, "and no hop waits for all panes to be merged"


def test_a_jump_of_a_year_merges_a_stretch_so_far_once_for_each_step_that_brings_something(merged: list[int]) -> None:
    plan, folded, hour_ms = made("1y^1h", by="[[]]"), Fold(), 3_600_000
    rows = folded.take([partial(plan, [(hour_ms // 2, 1), (30 * hour_ms, 2)], 400 * DAY_MS)]).rows
    told = {row["end"] // hour_ms: row["n"] for row in finals(rows)}

    assert told == {step: 1 if step <= 30 else 3 for step in range(1, 365 * 24 + 1)}
    assert len(merged) <= 4


def test_a_midnight_within_a_quarter_of_an_hour_as_in_monrovia_until_1972_stops_nothing() -> None:
    plan, folded, rows = made("10s", "1d^15m@Africa/Monrovia", by="[[]]"), Fold(), list[Rows]()
    midnight_ms = int(datetime(1970, 6, 2, 0, 44, 30, tzinfo=UTC).timestamp()) * 1000
    times = range(midnight_ms - 200_000, midnight_ms + 1_000_000, 10_000)
    for time_ms in times:
        rows += folded.take([partial(plan, [(time_ms + 1, 1)], time_ms)]).rows
    rows += folded.take([partial(plan, [], midnight_ms + 2 * DAY_MS)]).rows

    assert sum(row["n"] for row in finals(rows) if row["size"] == DAY_MS and row["end"] % DAY_MS == midnight_ms % DAY_MS) == len(times)


@pytest.mark.parametrize(("beside", "told_at_min"), [([], 60), (["1m"], 31)])
def test_a_session_is_told_when_the_slice_that_holds_its_end_is_over(beside: list[str], told_at_min: int) -> None:
    #  gap 30m    [0:01 --------------------- 0:31)         slices of 30m end at 0:30 and 1:00
    plan, folded, minute_ms = made("gap 30m", *beside, by="[[]]"), Fold(), 60_000
    folded.take([partial(plan, [(minute_ms, 1)], 0)])
    before = folded.take([partial(plan, [], told_at_min * minute_ms - 1)]).rows
    then = folded.take([partial(plan, [], told_at_min * minute_ms)]).rows

    assert [row["end"] for row in finals(before) if row["size"] == 30 * minute_ms] == []
    assert [row["end"] for row in finals(then) if row["size"] == 30 * minute_ms] == [31 * minute_ms]


def test_samples_of_an_open_slice_are_kept_one_by_one_and_those_of_a_closed_one_are_one_run() -> None:
    plan = planned("windows = ['1m', '10s']\nby = [[]]\nupdate = 'off'\nkpis.n = { increase = 'n' }", FIELDS)
    folded = Fold()
    folded.take([partial(plan, [(ms, ms) for ms in range(0, 20_000, 100)], 10_000)])
    kept = {level: unpacked(*table)["runs:n"].list.len().to_list() for level, table in folded.snapshot()["levels"].items()}

    assert kept == {0: [100], 60_000: [1]}
