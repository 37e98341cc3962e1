"""The rest of all shards is one row a window, told when the last of them has closed it."""

import logging
import pickle
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from bytewax.testing import TestingSource, run_main
from hypothesis import given, settings
from hypothesis import strategies as st

from flows import metrics
from flows.fold import Fold, Passed, Rows
from flows.limit import OTHER
from flows.plan import Output
from flows.records import Record
from flows.rest import Rest
from flows.slices import Events, partials
from flows.topology import kpi_flow
from flows.watermark import Mark
from tests.core import events, money, partial, planned, schema, told
from tests.ends import Kept

ONE = planned(
    "windows = ['10s', '1m']\nby = [['g']]\nupdate = 'off'\nkpis.n = { sum = 'n' }", schema({"ts": "long", "g": "string", "n": "long"})
)
FEW = replace(ONE, max_groups=1)
A, B, C = sorted("abc", key=lambda name: zlib.crc32(name.encode()))  # of these, A stays


def passed(rows: Sequence[tuple[int, str, int]], mark: int | Mark) -> Passed:
    """What a shard tells that gets these rows and closes."""
    turn = Fold().take([partial(FEW, rows, mark)])
    assert turn.passed is not None
    return turn.passed


SOME = passed([(1_000, A, 1), (1_000, B, 2), (2_000, C, 4)], 10_000)
NONE = passed([(1_000, A, 1)], 10_000)


def of(shards: int, told: Passed) -> Passed:
    """The same, of one of so many shards."""
    return replace(told, plan=replace(told.plan, shards=shards))


def plain(rows: Sequence[Rows]) -> list[tuple[Any, ...]]:
    return [(row["size"], row["start"], row["g"], row["events"], row["n"], row["closed_by"]) for row in told(rows)]


def test_a_rest_is_told_when_the_last_shard_has_closed_its_window() -> None:
    #  shard 0   rest of [0, 10 s) ┐
    #  shard 1   no rest           ├► the row
    #  shard 2   rest of [0, 10 s) ┘
    rest, some = Rest(), of(3, SOME)

    assert rest.take([(0, some)]) == []
    assert rest.take([(2, some)]) == []
    assert rest.take([(0, replace(some, closed_ms=30_000, by_data_ms=30_000, rests=None))]) == [], (
        "the first shard going on says nothing of the others"
    )
    assert plain(rest.take([(1, of(3, NONE))])) == [(10_000, 0, OTHER, 4, 12, "data")]
    assert rest.snapshot()["open"] is None


def test_the_row_of_the_rest_is_final_and_its_only_one() -> None:
    (row,) = told(Rest().take([(0, SOME)]))

    assert (row["final"], row["revision"], row["g"]) == (True, 0, OTHER)


def test_in_the_row_of_the_rest_an_increase_is_null_as_its_groups_are_no_one_counter() -> None:
    fields = schema({"ts": "long", "g": "string", "n": "long"})
    made = replace(planned("windows = ['10s']\nby = ['g']\nkpis = { up = { increase = 'n' }, n = { last = 'n' } }", fields), max_groups=1)
    turn = Fold().take([partial(made, [(1_000, A, 1), (2_000, A, 3), (2_000, B, 5), (3_000, C, 9)], 10_000)])

    assert turn.passed is not None
    assert [(row["g"], row["up"], row["n"]) for row in told(turn.rows)] == [(A, 2, 3)]
    assert [(row["g"], row["up"], row["n"]) for row in told(Rest().take([(0, turn.passed)]))] == [(OTHER, None, 9)]


def test_without_a_rest_nothing_is_told_or_kept() -> None:
    rest, none = Rest(), of(2, NONE)

    assert rest.take([(0, none), (1, none)]) == []
    assert rest.snapshot()["open"] is None


def test_a_rest_was_closed_by_data_if_data_had_come_so_far_when_its_last_shard_closed() -> None:
    rows = [(1_000, A, 1), (1_000, B, 2)]
    by_promise, by_data = (of(2, passed(rows, Mark(at_ms, 10_000))) for at_ms in (5_000, 10_000))

    assert [row[-1] for row in plain(Rest().take([(0, of(1, by_promise))]))] == ["idle"]
    assert [row[-1] for row in plain(Rest().take([(0, by_promise), (1, by_promise)]))] == ["idle"]
    assert [row[-1] for row in plain(Rest().take([(0, by_promise), (1, by_data)]))] == ["data"]


@pytest.mark.parametrize(("data_ms", "second"), [(12_000, "idle"), (20_000, "data")])
def test_one_turn_may_close_one_window_by_data_and_the_next_by_a_promise(data_ms: int, second: str) -> None:
    """What has come by the end of the turn counts, whichever of its partials told."""
    rows = [(1_000, A, 1), (1_000, B, 2), (11_000, A, 1), (11_000, B, 2)]
    turn = Fold().take([partial(FEW, rows, Mark(12_000, 20_000)), partial(FEW, [], Mark(data_ms, 20_000))])
    assert turn.passed is not None

    assert {row[1]: row[-1] for row in plain(Rest().take([(0, turn.passed)]))} == {0: "data", 10_000: second}


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 99"):
        Rest({**Rest().snapshot(), "version": 99})


def test_a_state_is_plain_data() -> None:
    rest = Rest()
    rest.take([(0, of(2, SOME))])

    assert b"flows" not in pickle.dumps(rest.snapshot())


def test_a_rest_keeps_over_a_start_what_only_an_older_version_has() -> None:
    said = "windows = ['10s']\nby = [['g']]\nupdate = 'off'"
    older, newest = schema({"ts": "long", "g": "string", "x": "double"}, 1), schema({"ts": "long", "g": "string"}, 2)
    both, one = (replace(planned(said, *versions), max_groups=1, shards=2) for versions in ((older, newest), (newest,)))
    was = Fold().take([partial(both, [(1_000, name, 2.5) for name in "abc"], 10_000)]).passed
    now = Fold().take([partial(one, [(1_000, name) for name in "abc"], 10_000)]).passed
    assert was is not None
    assert now is not None
    rest = Rest()
    rest.take([(0, was)])

    (row,) = told(Rest(pickle.loads(pickle.dumps(rest.snapshot()))).take([(1, now)]))
    assert (row["events"], row["x_mean"]) == (4, 2.5)


def test_rests_of_an_older_plan_are_told_under_the_new_one() -> None:
    said = "windows = ['10s']\nby = [['g']]\nupdate = 'off'"
    old = schema({"ts": "long", "g": "string", "n": "int"}, 1)
    one = replace(planned(said, old), max_groups=1, shards=2)
    two = replace(planned(said, old, schema({"ts": "long", "g": "string", "n": "int", "x": "double"}, 2)), max_groups=1, shards=2)
    was = Fold().take([partial(one, [(1_000, name, 1) for name in "abc"], 10_000)]).passed
    now = Fold().take([partial(two, [(1_000, name, 5, 2.5) for name in "abc"], 10_000)]).passed
    assert was is not None
    assert now is not None
    restored = Rest()
    restored.take([(0, was)])

    for rows in (
        Rest().take([(0, was), (1, now)]),
        Rest().take([(1, now), (0, was)]),
        Rest(restored.snapshot()).take([(1, now)]),
    ):
        (row,) = told(rows)
        assert (row["events"], row["n_mean"], row["n_max"], row["x_mean"], row["x_min"]) == (4, 3.0, 5, 2.5, 2.5)


def test_a_rest_that_waits_is_not_lost_to_a_shard_that_tells_of_windows_that_are_gone() -> None:
    whole = replace(FEW, shards=2, generation=1, windows=FEW.windows[1:], outputs=FEW.outputs[1:])
    older = replace(FEW, shards=2, windows=FEW.windows[:1], outputs=FEW.outputs[:1])
    rows = [(1_000, A, 1), (1_000, B, 2), (2_000, C, 4)]
    was, now = (Fold().take([partial(made, rows, 60_000)]).passed for made in (older, whole))
    assert was is not None
    assert now is not None
    rest = Rest()
    rest.take([(0, now)])

    assert plain(rest.take([(1, was)])) == [(60_000, 0, OTHER, 2, 6, "data")]


def test_a_restored_rest_counts_its_decimals_in_the_new_plans_scale() -> None:
    said = "windows = ['10s']\nby = [['g']]\nupdate = 'off'\nkpis.d = { sum = 'd' }"
    cents, finer = (schema({"ts": "long", "g": "string", "d": money(scale)}, scale) for scale in (2, 4))
    one, two = (replace(planned(said, *versions), max_groups=1, shards=3) for versions in ((cents,), (cents, finer)))
    was = Fold().take([partial(one, [(1_000, name, Decimal("0.25")) for name in "abc"], 10_000)]).passed
    now = Fold().take([partial(two, [(1_000, name, Decimal("0.0625")) for name in "abc"], 10_000)]).passed
    assert was is not None
    assert now is not None
    rest = Rest()
    rest.take([(0, was)])
    rest = Rest(rest.snapshot())
    rest.take([(1, now)])

    (row,) = told(Rest(rest.snapshot()).take([(2, now)]))
    assert row["d"] == 2 * (Decimal("0.25") + 2 * Decimal("0.0625"))


def test_a_shard_that_meets_a_new_plan_within_a_turn_tells_rests_of_both() -> None:
    said = "windows = ['10s']\nby = [['g']]\nupdate = 'off'"
    old = schema({"ts": "long", "g": "string", "n": "int"}, 1)
    one = replace(planned(said, old), max_groups=1)
    two = replace(planned(said, old, schema({"ts": "long", "g": "string", "n": "int", "x": "double"}, 2)), max_groups=1)
    turn = Fold().take(
        [partial(one, [(1_000, name, 1) for name in "abc"], 10_000), partial(two, [(11_000, name, 5, 2.5) for name in "abc"], 20_000)]
    )
    assert turn.passed is not None

    assert {row["start"]: (row["events"], row["x_max"]) for row in told(Rest().take([(0, turn.passed)]))} == {
        0: (2, None),
        10_000: (2, 2.5),
    }


# -- shards and rest together

STREAM = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 25_000), st.sampled_from("abcdefghijkl"), st.integers(1, 9)), max_size=10),
        st.sampled_from([0, 900, 10_000, 61_000]),
        st.sampled_from([0, 0, 20_000]),
    ),
    max_size=6,
)


def flow_of(stream: list[tuple[list[tuple[int, str, int]], int, int]], limit: int, shards: int) -> list[Events]:
    """Events of a topic in order; at the end everything closes."""
    made, watermark_ms, flow = replace(ONE, max_groups=limit, shards=shards), 0, []
    for drawn, step_ms, promise_ms in [*stream, ([], 10**6, 0)]:
        rows = [(watermark_ms + ahead_ms, name, n) for ahead_ms, name, n in drawn]
        watermark_ms += step_ms
        flow.append(events(made, rows, {0: Mark(watermark_ms, watermark_ms + promise_ms)}))
        watermark_ms += promise_ms
    return flow


def rows_of(flow: list[Events], shards: int, order: Sequence[int], restart_at: int = -1) -> list[tuple[Any, ...]]:
    """Everything the topic says; `order`: in which order the shards take their partials; all is restored from its snapshots once."""
    folds = [Fold() for _ in range(shards)]
    rest, rows = Rest(), []
    parts = [[part for _, part in partials(one)] for one in flow]
    for number, step in enumerate(parts):
        if number == restart_at:
            folds = [Fold(pickle.loads(pickle.dumps(one.snapshot()))) for one in folds]
            rest = Rest(pickle.loads(pickle.dumps(rest.snapshot())))
        for shard in order:
            turn = folds[shard].take([step[shard]])
            rows += turn.rows
            if turn.passed is not None:
                rows += rest.take([(shard, turn.passed)])
    return sorted(plain(rows), key=str)


@settings(max_examples=80, deadline=None)
@given(STREAM, st.integers(1, 12), st.integers(1, 4), st.data())
def test_a_restart_and_the_order_of_shards_change_nothing_and_windows_add_up(
    stream: list[tuple[list[tuple[int, str, int]], int, int]], limit: int, shards: int, data: st.DataObject
) -> None:
    flow = flow_of(stream, limit, shards)
    rows = rows_of(flow, shards, range(shards))

    assert rows_of(flow, shards, data.draw(st.permutations(range(shards))), data.draw(st.integers(0, len(flow)))) == rows
    assert len({row[:3] for row in rows}) == len(rows), "one row a window and group"
    events_of, n_of = Counter[int](), Counter[int]()
    for size_ms, _, _, count, n, _ in rows:
        events_of[size_ms] += count
        n_of[size_ms] += n
    drawn = [n for rows, _, _ in stream for _, _, n in rows]
    assert set(events_of.values()) <= {len(drawn)}
    assert set(n_of.values()) <= {sum(drawn)}
    own = Counter(row[:2] for row in rows if row[2] != OTHER)
    assert max(own.values(), default=0) <= max(limit, shards)


# -- in the flow


def records_of(stream: list[Events], sink_parts: int) -> list[tuple[str, Any]]:
    kept = Parts()
    run_main(kpi_flow(TestingSource(stream), kept, sink_parts))  # type: ignore[no-untyped-call]
    return kept.items


class Parts(Kept):
    """Every item that reached the sink, with its part."""

    def __init__(self) -> None:
        super().__init__()
        self.items: list[tuple[str, Any]] = []

    def build(self, step_id: str, worker_index: int, worker_count: int) -> Any:
        part, items = super().build(step_id, worker_index, worker_count), self.items

        class Part(type(part)):  # type: ignore[misc]
            def write_batch(self, batch: list[Any]) -> None:
                items.extend((name, Record(*row)) for name, rows in batch for row in rows)

        return Part()


def crowd(topic: str, groups: int = 300) -> list[Events]:
    """A group an event, over three minutes."""
    outputs = tuple(Output(f"kpi.{topic}.{window.label}", 1, 2) for window in ONE.windows)
    made = replace(ONE, topic=topic, max_groups=40, shards=4, outputs=outputs)
    flow = []
    for start_ms in range(0, 180_000, 5_000):
        rows = [(start_ms + number, f"group {number}", 1) for number in range(groups)]
        flow.append(events(made, rows, {0: Mark(start_ms, start_ms)}))
    return [*flow, events(made, [], {0: Mark(10**6, 10**6)})]


def test_all_rests_of_a_group_set_go_through_one_sink_part() -> None:
    items = [(part, record) for part, record in records_of(crowd("many"), 7) if OTHER.encode() in record.key]

    assert Counter(record.topic for _, record in items) == {"kpi.many.10s": 18, "kpi.many.1m": 3}
    assert len({record.key for _, record in items}) == 21
    assert len({part for part, _ in items}) == 1


@pytest.mark.parametrize("topic", ["many", "shop.orders", "a"])
def test_the_shards_of_a_group_set_share_the_sink_parts(topic: str) -> None:
    assert Counter(part for part, _ in records_of(crowd(topic), 4)).keys() == {"0", "1", "2", "3"}


def test_groups_over_the_limit_are_counted_and_told_in_one_line_a_topic(caplog: pytest.LogCaptureFixture) -> None:
    before = metrics.groups_over.labels("counted")._value.get()
    with caplog.at_level(logging.WARNING, "flows.topology"):
        records_of(crowd("counted"), 2)
        records_of(crowd("quiet", 4), 2)

    assert metrics.groups_over.labels("counted")._value.get() - before >= 260 * 18
    assert [record.getMessage() for record in caplog.records] == [
        "counted: a window has more than 40 groups; those over the limit share the group __other__ (see `groups`)"
    ]
    assert metrics.groups_over.labels("quiet")._value.get() == 0
