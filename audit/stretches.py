"""Which windows an event is in. In: a window, events. Out: SQL of events by pane, and of panes by window. Pure but for its own tables.

A pane is a stretch of event time that no window cuts in two. Events are put together by pane first, as an event may be in thousands of
windows. Everything is told from the slice an event is in; DuckDB's `//` cuts towards zero, so it only sees what is not negative.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import duckdb

from audit import limit
from audit.calendars import days_of, stretches
from flows.plan import TopicPlan
from flows.windows import Window

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Placed:
    """`events`: SQL, with `start` and `end` of the pane of each; `spread`: SQL of such rows -> the same for each window of the pane."""

    events: str
    spread: Callable[[str], str]
    is_whole: bool  # a pane is a window: nothing to spread


def placed(database: duckdb.DuckDBPyConnection, plan: TopicPlan, window: Window, names: Sequence[str], events: str) -> Placed:
    """Events with their panes. `names`: the columns of the group set, whose groups a session keeps apart."""
    if window.kind == "session":
        return Placed(_sessions(database, plan, window, names, events), str, is_whole=True)
    if window.kind == "hopping":
        pane_ms = math.gcd(window.size_ms, window.step_ms)
        return Placed(_fixed(events, pane_ms), lambda panes: _hopping(panes, window), is_whole=False)
    if window.unit:
        found = _calendar(database, plan, window, events)
        return Placed(found, _so_far if window.kind == "cumulate" else str, is_whole=window.kind != "cumulate")
    if window.kind == "cumulate":
        return Placed(_fixed(events, window.step_ms), lambda panes: _cumulate(panes, window), is_whole=False)
    return Placed(_fixed(events, window.size_ms), str, is_whole=True)


def _fixed(events: str, length_ms: int) -> str:
    start = f"time // {length_ms} * {length_ms}"
    return f'(SELECT *, {start} AS start, {start} + {length_ms} AS "end" FROM {events})'


def _hopping(panes: str, window: Window) -> str:
    """The last window that begins at or before a pane, and as many hops before it as still hold the pane."""
    size_ms, hop_ms = window.size_ms, window.step_ms
    last = f"start // {hop_ms} * {hop_ms}"
    begins = f"{last} - {hop_ms} * unnest(range(0, ({last} + {size_ms} - start - 1) // {hop_ms} + 1))"
    each = f"(SELECT *, {begins} AS begins FROM {panes})"
    return f'(SELECT * EXCLUDE (begins) REPLACE (begins AS start, begins + {size_ms} AS "end") FROM {each})'


def _cumulate(panes: str, window: Window) -> str:
    """From the start of the stretch to the end of the pane, and to every step's end behind it."""
    size_ms, step_ms = window.size_ms, window.step_ms
    start = f"start // {size_ms} * {size_ms}"
    ends = f'unnest(range("end", {start} + {size_ms} + 1, {step_ms}))'
    return f'(SELECT * EXCLUDE (ends) REPLACE ({start} AS start, ends AS "end") FROM (SELECT *, {ends} AS ends FROM {panes}))'


def _calendar(database: duckdb.DuckDBPyConnection, plan: TopicPlan, window: Window, events: str) -> str:
    """By a table of the stretches in which there are events; of a cumulate window, of the steps in them."""
    at = f"time // {plan.slice_ms} * {plan.slice_ms}"
    days = database.execute(f"SELECT DISTINCT {at} // {DAY_MS} FROM {events}").fetchall()
    spans = stretches(window.unit, window.zone, [day for (day,) in days])
    cut: list[tuple[int, ...]] = list(spans)
    columns, query = list(limit.BOUNDS), "SELECT * FROM {}"
    if window.kind == "cumulate":
        cut = [(begins, *day) for begins, stops in spans for day in days_of((begins, stops), window.zone)]
        each = f"(SELECT *, unnest(range(day, next, {window.step_ms})) AS start FROM {{}})"
        columns, query = ["begins", "day", "next"], f'SELECT begins, start, least(start + {window.step_ms}, next) AS "end" FROM {each}'
    filled = ", ".join(f"unnest(?::BIGINT[]) AS {column}" for column in columns)
    lists = [[row[place] for row in cut] for place in range(len(columns))]
    database.execute(f"CREATE OR REPLACE TABLE spans AS {query.format(f'(SELECT {filled})')}", lists)
    dated = f"(SELECT *, {at} AS at_ms FROM {events})"
    return f'(SELECT events.* EXCLUDE (at_ms), spans.start, spans."end" FROM {dated} AS events ASOF JOIN spans ON at_ms >= spans.start)'


def _so_far(panes: str) -> str:
    """The same in a calendar."""
    return (
        f'(SELECT panes.* REPLACE (later.begins AS start, later."end" AS "end") FROM {panes} AS panes JOIN spans AS own '
        'ON own.start = panes.start JOIN spans AS later ON later.begins = own.begins AND later."end" >= panes."end")'
    )


def _sessions(database: duckdb.DuckDBPyConnection, plan: TopicPlan, window: Window, names: Sequence[str], events: str) -> str:
    """A table of events: those of a group in order of time, a new session at each gap. The limit of groups is that of slices."""
    slices = _fixed(events, plan.slice_ms)
    by = f"PARTITION BY {', '.join(names)}" if names else ""
    keys = ", ".join([*limit.BOUNDS, *names])
    database.execute(
        f"CREATE OR REPLACE TABLE slices AS SELECT {limit.key_of(names)} AS key, {keys}, bool_or(verdict = 'folded') AS punctual "
        f"FROM {slices} GROUP BY {keys}"
    )
    if limit.over(database, "slices", names, plan.max_groups, plan.shards):
        slices = limit.renamed(slices, names)
    # Events of one moment are peers: the first of them comes after the gap, and the default range counts it for all of them.
    database.execute(
        f"""
        CREATE OR REPLACE TABLE sessions AS SELECT * EXCLUDE (gap, session), min(time) OVER its AS start,
            max(time) OVER its + {window.size_ms} AS "end"
        FROM (SELECT *, count(*) FILTER (gap) OVER ({by} ORDER BY time) AS session FROM (
            SELECT * EXCLUDE (start, "end"), time - coalesce(lag(time) OVER ({by} ORDER BY time), time) >= {window.size_ms} AS gap
            FROM {slices}))
        WINDOW its AS (PARTITION BY {", ".join([*names, "session"])})
        """
    )
    return "sessions"
