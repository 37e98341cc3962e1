"""A changed declaration with kept state: what stays is as it would have been, what is added is whole from some window on, or not told."""

import pickle
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from flows.fold import Fold, Rows
from flows.plan import TopicPlan
from flows.rest import Rest
from flows.slices import partials
from flows.watermark import NEVER, Mark
from flows.windows import Window, parse_window, slice_ms
from tests.core import events, planned, schema

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
def declarations(draw: st.DrawFn) -> tuple[list[str], set[str]]:
    """Windows whose slices are a second long, and KPIs."""
    some = st.lists(st.sampled_from(SPELLED), min_size=1, max_size=5, unique=True)
    windows = draw(some.filter(lambda spelled: slice_ms([parse_window(it) for it in spelled]) == SLICE_MS))
    kpis = draw(st.sets(st.sampled_from(sorted(KPIS)), min_size=1, max_size=4))
    return windows, kpis | ({"s", "c"} if "sc" in kpis else set())


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
        self.folds, self.rest = [Fold(SHARDS) for _ in range(SHARDS)], Rest(SHARDS)

    def restart(self) -> None:
        self.folds = [Fold(SHARDS, pickle.loads(pickle.dumps(it.snapshot()))) for it in self.folds]
        self.rest = Rest(SHARDS, pickle.loads(pickle.dumps(self.rest.snapshot())))

    def take(self, made: TopicPlan, turns: Sequence[Turn]) -> list[Rows]:
        rows: list[Rows] = []
        for mine, mark, clock_ms in turns:
            told = [(time, group, *({"n": n, "x": x}[of] for of in made.measures)) for time, group, n, x in mine]
            for number, (_, part) in enumerate(partials(events(made, told, {0: mark}, clock_ms), SHARDS)):
                turn = self.folds[number].take([part])
                rows += turn.rows + (self.rest.take([(number, turn.passed)]) if turn.passed else [])
        return rows


Place = tuple[object, ...]


def placed(rows: Sequence[Rows]) -> dict[Place, tuple[Window, dict[str, Any]]]:
    """Each row by its window, group and revision."""
    found = {}
    for one in rows:
        for row in one.table.iter_rows(named=True):
            window = one.plan.windows[row["window"]]
            place = (window.label, row["start"], row["end"], row["by:g"], row["revision"], row["final"], row["closed_by"], row["events"])
            assert place not in found
            found[place] = window, {name.removeprefix("kpi:"): it for name, it in row.items() if name.startswith("kpi:")}
    return found


@settings(max_examples=40, deadline=None, phases=[Phase.generate])
@given(lives(), st.lists(declarations(), min_size=3, max_size=3), st.sampled_from([10_000, 2]))
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
