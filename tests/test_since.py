"""A changed declaration with kept state: what stays is as it would have been, what is added is whole from some window on, or not told."""

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.evolution import torn
from flows.fold import Fold, Rows
from flows.plan import Output, TopicPlan
from flows.records import encode
from flows.rest import Rest
from flows.since import Since, newer
from flows.slices import partials
from flows.watermark import NEVER, Mark
from flows.windows import Window, parse_window, slice_ms
from tests.core import events, finals, partial, planned, schema

FIELDS = schema({"ts": "long", "g": ["null", "string"], "n": "long", "x": "double"})
SPELLED = ["1s", "2s", "4s", "12s", "60s", "6s/2s", "7s/3s", "12s^3s", "gap 3s", "gap 4s", "1d@Europe/Berlin"]
KPIS = {
    "s": "{ sum = 'n' }",
    "top": "{ max = 'n' }",
    "m": "{ mean = 'x' }",
    "c": "{ count = '*' }",
    "sc": "{ ratio = ['s', 'c'] }",
    "mid": "{ quantile = 'x', q = [0.5, 0.9] }",
    "some": "{ distinct = 'n' }",
    "rise": "{ increase = 'n' }",
    "begin": "{ first = 'x' }",
    "often": "{ top = 'n', k = 2 }",
}
LATENESS_MS, SLICE_MS, SHARDS = 4_000, 1_000, 2
Event = tuple[int, str | None, int, float]
Turn = tuple[list[Event], Mark, int]  # events, the watermark after them, the clock


def said(windows: Sequence[str], kpis: Iterable[str], generation: int = 0, groups: int = 10_000, by: str = "[['g']]") -> TopicPlan:
    text = "\n".join([f"kpis.{name} = {KPIS[name]}" for name in KPIS if name in kpis])
    head = f"windows = {list(windows)}\nby = {by}\nupdate = '1s'\nlateness = '4s'\ngroups = {groups}\n"
    return replace(planned(head + text, FIELDS), generation=generation)


@st.composite
def declarations(draw: st.DrawFn) -> list[tuple[list[str], set[str]]]:
    """Windows whose slices are a second long, and KPIs; then what two changes make of them."""

    def changed(some: Sequence[str], known: Sequence[str]) -> list[str]:
        gone, new = (draw(st.sets(st.sampled_from(sorted(it)), max_size=2)) if it else set() for it in (some, {*known} - {*some}))
        return sorted(({*some} - gone) | new)

    windows = draw(st.sampled_from([["1s", "2s", "4s", "12s"], ["4s", "60s", "7s/3s"], ["2s", "12s", "gap 3s"], ["4s", "12s", "12s^3s"]]))
    kpis = sorted(draw(st.sets(st.sampled_from(sorted(KPIS)), min_size=1, max_size=4)))
    declared = [(windows, kpis)]
    for _ in range(2):
        before, windows, kpis = windows, changed(windows, SPELLED), changed(kpis, [*KPIS]) or ["c"]
        if slice_ms([parse_window(it) for it in windows]) != SLICE_MS:
            windows = sorted({"1s", *windows})
        if torn([parse_window(it) for it in before], [parse_window(it) for it in windows]) is not None:
            windows = before  # is refused at the start
        declared.append((windows, kpis))
    return [(windows, {*kpis} | ({"s", "c"} if "sc" in kpis else set())) for windows, kpis in declared]


@st.composite
def lives(draw: st.DrawFn) -> list[list[Turn]]:
    """What comes between the changes: no event is late; the watermark follows the events, and promises may be ahead of it."""
    seen_ms, promised_ms, clock_ms, number, segments = NEVER, 0, 0, 0, []
    for _ in range(draw(st.integers(2, 3))):
        turns = []
        for _ in range(draw(st.integers(0, 5))):
            row = st.tuples(st.integers(0, 24), st.sampled_from(["a", "b", "c", None]), st.integers(-9, 9), st.integers(-99, 99))
            mine = []
            for quarters, group, n, fourths in draw(st.lists(row, max_size=6)):
                mine.append((promised_ms + 250 * quarters + number % 250, group, n, fourths / 4))  # no two at once; and sums are exact
                number += 1
            seen_ms = max([seen_ms, *(time_ms - LATENESS_MS for time_ms, *_ in mine)])
            promised_ms = max(promised_ms, seen_ms) + draw(st.sampled_from([0, 0, 0, 1_500, 7_000, 70_000]))
            clock_ms += draw(st.sampled_from([0, 400, 1_000]))
            turns.append((mine, Mark(seen_ms, promised_ms), clock_ms))
        segments.append(turns)
    return [*segments[:-1], [*segments[-1], ([], Mark(promised_ms, promised_ms + 3 * 86_400_000), clock_ms)]]


class Run:
    """Two shards and their rest, restarted at each change."""

    def __init__(self) -> None:
        self.folds, self.rest = [Fold() for _ in range(SHARDS)], Rest()

    def restart(self) -> None:
        self.folds = [Fold(pickle.loads(pickle.dumps(it.snapshot()))) for it in self.folds]
        self.rest = Rest(pickle.loads(pickle.dumps(self.rest.snapshot())))

    def take(self, made: TopicPlan, turns: Sequence[Turn]) -> list[Rows]:
        rows: list[Rows] = []
        for mine, mark, clock_ms in turns:
            told = [(time, group, *({"n": n, "x": x}[of] for of in made.measures)) for time, group, n, x in mine]
            for number, (_, part) in enumerate(partials(events(replace(made, shards=SHARDS), told, {0: mark}, clock_ms))):
                turn = self.folds[number].take([part])
                rows += turn.rows + (self.rest.take([(number, turn.passed)]) if turn.passed else [])
        return rows


Place = tuple[object, ...]


def placed(rows: Sequence[Rows]) -> dict[Place, tuple[Window, dict[str, Any]]]:
    """Each row by its window, group and revision."""
    found: dict[Place, tuple[Window, dict[str, Any]]] = {}
    for one in rows:
        for row in one.table.iter_rows(named=True):
            window = one.plan.windows[row["window"]]
            place = (window.label, row["start"], row["end"], row["by:g"], row["revision"], row["final"], row["closed_by"], row["events"])
            assert place not in found
            found[place] = window, {name.removeprefix("kpi:"): _same(it) for name, it in row.items() if name.startswith("kpi:")}
    return found


def _same(value: object) -> object:
    """A float to twelve digits: polars divides by a constant column as by its reciprocal, so the last bit depends on other rows."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


@settings(max_examples=60, deadline=None)
@given(lives(), declarations(), st.sampled_from([10_000, 2]))
def test_what_stays_is_as_it_would_have_been_and_what_is_added_is_whole_or_not_told(
    segments: list[list[Turn]], declared: list[tuple[list[str], set[str]]], groups: int
) -> None:
    #  windows and KPIs  ──1──|──2──|──3──       all of them  ───────────────     restarted at the same moments
    everything = said(sorted({it for windows, _ in declared for it in windows}), {it for _, kpis in declared for it in kpis}, groups=groups)
    changing, unchanged = Run(), Run()
    since: dict[str, int] = {}
    had: set[str] = set()
    newest_ms = closed_ms = NEVER
    for generation, (turns, (windows, kpis)) in enumerate(zip(segments, declared, strict=False)):
        made = said(windows, kpis, generation, groups)
        names = {kpi.name for kpi in made.kpis}
        changing.restart()
        unchanged.restart()
        if turns:  # else the fold hears nothing of this generation
            has = {window.label for window in made.windows} | names
            since = {name: at for name, at in since.items() if name in has}
            if generation and newest_ms > NEVER:
                since |= dict.fromkeys(has - had, max(newest_ms // SLICE_MS * SLICE_MS + SLICE_MS, closed_ms))
            had = has
        want = {}
        for place, (window, values) in placed(unchanged.take(everything, turns)).items():
            _, start_ms, *_ = place
            assert isinstance(start_ms, int)
            from_ms = since.get(window.label, NEVER) + (window.size_ms if window.kind == "session" else 0)
            if window in made.windows and start_ms >= from_ms:
                want[place] = window, {name: values[name] if start_ms >= since.get(name, NEVER) else None for name in names}

        assert placed(changing.take(made, turns)) == want
        newest_ms = max([newest_ms, *(time_ms for mine, *_ in turns for time_ms, *_ in mine)])
        closed_ms = max([closed_ms, *(mark.promised_ms // SLICE_MS * SLICE_MS for _, mark, _ in turns)])


def rows_of(*stream: tuple[TopicPlan, Sequence[Event], int]) -> list[dict[str, Any]]:
    """Final rows of one shard and its rest, restarted before each plan."""
    folded, rest, rows = Fold(), Rest(), list[Rows]()
    for made, mine, promised_ms in stream:
        folded = Fold(pickle.loads(pickle.dumps(folded.snapshot())))
        rest = Rest(pickle.loads(pickle.dumps(rest.snapshot())))
        told = [(time, group, *({"n": n, "x": x}[of] for of in made.measures)) for time, group, n, x in mine]
        turn = folded.take([partial(made, told, Mark(max(time for time, *_ in mine) - LATENESS_MS, promised_ms))])
        rows += turn.rows + (rest.take([(0, turn.passed)]) if turn.passed else [])
    return finals(rows)


@pytest.mark.parametrize("kept", [["1s", "12s"], ["1s", "2s", "12s"], ["1s", "4s", "12s"]])
def test_what_is_open_in_a_size_that_goes_is_not_lost_for_those_that_it_fed(kept: list[str]) -> None:
    #  1s   |1 |  |  |  |2 |              closed to 5 s: [0, 1) is in 4s and 12s, [4, 5) in 2s alone
    #  2s   [-----)-----)-- open
    #  4s   [-----------)-- nothing yet
    #  12s  [-----------------------
    before, now = said(["1s", "2s", "4s", "12s"], ["s"]), said(kept, ["s"], 1)
    rows = rows_of((before, [(500, "a", 1, 0.0), (4_500, "a", 2, 0.0)], 5_000), (now, [(7_500, "a", 4, 0.0)], 12_000))

    assert [row["s"] for row in rows if row["size"] == 12_000] == [7]


def test_a_new_session_is_made_of_events_from_after_the_change_alone() -> None:
    #  a  | 0.5  1.5 | changed, since 2 s |            9 s   10 s |
    before, now = said(["1s"], ["s"]), said(["1s", "gap 2s"], ["s"], 1)
    rows = rows_of((before, [(500, "a", 1, 0.0), (1_500, "a", 2, 0.0)], 0), (now, [(9_000, "a", 4, 0.0), (10_000, "a", 8, 0.0)], 20_000))

    assert [(row["start"], row["end"], row["events"], row["s"]) for row in rows if row["size"] == 2_000] == [(9_000, 12_000, 2, 12)]


@pytest.mark.parametrize(("at_ms", "is_told"), [(2_500, False), (3_999, False), (4_000, True)])
def test_a_session_that_may_have_begun_before_the_change_is_left_out_of_the_rest_too(at_ms: int, *, is_told: bool) -> None:
    #  | 0.5 | changed, since 2 s | at          an event at 1.999 s would be of the same session up to 3.999 s
    before, now = said(["1s"], ["s"], groups=1), said(["1s", "gap 2s"], ["s"], 1, groups=1)
    some = [(at_ms, group, 1, 0.0) for group in "abc"]
    rows = rows_of((before, [(1_500, "a", 1, 0.0)], 0), (now, some, 20_000))

    assert sorted(row["events"] for row in rows if row["size"] == 2_000) == ([1, 2] if is_told else [])


def test_a_rest_that_waits_for_another_shard_is_told_under_the_changed_plan() -> None:
    #  shard 0   closed under the former plan: 1s is its first window
    #  shard 1   closes under the changed one: 1s is gone, the first is 2s
    declared = said(["1s", "2s"], ["s"], groups=2), said(["2s", "4s", "gap 1s"], ["s", "c"], 1, groups=2)
    before, now = (replace(made, shards=2) for made in declared)
    some = [(500, group, 1, 0.0) for group in "abc"]
    first, second = (Fold().take([partial(made, [(t, g, n) for t, g, n, _ in some], 2_000)]).passed for made in (before, now))
    assert first is not None
    assert second is not None
    rest = Rest()
    assert rest.take([(0, first)]) == []

    rest = Rest(pickle.loads(pickle.dumps(rest.snapshot())))
    rows = finals(rest.take([(1, second)]))

    assert [(row["size"], row["start"], row["events"], row["s"], row["c"]) for row in rows if row["end"] == 2_000] == [
        (2_000, 0, 4, 4, None)
    ]


def test_a_kpi_under_a_former_name_with_another_meaning_begins_anew() -> None:
    typed = planned("windows = ['10s']\nby = [['g']]", FIELDS)
    declared = replace(
        planned("windows = ['10s']\nby = [['g']]\nkpis.n_max = { max = 'x' }\nkpis.x_max = { max = 'x' }", FIELDS), generation=1
    )
    folded = Fold()
    folded.take([partial(typed, [(1_000, "a", 7, 0.5)], -9_000)])
    rows = finals(folded.take([partial(declared, [(2_000, "a", 1.5), (12_000, "a", 2.5)], 20_000)]).rows)

    assert sorted((row["start"], row["events"], row["n_max"], row["x_max"]) for row in rows) == [(0, 2, None, 1.5), (10_000, 1, 2.5, 2.5)]


def test_a_kpi_that_a_schema_version_brings_is_whole_from_the_beginning_and_one_that_comes_back_is_not() -> None:
    one, two = said(["1s"], ["s"]), said(["1s"], ["s", "c"])
    there = Since().after(one, replace(two, version=(1, 2)), 5_000)
    gone = there.after(two, replace(one, generation=1), 6_000)

    assert (there.kpis, gone.kpis) == ({}, {})
    assert gone.after(replace(one, generation=1), replace(two, generation=1, version=(1, 2)), 7_000).kpis == {"c": 7_000}
    assert Since().after(one, replace(two, generation=1), NEVER).kpis == {}


def test_a_later_generation_goes_before_more_schema_versions_but_not_a_plan_that_knows_no_schema() -> None:
    old, new = (replace(said(["1s"], ["s"]), generation=number, version=(1,)) for number in (0, 1))

    assert newer(new, replace(old, version=(1, 2)))
    assert not newer(replace(old, version=(1, 2)), new)
    assert newer(replace(new, version=(1, 2)), new)
    assert not newer(replace(new, version=()), old)
    assert newer(replace(new, version=()), replace(old, version=()))


def test_rows_say_in_headers_what_began_later() -> None:
    before, now = said(["1s", "12s"], ["s"]), said(["1s", "12s", "2s"], ["s", "c", "top"], 1)
    now = replace(now, outputs=tuple(Output(f"kpi.t.{window.label}", 1, 2) for window in now.windows))
    folded = Fold()
    folded.take([partial(before, [(500, "a", 1)], -3_500)])
    rows = folded.take([partial(now, [(600, "a", 1), (2_500, "a", 1)], 12_000)]).rows
    headers = {(topic, bytes(key or b"")): dict(more) for one in rows for topic, key, _, more in encode(one)}

    assert sorted((topic, *told.values()) for (topic, _), told in headers.items()) == [
        ("kpi.t.12s", b"c,top"),
        ("kpi.t.1s",),
        ("kpi.t.1s", b"c,top"),
        ("kpi.t.2s", b"1000"),
    ]
    assert {name for told in headers.values() for name in told} == {"kpi.unknown", "kpi.begun"}
