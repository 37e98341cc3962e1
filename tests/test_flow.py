"""The flow against its specification: generated runs, bytes to bytes, through the real dataflow."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.declaration import parse
from flows.fields import Schema, SchemaError, read_schema
from flows.plan import TopicPlan, plan
from tests.batches import batch
from tests.differences import compare, place_of
from tests.ends import Poll, Result, run
from tests.framing import TOPIC, declaration, encode
from tests.oracle import Kpi, Outcome, Step, expect
from tests.oracle_windows import Window, tumbling
from tests.strategies import SKETCHES, Habit, Run, crowded, rearranged, runs

GENERATED = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


SESSIONS = Habit(windows=("session", "session", "session", "tumbling"))
AGREEING = Habit(windows=("tumbling",), promises=False)
CALENDARS = Habit(windows=("calendar", "calendar", "calendar", "session", "hopping"))
SKETCHED = Habit(aggregates=SKETCHES, windows=("tumbling", "session", "hopping", "cumulate"))


def lasting(drawn: Run) -> Run:
    """The run with one more look at the clock at its end, so that everything open is told."""
    last = drawn.steps[-1]
    return replace(drawn, steps=(*drawn.steps, Step(last.clock_ms + 1_000, {}, last.partitions)))


def planned(drawn: Run, shards: int = 1) -> tuple[TopicPlan, Schema]:
    schema = read_schema(drawn.schema_id, json.dumps(drawn.schema))
    return replace(plan(parse(declaration(drawn)), TOPIC, [schema]), shards=shards), schema


def polls_of(drawn: Run) -> list[Poll]:
    polls = []
    for step, polled in zip(drawn.steps, encode(drawn), strict=True):
        batches = [
            batch([(m.key, m.value, m.timestamp_ms, ()) for m in messages], partition, messages[0].offset)
            for partition, cut in polled.items()
            for messages in cut
        ]
        polls.append(Poll(step.clock_ms, batches, step.partitions, step.end_seen))
    return polls


def flow_of(drawn: Run, shards: int = 1, **shape: Any) -> Result:
    made, schema = planned(drawn, shards)

    def schema_of(schema_id: int) -> Schema:
        if schema_id != schema.id:
            raise SchemaError(f"no schema {schema_id}")
        return schema

    return run(made, polls_of(drawn), schema_of, **shape)


def rows_of_groups_that_stay(outcome: Outcome, result: Result) -> list[dict[str, Any]]:
    """Without provisional rows of groups that went into the rest later."""
    return [row for row in result.rows if row["final"] or place_of(row) not in outcome.over]


def fates_of(result: Result) -> dict[tuple[int, int], str]:
    """What the records set aside say became of each message."""
    return {(int(h["kpi.partition"]), int(h["kpi.offset"])): h["kpi.reason"] for h in (*result.late, *result.dead)}


def books(outcome: Outcome) -> dict[int, Counter[str]]:
    """The oracle's fates by partition; what the fold finds closed was handed to it as folded."""
    counted: dict[int, Counter[str]] = {}
    for (partition, _), fate in outcome.fates.items():
        counted.setdefault(partition, Counter())["folded" if fate.cause == "closed" else fate.kind] += 1
    return counted


def hold(drawn: Run, shards: int, restarts: Sequence[int] = ()) -> None:
    """The flow to the specification: rows, books, and what is set aside."""
    outcome = expect(replace(drawn.spec, shards=shards), drawn.steps)
    result = flow_of(drawn, shards, restarts=restarts)

    assert compare(outcome.finals, result.finals) == []
    if restarts:  # what changed just before one and was not told yet is told with the next change, or the end: see fold.snapshot
        lines = compare([], result.rows, first=10**6)
        assert [line for line in lines if "got a row after" in line or "got revision" in line] == []
    else:
        hold_provisional(outcome, result)
    assert {p: Counter(at.fates) for p, at in result.positions.items() if at.fates} == books(outcome)
    aside = {
        at: fate.kind
        for at, fate in outcome.fates.items()
        if fate.kind not in ("tombstone", "filtered", "folded") and fate.cause != "closed"
    }
    assert fates_of(result) == aside


def hold_provisional(outcome: Outcome, result: Result) -> None:
    """The last row of every window and group, also of those that are open."""
    assert compare([*outcome.finals, *outcome.told], rows_of_groups_that_stay(outcome, result), outcome.perhaps) == []


@pytest.mark.timeout(400)
@GENERATED
@given(runs().map(lasting), st.integers(1, 4))
def test_the_flow_says_what_the_specification_says(drawn: Run, shards: int) -> None:
    hold(drawn, shards)


@settings(GENERATED, max_examples=200)
@given(runs(SESSIONS).map(lasting), st.integers(1, 3))
def test_of_sessions_the_flow_says_what_the_specification_says(drawn: Run, shards: int) -> None:
    hold(drawn, shards)


@settings(GENERATED, max_examples=200)
@given(runs(CALENDARS).map(lasting), st.integers(1, 3))
def test_by_the_calendar_the_flow_says_what_the_specification_says(drawn: Run, shards: int) -> None:
    hold(drawn, shards)


@settings(GENERATED, max_examples=150)
@given(runs(SKETCHED).map(lasting), st.integers(1, 3))
def test_of_sketches_the_flow_says_what_the_specification_says(drawn: Run, shards: int) -> None:
    hold(drawn, shards)


@settings(GENERATED, max_examples=60)
@given(runs().map(lasting), st.integers(1, 4), st.data())
def test_a_flow_that_is_started_again_anywhere_says_the_same(drawn: Run, shards: int, data: st.DataObject) -> None:
    hold(drawn, shards, data.draw(st.lists(st.integers(0, len(drawn.steps)), min_size=1, max_size=3, unique=True)))


@settings(GENERATED, max_examples=60)
@given(runs(AGREEING), st.integers(1, 3))
def test_all_kinds_of_windows_agree(drawn: Run, shards: int) -> None:
    """What is counted and added up in one kind of window is what another kind of the same time says."""
    windows = (*tumbling(4_000, 12_000), Window("hopping", 12_000, 4_000), Window("cumulate", 12_000, 4_000), Window("session", 2_000))
    kpis = (Kpi("n", "count", "*"), Kpi("pace", "rate", "*"))
    drawn = replace(drawn, spec=replace(drawn.spec, windows=windows, kpis=kpis, max_groups=10_000))
    result = flow_of(replace(drawn, steps=(*drawn.steps, _later(drawn))), shards=shards)
    folded = sum(at.fates.get("folded", 0) for at in result.positions.values()) - closed(drawn, shards)
    of: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {window.label: {} for window in windows}
    for row in result.finals:
        label, start_ms, end_ms, *groups = place_of(row)
        of[label][start_ms, end_ms, *groups] = row

    small, whole, hopping, cumulate, sessions = (of[window.label] for window in windows)
    for told in (small, whole, sessions):
        assert sum(row["events"] for row in told.values()) == folded * len(drawn.spec.group_sets)
    assert sum(row["events"] for row in hopping.values()) == 3 * folded * len(drawn.spec.group_sets)
    for (start_ms, end_ms, *groups), row in (whole | hopping).items():
        parts = [small.get((at_ms, at_ms + 4_000, *groups)) for at_ms in range(start_ms, end_ms, 4_000)]
        assert row["events"] == sum(part["events"] for part in parts if part)
    for place, row in whole.items():
        for other in (hopping[place], cumulate[place]):
            assert {**other, "window": row["window"]} == {**row, "revision": other["revision"]}


def _later(drawn: Run) -> Step:
    """A look at the clock so late that everything has closed."""
    last, late_ms = drawn.steps[-1], drawn.spec.idle_ms + drawn.spec.lateness_ms + 600_000
    clock_ms = max([last.clock_ms, *(m.timestamp_ms for m in drawn.messages)]) + late_ms
    return Step(clock_ms, {}, last.partitions, dict.fromkeys(range(last.partitions), clock_ms))


def closed(drawn: Run, shards: int) -> int:
    """How many events found their slice closed."""
    fates = expect(replace(drawn.spec, shards=shards), drawn.steps).fates.values()
    return sum(fate.cause == "closed" for fate in fates)


@settings(GENERATED, max_examples=4)
@given(st.integers(0, 2**16), st.integers(1, 3), st.sampled_from([(), (2,)]))
def test_of_more_values_than_are_known_one_by_one_the_flow_says_what_the_specification_allows(
    seed: int, shards: int, restarts: tuple[int, ...]
) -> None:
    hold(lasting(crowded(seed)), shards, restarts)


@settings(GENERATED, max_examples=100)
@given(st.data())
def test_lateness_is_the_same_for_every_batching_and_interleaving(data: st.DataObject) -> None:
    drawn = data.draw(runs())
    one, other = (flow_of(data.draw(rearranged(drawn)), readers=readers) for readers in (1, 3))

    assert fates_of(one) == fates_of(other)
    assert books_of(one) == books_of(other)


def books_of(result: Result) -> Mapping[int, Any]:
    return {partition: Counter(at.fates) for partition, at in result.positions.items() if at.fates}
