"""The state of a shard: what it says in the end, what it says meanwhile, and that neither restarts nor batching change it."""

import json
import pickle
import weakref
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import fold
from flows.fields import read_schema
from flows.fold import Fold, Rows
from flows.plan import TopicPlan
from flows.slices import Partial, partials
from flows.vault import unpacked
from flows.watermark import NEVER, Mark
from tests.core import MILLIS, events, finals, money, partial, planned, provisional, schema, told

FIELDS = schema({"ts": "long", "g": ["null", "string"], "n": "long", "x": "double", "d": money(2)})
KPIS = """
kpis.n_sum = { sum = "n" }
kpis.n_max = { max = "n" }
kpis.n_mean = { mean = "n" }
kpis.d_sum = { sum = "d" }
kpis.x_mean = { mean = "x" }
kpis.x_deviation = { deviation = "x" }
"""
PLAN = planned("windows = ['10s', '15s', '1m']\nby = [['g']]\nupdate = 'off'" + KPIS, FIELDS)
LIVE = replace(PLAN, update_ms=1_000)
COUNT = planned("windows = ['10s', '1m']\nby = [[]]\nkpis.n = { sum = 'n' }", schema({"ts": "long", "n": "long"}))
BY = planned("windows = ['10s']\nby = [['g']]\nkpis.n = { count = '*' }", schema({"ts": "long", "g": ["null", "string"]}))
SECONDS = 1_000


@st.composite
def streams(draw: st.DrawFn, made: TopicPlan = PLAN) -> list[Partial]:
    """What comes to a shard, in order: no event is late, the watermark never goes back, the clock goes on."""
    stream, watermark_ms, clock_ms = [], 0, 0
    row = st.tuples(
        st.integers(0, 90_000),
        st.sampled_from(["a", "b", None]),
        st.none() | st.integers(-(2**40), 2**40),
        st.none() | st.floats(1e9 - 5, 1e9 + 5),
        st.none() | st.decimals(-99, 99, places=2),
    )
    for _ in range(draw(st.integers(1, 8))):
        rows = [(watermark_ms + ahead_ms, *rest) for ahead_ms, *rest in draw(st.lists(row, max_size=5))]
        watermark_ms += draw(st.sampled_from([0, 0, 900, 9_999, 10_000, 61_000]))
        promised_ms = watermark_ms + draw(st.sampled_from([0, 0, 20_000]))
        clock_ms += draw(st.sampled_from([0, 300, 1_000, 5_000]))
        stream.append(partial(made, rows, Mark(watermark_ms, promised_ms, draw(st.sampled_from([True, True, False]))), clock_ms))
        watermark_ms = promised_ms
    return stream


def taken(folded: Fold, stream: Sequence[Partial]) -> list[Rows]:
    """One by one."""
    return [rows for one in stream for rows in folded.take([one]).rows]


def close(rows: Sequence[dict[str, Any]], but: str = "") -> list[dict[str, Any]]:
    """Rows that compare: sorted, floats to nine digits."""
    plain = [
        {k: float(f"{v:.9g}") if isinstance(v, float) and "deviation" not in k else v for k, v in row.items() if k != but} for row in rows
    ]
    rounded = [{k: round(v, 3) if k == "x_deviation" and v is not None else v for k, v in row.items()} for row in plain]
    return sorted(rounded, key=lambda row: str((row["size"], row["start"], row.get("g"), row.get("revision"))))


@settings(max_examples=50, deadline=None)
@given(streams(), st.data())
def test_partials_taken_in_any_batches_say_the_same_as_one_by_one(stream: list[Partial], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=4)))
    batches = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    folded, at_once = Fold(), Fold()

    got = [rows for batch in batches for rows in folded.take(batch).rows]

    one_by_one, in_batches, whole = (close(finals(rows)) for rows in (taken(Fold(), stream), got, at_once.take(stream).rows))
    closed_by = [[row.pop("closed_by") for row in rows] for rows in (one_by_one, in_batches, whole)]
    assert one_by_one == in_batches == whole
    order = ("idle", "data")  # what a promise would have closed may be closed by data that came along with it, never the other way round
    assert all([order.index(it) for it in row] == sorted(order.index(it) for it in row) for row in zip(*closed_by, strict=True))


@settings(max_examples=50, deadline=None)
@given(streams(), st.integers(0, 8))
def test_a_fold_restored_at_any_moment_says_what_it_would_have_said(stream: list[Partial], moment: int) -> None:
    folded = Fold()
    before = taken(folded, stream[:moment])
    state = pickle.loads(pickle.dumps(folded.snapshot()))  # as Bytewax keeps it

    after = taken(Fold(state), stream[moment:])

    assert close(told([*before, *after])) == close(told(taken(Fold(), stream)))


@settings(max_examples=40, deadline=None)
@given(streams(LIVE), st.integers(0, 8))
def test_a_restored_fold_goes_on_counting_revisions(stream: list[Partial], moment: int) -> None:
    folded = Fold()
    before = taken(folded, stream[:moment])
    after = taken(Fold(pickle.loads(pickle.dumps(folded.snapshot()))), stream[moment:])

    assert close(finals([*before, *after]), "revision") == close(finals(taken(Fold(), stream)), "revision")
    counted_up(told([*before, *after]))


@settings(max_examples=40, deadline=None)
@given(streams(LIVE))
def test_a_snapshot_changes_nothing(stream: list[Partial]) -> None:
    watched, left = Fold(), Fold()
    got = []
    for one in stream:
        watched.snapshot()
        got += watched.take([one]).rows

    assert close(told(got)) == close(told(taken(left, stream)))


@settings(max_examples=40, deadline=None)
@given(streams(LIVE))
def test_revisions_count_up_and_the_final_is_the_last(stream: list[Partial]) -> None:
    counted_up(told(taken(Fold(), stream)))


def counted_up(rows: list[dict[str, Any]]) -> None:
    seen: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in rows:
        seen.setdefault((row["size"], row["start"], row["g"]), []).append(row)
    for of_one in seen.values():
        assert [row["revision"] for row in of_one] == list(range(len(of_one)))
        assert not any(row["final"] for row in of_one[:-1])
        assert all((row["closed_by"] is None) != row["final"] for row in of_one)


@settings(max_examples=50, deadline=None)
@given(streams())
def test_windows_add_up(stream: list[Partial]) -> None:
    #  1 m   [-----------------------------)
    #  10 s  [----)[----)[----)[----)[----)[----)      15 s  [------)[------)[------)[------)
    last = partial(PLAN, [], 10**9)
    rows = finals(taken(Fold(), [*stream, last]))

    for minute in (row for row in rows if row["size"] == 60_000):
        for size in (10_000, 15_000):
            inside = [
                r for r in rows if r["size"] == size and r["g"] == minute["g"] and minute["start"] <= r["start"] < minute["start"] + 60_000
            ]
            assert sum(r["events"] for r in inside) == minute["events"]
            assert sum(r["n_sum"] for r in inside) == minute["n_sum"]
            assert sum((r["d_sum"] for r in inside), Decimal(0)) == minute["d_sum"]
            assert max((r["n_max"] for r in inside if r["n_max"] is not None), default=None) == minute["n_max"]
    assert {(r["start"] // 60_000, r["g"]) for r in rows if r["size"] == 10_000} == {
        (r["start"] // 60_000, r["g"]) for r in rows if r["size"] == 60_000
    }


@settings(max_examples=40, deadline=None)
@given(streams())
def test_a_window_closes_with_the_first_partial_that_takes_the_watermark_to_its_end(stream: list[Partial]) -> None:
    folded, reached_ms = Fold(), NEVER
    for one in stream:
        before_ms, reached_ms = reached_ms, max(reached_ms, one.marks[0].promised_ms)
        assert all(before_ms < row["start"] + row["size"] <= reached_ms for row in finals(folded.take([one]).rows))


def test_an_end_at_the_watermark_closes_and_an_end_above_it_does_not() -> None:
    #  [0 ------ t -)[10 s       W
    folded = Fold()

    assert finals(folded.take([partial(COUNT, [(5_000, 1)], 9_999)]).rows) == []
    (row,) = finals(folded.take([partial(COUNT, [], 10_000)]).rows)
    assert (row["start"], row["events"], row["n"], row["closed_by"]) == (0, 1, 1, "data")


def test_what_only_a_promise_closed_was_closed_by_idle() -> None:
    #  [0 -- t -----)[10 s ------)[20 s ------)
    #                     seen         promised
    rows = [(1_000, 1), (11_000, 1), (21_000, 1)]
    closed = finals(Fold().take([partial(COUNT, rows, Mark(12_000, 25_000))]).rows)

    assert {row["start"]: row["closed_by"] for row in closed} == {0: "data", 10_000: "idle"}


def test_what_data_would_have_closed_as_well_was_closed_by_data() -> None:
    (row,) = finals(Fold().take([partial(COUNT, [(1_000, 1)], Mark(10_000, 15_000))]).rows)

    assert row["closed_by"] == "data"


def test_a_larger_window_is_judged_by_its_own_end() -> None:
    #  10 s  [50 s - t -)          data has come to 60 s, a promise to 120 s
    #  1 m   [ ... -----)
    folded = Fold()
    first = finals(folded.take([partial(COUNT, [(51_000, 1)], Mark(60_000, 60_000))]).rows)
    second = finals(folded.take([partial(COUNT, [(61_000, 1)], Mark(60_000, 120_000))]).rows)

    assert {(row["size"], row["closed_by"]) for row in first} == {(10_000, "data"), (60_000, "data")}
    assert {(row["size"], row["closed_by"]) for row in second} == {(10_000, "idle"), (60_000, "idle")}


def test_nothing_closes_until_every_partition_was_heard_of() -> None:
    def one(partition: int, rows: list[tuple[object, ...]]) -> Partial:
        return next(partials(events(COUNT, rows, {partition: Mark(30_000, 30_000)}, partitions=2)))[1]

    folded = Fold()

    assert finals(folded.take([one(0, [(1_000, 1)])]).rows) == []
    assert len(finals(folded.take([one(1, [])]).rows)) == 1


def test_a_watermark_that_goes_back_opens_nothing() -> None:
    folded = Fold()
    folded.take([partial(COUNT, [(1_000, 1)], 10_000)])

    for _ in range(2):
        turn = folded.take([partial(COUNT, [(1_500, 1)], 0)])
        assert (turn.rows, turn.closed) == ([], 1)


def test_events_whose_slice_is_closed_are_counted_and_the_others_kept() -> None:
    #  [0 -- late --)W[10 s -- kept --)
    folded = Fold()
    folded.take([partial(COUNT, [], 10_000)])
    late = partial(COUNT, [(9_000, 5), (9_999, 5), (10_000, 3)], 10_000)
    later = partial(COUNT, [(9_999, 5), (10_000, 4)], 20_000)
    turn = folded.take([late, later])

    assert turn.closed == 3
    assert [(row["start"], row["events"], row["n"]) for row in finals(turn.rows)] == [(10_000, 2, 7)]


def test_a_topic_that_is_created_again_with_old_event_times_finds_its_windows_closed() -> None:
    #  first life    0 ········ W 10 s
    #  second life                        1 s: closed before ········ 15 s: in its window ········ W 20 s
    folded = Fold()
    folded.take([partial(COUNT, [(1_000, 1)], 10_000)])
    again = folded.take([partial(COUNT, [], NEVER), partial(COUNT, [(1_000, 7)], -4_000), partial(COUNT, [(15_000, 2)], 9_000)])
    later = folded.take([partial(COUNT, [], 20_000)])

    assert (again.rows, again.closed, later.closed) == ([], 1, 0)
    assert [(row["start"], row["n"]) for row in finals(later.rows)] == [(10_000, 2)]


def test_a_restored_fold_knows_what_is_closed_and_how_far_data_had_come() -> None:
    #  [0 -------)[10 s ------)[20 s ------)
    #            data    promise
    folded = Fold()
    folded.take([partial(COUNT, [(11_000, 1)], Mark(20_000, 20_000))])
    other = Mark(12_000, 12_000)  # a second partition, met only now, holds the data back
    restored = Fold(pickle.loads(pickle.dumps(folded.snapshot())))
    turn = restored.take([replace(partial(COUNT, [(5_000, 1), (20_000, 1)], 20_000), marks={1: other}, partitions=2)])

    assert (finals(turn.rows), turn.closed) == ([], 1)


def test_the_shards_of_a_group_are_apart_and_the_total_is_whole() -> None:
    made = replace(BY, group_sets=((), ("g",)), shards=4)
    rows = [(1_000, group) for group in ["a", "b", "c", None, "a"]]
    folds: dict[str, Fold] = {}
    got = []
    for key, one in partials(events(made, rows, {0: Mark(10_000, 10_000)})):
        got += finals(folds.setdefault(key, Fold()).take([one]).rows)

    assert sorted(str((row.get("g", "total"), row["events"])) for row in got) == [
        "('a', 2)",
        "('b', 1)",
        "('c', 1)",
        "('total', 5)",
        "(None, 1)",
    ]


# -- rows of open windows


def test_open_windows_are_told_at_most_once_an_update_by_the_clock_that_comes_with_the_events() -> None:
    folded = Fold()

    def turn(clock_ms: int) -> int:
        return len(provisional(folded.take([partial(COUNT, [(1_000, 1)], NEVER, clock_ms)]).rows))

    assert [turn(clock_ms) for clock_ms in (5_000, 5_001, 5_999, 6_000, 6_500, 7_000)] == [2, 0, 0, 2, 0, 2]


def test_a_row_of_an_open_window_holds_all_that_came_so_far() -> None:
    folded = Fold()
    folded.take([partial(COUNT, [(1_000, 1)], NEVER, 5_000)])
    folded.take([partial(COUNT, [(2_000, 2)], NEVER, 5_500)])
    rows = provisional(folded.take([partial(COUNT, [(12_000, 4)], 10_000, 6_000)]).rows)

    assert {(row["size"], row["start"]): (row["events"], row["n"]) for row in rows} == {(10_000, 10_000): (1, 4), (60_000, 0): (3, 7)}


def test_only_what_changed_is_told_again() -> None:
    folded = Fold()
    folded.take([partial(BY, [(1_000, "a"), (1_000, "b"), (11_000, "a"), (1_000, None)], NEVER, 5_000)])
    rows = provisional(folded.take([partial(BY, [(2_000, "b"), (2_000, None)], NEVER, 6_000)]).rows)

    assert {(row["g"], row["start"], row["events"], row["revision"]) for row in rows} == {("b", 0, 2, 1), (None, 0, 2, 1)}
    assert provisional(folded.take([partial(BY, [], NEVER, 9_000)]).rows) == []


def test_off_means_finals_only() -> None:
    made = replace(COUNT, update_ms=None)
    rows = told(taken(Fold(), [partial(made, [(1_000, 1)], 0, 5_000), partial(made, [(2_000, 1)], 10_000, 9_000)]))

    assert [(row["final"], row["revision"]) for row in rows] == [(True, 0)]


def test_nothing_provisional_is_told_while_a_partition_lags() -> None:
    folded = Fold()

    def turn(*, fresh: bool) -> list[dict[str, Any]]:
        mark = Mark(NEVER, NEVER, fresh)
        one = next(partials(events(COUNT, [(1_000, 1)], {0: mark, 1: Mark()}, 5_000, 2)))[1]
        return provisional(folded.take([one]).rows)

    assert turn(fresh=False) == []
    assert {row["events"] for row in turn(fresh=True)} == {2}


def test_partitions_that_are_gone_lag_no_more() -> None:
    """A topic that was created again with fewer of them."""
    folded = Fold()

    def turn(marks: dict[int, Mark], partitions: int) -> list[dict[str, Any]]:
        return provisional(folded.take([next(partials(events(COUNT, [(1_000, 1)], marks, 5_000, partitions)))[1]]).rows)

    assert turn({0: Mark(), 1: Mark(fresh=False)}, 2) == []
    assert {row["events"] for row in turn({0: Mark()}, 1)} == {2}


def test_finals_are_told_though_a_partition_lags() -> None:
    assert len(finals(Fold().take([partial(COUNT, [(1_000, 1)], Mark(10_000, 10_000, fresh=False))]).rows)) == 1


@pytest.mark.parametrize("update_ms", [200, 1_000, 2_000])
def test_all_shards_of_a_topic_together_tell_at_most_5000_rows_a_second(update_ms: int) -> None:
    made = replace(BY, group_sets=((), ("g",)), update_ms=update_ms, shards=8)
    rows = [(1_000, str(group)) for group in range(13_000)]
    folds: dict[str, Fold] = {}
    told_rows: list[dict[str, Any]] = []
    for clock_ms in range(0, 2_000, 100):
        for key, one in partials(events(made, rows if clock_ms == 0 else [], {0: Mark()}, clock_ms)):
            told_rows += provisional(folds.setdefault(key, Fold()).take([one]).rows)

    assert 8_000 <= len(told_rows) <= 10_000, "in two seconds"


def test_what_was_over_the_limit_is_told_next_time_and_each_group_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "ROWS_A_SECOND", 4)
    folded = Fold()
    first = provisional(folded.take([partial(BY, [(1_000, group) for group in "abcdefg"], NEVER, 1_000)]).rows)
    second = provisional(folded.take([partial(BY, [], NEVER, 2_000)]).rows)
    third = provisional(folded.take([partial(BY, [], NEVER, 3_000)]).rows)

    assert (len(first), len(second), len(third)) == (4, 3, 0)
    assert {row["g"] for row in first + second} == set("abcdefg")


def test_where_too_many_changed_some_wait_and_the_others_are_told_when_they_change_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "ROWS_A_SECOND", 4)
    monkeypatch.setattr(fold, "LOOSE_ROWS", 40)
    folded, groups = Fold(), [f"{number:03}" for number in range(300)]
    turns = [partial(BY, [(1_000, group) for group in groups], NEVER, 1_000), *(partial(BY, [], NEVER, 1_000 * n) for n in range(2, 20))]
    told = [{row["g"] for row in provisional(folded.take([one]).rows)} for one in turns]
    changed = provisional(folded.take([partial(BY, [(2_000, "299")], NEVER, 20_000)]).rows)

    assert list(map(len, told)) == [4] * 10 + [0] * 9
    assert len(set[str]().union(*told)) == 40
    assert [(row["g"], row["events"]) for row in changed] == [("299", 2)]
    assert {row["g"] for row in finals(folded.take([partial(BY, [], 10_000, 21_000)]).rows)} == set(groups)


def test_where_too_many_change_all_the_time_each_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "ROWS_A_SECOND", 4)
    monkeypatch.setattr(fold, "LOOSE_ROWS", 20)
    folded, groups = Fold(), [f"{number:03}" for number in range(60)]
    told = set()
    for number in range(300):
        one = partial(BY, [(1_000, group) for group in groups], NEVER, 1_000 * number)
        assert one.table is not None
        told |= {row["g"] for row in provisional(folded.take([replace(one, table=one.table.sort("by:g"))]).rows)}

    assert told == set(groups)


@pytest.mark.parametrize("together", [True, False])
def test_what_changes_while_a_partition_lags_is_not_looked_through(monkeypatch: pytest.MonkeyPatch, *, together: bool) -> None:
    """Nothing will be told of it; to find what is alike in so many rows took a third of a worker's time when it caught up."""
    monkeypatch.setattr(fold, "LOOSE_ROWS", 100)
    folded, lagging = Fold(), Mark(fresh=False)
    stream = [partial(BY, [(1_000, f"{number} {group}") for group in range(200)], lagging, 2_000 + number) for number in range(9)]
    with monkeypatch.context() as without:
        without.setattr(Fold, "_changed", None)
        for turn in [stream] if together else [[one] for one in stream]:
            assert provisional(folded.take(turn).rows) == []
            assert sum(map(len, folded.touched)) == 200
    told = provisional(folded.take([partial(BY, [(1_000, "young")], NEVER, 3_000)]).rows)

    assert {row["g"] for row in told} == {"young", *(f"8 {group}" for group in range(200))}, "it has caught up"


def test_finals_know_no_limit() -> None:
    made = replace(BY, update_ms=1, max_groups=100_000)
    rows = [(1_000, str(group)) for group in range(6_000)]

    assert len(finals(Fold().take([partial(made, rows, 10_000)]).rows)) == 6_000


# -- what is kept


@pytest.mark.parametrize("update_ms", [None, 1_000])
@pytest.mark.parametrize("fresh", [True, False])
def test_what_is_closed_is_forgotten(update_ms: int | None, *, fresh: bool) -> None:
    made = replace(COUNT, update_ms=update_ms)
    folded, old = Fold(), []
    for minute in range(1, 6):
        one = partial(made, [(60_000 * minute - 30_000, 1)], Mark(60_000 * minute, 60_000 * minute, fresh), 60_000 * minute)
        assert one.table is not None
        old.append(weakref.ref(one.table))
        folded.take([one])
    del one

    assert [table() for table in old[:-1]] == [None] * 4
    assert (folded.snapshot()["levels"], folded.snapshot()["published"]) == ({}, None)


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 99"):
        Fold({**Fold().snapshot(), "version": 99})


def test_a_state_is_plain_data() -> None:
    """What Bytewax pickles must be readable by the next version of this program: no class of ours in it."""
    folded = Fold()
    folded.take([partial(LIVE, [(1_000, "a", 1, 1.0, Decimal(1)), (2_000, None, None, None, None)], 0, 5_000)])

    assert b"flows" not in pickle.dumps(folded.snapshot())


# -- plans that grow


OLD = schema({"ts": "long", "g": ["null", "string"], "n": "int"}, 1)
NEW = schema({"ts": "long", "g": ["null", "string"], "n": "int", "extra": "double"}, 2)
SAID = "windows = ['10s', '1m']\nby = [['g']]"
V1, V2 = planned(SAID, OLD), planned(SAID, OLD, NEW)


def grown(*stream: Partial) -> dict[tuple[int, int, str], dict[str, Any]]:
    return {(row["size"], row["start"], row["g"]): row for row in finals(taken(Fold(), stream))}


def test_a_field_added_in_the_middle_of_a_window_is_measured_from_then_on() -> None:
    #  [0 -- a v1 --- a v2 --)W
    rows = grown(partial(V1, [(1_000, "a", 1)], 0), partial(V2, [(2_000, "a", 5, 2.5)], 60_000))

    for size in (10_000, 60_000):
        row = rows[size, 0, "a"]
        assert (row["events"], row["n_mean"], row["n_max"], row["extra_mean"], row["extra_min"]) == (2, 3.0, 5, 2.5, 2.5)


def test_a_version_that_brings_the_first_field_to_measure_is_folded_into_open_windows() -> None:
    bare = schema({"ts": "long", "g": ["null", "string"]}, 1)
    rows = grown(
        partial(planned(SAID, bare), [(1_000, "a"), (1_000, "b")], 0), partial(planned(SAID, bare, NEW), [(2_000, "a", 5, 2.5)], 60_000)
    )

    assert (rows[60_000, 0, "a"]["events"], rows[60_000, 0, "a"]["n_max"], rows[60_000, 0, "a"]["extra_mean"]) == (2, 5, 2.5)
    assert (rows[60_000, 0, "b"]["events"], rows[60_000, 0, "b"]["n_max"]) == (1, None)


def test_a_window_without_an_event_of_the_new_version_closes_with_null() -> None:
    """The shard hears of the new plan by an empty partial: time goes on for all."""
    rows = grown(partial(V1, [(1_000, "a", 1)], 0), partial(V2, [], 60_000))

    assert (rows[10_000, 0, "a"]["n_max"], rows[10_000, 0, "a"]["extra_max"]) == (1, None)
    assert (rows[60_000, 0, "a"]["n_max"], rows[60_000, 0, "a"]["extra_max"]) == (1, None)


def test_two_tables_of_the_old_version_close_under_the_new_plan() -> None:
    rows = grown(partial(V1, [(1_000, "a", 1)], 0), partial(V1, [(2_000, "a", 2)], 0), partial(V2, [], 60_000))

    assert (rows[60_000, 0, "a"]["events"], rows[60_000, 0, "a"]["extra_max"]) == (2, None)


def test_an_open_window_of_the_old_version_is_told_under_the_new_plan() -> None:
    folded = Fold()
    folded.take([partial(V1, [(1_000, "a", 1)], 0, 5_000), partial(V1, [(1_000, "b", 1)], 0, 5_000)])
    rows = provisional(folded.take([partial(V1, [(1_000, "a", 1)], 0, 5_001), partial(V2, [], 0, 6_000)]).rows)

    assert {(row["g"], row["events"], row["extra_max"]) for row in rows} == {("a", 2, None)}


def test_a_restored_fold_closes_the_old_versions_windows_under_the_new_plan() -> None:
    folded = Fold()
    folded.take([partial(V1, [(1_000, "a", 1)], 0)])
    rows = finals(Fold(pickle.loads(pickle.dumps(folded.snapshot()))).take([partial(V2, [], 60_000)]).rows)

    assert [(row["events"], row["extra_max"]) for row in rows] == [(1, None), (1, None)]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_plan_of_fewer_or_other_versions_after_a_start_takes_nothing_from_open_windows(*, restarted: bool) -> None:
    """After a start the first plan is made from the newest version alone; what only older ones have is in the windows still."""
    one = schema({"ts": "long", "x": "double", "d": money(4)}, 1)
    two, three = schema({"ts": "long", "d": money(2)}, 2), schema({"ts": "long", "d": money(2), "y": "long"}, 3)
    said = "windows = ['10s']"
    folded = Fold()
    folded.take([partial(planned(said, one, two), [(1_000, 1.5, Decimal("2.5"))], 0)])
    if restarted:
        folded = Fold(pickle.loads(pickle.dumps(folded.snapshot())))
    stream = [partial(planned(said, two), [(2_000, Decimal(1))], 0), partial(planned(said, two, three), [(3_000, Decimal(1), 9)], 0)]
    assert finals(taken(folded, stream)) == []
    if restarted:
        folded = Fold(pickle.loads(pickle.dumps(folded.snapshot())))
    (row,) = finals(folded.take([partial(planned(said, two), [], 10_000)]).rows)

    assert (row["events"], row["x_mean"], row["x_max"], row["d_sum"], row["d_max"]) == (3, 1.5, 1.5, Decimal("4.5"), Decimal("2.5"))


def test_a_reader_that_still_has_the_old_plan_adds_to_the_same_windows() -> None:
    """Readers meet a new schema at different moments: the newest plan stays."""
    rows = grown(partial(V2, [(1_000, "a", 1, 7.0)], 0), partial(V1, [(2_000, "a", 3)], 0), partial(V1, [(3_000, "b", 3)], 60_000))

    assert (rows[60_000, 0, "a"]["events"], rows[60_000, 0, "a"]["n_max"], rows[60_000, 0, "a"]["extra_max"]) == (2, 3, 7.0)
    assert (rows[60_000, 0, "b"]["events"], rows[60_000, 0, "b"]["extra_max"]) == (1, None)


def test_a_field_that_the_newest_version_lacks_goes_on_as_null() -> None:
    made = planned(SAID, NEW, schema({"ts": "long", "g": ["null", "string"], "n": "int"}, 3))
    rows = grown(
        partial(V2, [(1_000, "a", 1, 7.0)], 0),
        partial(made, [(2_000, "a", 3, None)], 10_000),
        partial(made, [(11_000, "a", 4, None)], 60_000),
    )

    assert [(rows[at]["extra_max"], rows[at]["n_max"]) for at in ((10_000, 0, "a"), (10_000, 10_000, "a"), (60_000, 0, "a"))] == [
        (7.0, 3),
        (None, 4),
        (7.0, 4),
    ]


@pytest.mark.parametrize(
    ("before", "after", "first", "second", "total"),
    [
        ("int", "double", 3, 0.5, 3.5),
        ("long", "float", 3, 0.5, 3.5),
        ("float", "double", 0.5, 0.25, 0.75),
        ("int", "long", 3, 2**40, 2**40 + 3),
        (money(2), money(4), Decimal("0.25"), Decimal("0.0625"), Decimal("0.3125")),
    ],
)
def test_a_field_promoted_in_the_middle_of_a_window_goes_on(before: object, after: object, first: Any, second: Any, total: Any) -> None:
    said = (
        "windows = ['10s', '1m']\nkpis.s = { sum = 'n' }\nkpis.m = { mean = 'n' }\nkpis.top = { max = 'n' }\nkpis.d = { deviation = 'n' }"
    )
    one, two = schema({"ts": "long", "n": before}, 1), schema({"ts": "long", "n": after}, 2)
    old, new = planned(said, one), planned(said, one, two)
    rows = finals(taken(Fold(), [partial(old, [(1_000, first)], 0), partial(new, [(2_000, second)], 60_000)]))

    assert [row["s"] for row in rows] == [total, total]
    assert [row["top"] for row in rows] == [max(first, second)] * 2
    assert [row["m"] for row in rows] == [float(total) / 2] * 2


def test_a_window_of_slices_before_and_after_the_new_field_closes_whole() -> None:
    #  10 s  [0 a v1 )[10 s a v2 )
    #  1 m   [-------------------- ... )
    rows = grown(partial(V1, [(1_000, "a", 1)], 0), partial(V2, [], 10_000), partial(V2, [(11_000, "a", 2, 7.0)], 60_000))

    assert [(rows[at]["n_max"], rows[at]["extra_max"]) for at in ((10_000, 0, "a"), (10_000, 10_000, "a"), (60_000, 0, "a"))] == [
        (1, None),
        (2, 7.0),
        (2, 7.0),
    ]


def test_kpis_that_a_plan_without_schemas_did_not_have_come_with_the_first() -> None:
    empty = planned(SAID)
    rows = finals(taken(Fold(), [partial(empty, [], 0), partial(V1, [(1_000, "a", 1)], 60_000)]))

    assert [row["n_max"] for row in rows] == [1, 1]


def test_tables_are_small_where_windows_are_open_for_long() -> None:
    """State is a row a slice and group, however many partials made it."""
    made = planned("windows = ['1d']\nby = [[]]\nupdate = 'off'\nkpis.n = { sum = 'n' }", schema({"ts": "long", "n": "long"}))
    folded = Fold()
    for _ in range(200):
        folded.take([partial(made, [(1_000, 1)], 0)])

    (level,) = folded.snapshot()["levels"].values()
    table = unpacked(*level)
    assert (len(table), table["events"].to_list(), table["sum:n"].to_list()) == (1, [200], [200])


def test_a_field_that_is_renamed_in_the_middle_of_a_window_keeps_what_was_folded() -> None:
    #      [cost 4)   renamed: price        [price 2.5)      one window, under the new name
    fields = [{"name": "ts", "type": MILLIS}, {"name": "price", "type": "double", "aliases": ["cost"]}]
    old = schema({"ts": MILLIS, "cost": "int"}, 1)
    new = read_schema(2, json.dumps({"type": "record", "name": "Event", "fields": fields}))
    said = "windows = ['10s']\nlateness = '0s'\nupdate = 'off'"
    one, both = planned(said, old), planned(said, old, new)
    one_fold = Fold()

    one_fold.take([partial(one, [(1_000, 4), (2_000, 3)], 0)])
    one_fold.take([partial(both, [(3_000, 2.5)], 0)])
    (row,) = finals(one_fold.take([partial(one, [(4_000, 1)], 0), partial(both, [(5_000, 0.5)], 10_000)]).rows)

    assert {name: row[name] for name in ("events", "price_mean", "price_min", "price_max")} == {
        "events": 5,
        "price_mean": 2.2,
        "price_min": 0.5,
        "price_max": 4.0,
    }
