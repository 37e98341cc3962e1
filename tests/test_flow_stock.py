"""In-order data: the flow says what stock Bytewax' fold_window says."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing as win
from bytewax.testing import TestingSink, TestingSource, run_main
from hypothesis import HealthCheck, given, settings

from tests import oracle
from tests.differences import agree, place_of
from tests.oracle import Event, Place, Spec, event_time, kpis_of, look_up
from tests.strategies import Run, in_order
from tests.test_flow import flow_of, lasting

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def stock(drawn: Run) -> dict[Place, list[Event]]:
    """The events of every window, as fold_window puts them together."""
    spec = drawn.spec
    timed = [(event_time(spec, message), message.event) for message in drawn.messages if message.event is not None]
    counted = [(time_ms, event) for time_ms, event in timed if spec.where is None or spec.where(event) is True]
    grouped = [
        ((group_set, tuple(oracle._text(look_up(event, path)) for path in group_set)), (time_ms, event))
        for time_ms, event in counted
        for group_set in spec.group_sets
    ]
    keyed, groups = [(repr(group), item) for group, item in grouped], {repr(group): group for group, _ in grouped}
    flow = Dataflow("stock")
    events = op.input("events", flow, TestingSource(keyed, batch_size=7))
    clock: Any = win.EventClock(lambda item: EPOCH + timedelta(milliseconds=item[0]), timedelta(days=1))
    said: dict[str, list[tuple[str, tuple[int, list[Event]]]]] = {}
    for window in spec.windows:
        size_ms = window.size_ms
        windower = win.TumblingWindower(align_to=EPOCH, length=timedelta(milliseconds=size_ms))
        folded = win.fold_window(f"fold-{size_ms}", events, clock, windower, list, lambda kept, item: [*kept, item[1]], lambda a, b: a + b)
        op.output(f"out-{size_ms}", folded.down, TestingSink(said.setdefault(window.label, [])))
    run_main(flow)  # type: ignore[no-untyped-call] # Bytewax' own
    return {
        (window.label, number * window.size_ms, (number + 1) * window.size_ms, *groups[key]): members
        for window in spec.windows
        for key, (number, members) in said[window.label]
    }


def told(drawn: Run) -> Mapping[Place, Mapping[str, Any]]:
    """The last row of every window, as the flow tells it."""
    return {place_of(row): row for row in flow_of(lasting(drawn)).rows}


def differences(spec: Spec, row: Mapping[str, Any], members: list[Event]) -> list[str]:
    wrong = [] if row["events"] == len(members) else [f"events: got {row['events']}, want {len(members)}"]
    kpis, slack = kpis_of(spec, members, row["window_end"] - row["window_start"])
    for name, want in kpis.items():
        if not agree(want, row[name], slack[name]):
            wrong.append(f"{name}: got {row[name]!r}, want {want!r}")
    return wrong


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(in_order())
def test_in_order_the_flow_says_what_stock_fold_window_says(drawn: Run) -> None:
    drawn = replace(drawn, spec=replace(drawn.spec, max_groups=10_000))  # fold_window has no limit
    # The group `__other__` is the rest of all groups: fold_window knows none, and only closed windows tell of it.
    want = {place: events for place, events in stock(drawn).items() if "__other__" not in place[-1]}
    got = {place: row for place, row in told(drawn).items() if "__other__" not in place[-1]}

    assert got.keys() == want.keys()
    assert {place: wrong for place, members in want.items() if (wrong := differences(drawn.spec, got[place], members))} == {}
