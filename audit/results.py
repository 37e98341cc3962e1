"""KPIs of accumulators. In: a row of `rows.rows`. Out: values, and by how much an estimate or a float may miss. Pure.

Sums of integers and decimals are Python's whole numbers, so nothing is lost before the last division.
"""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from audit.limit import OTHER
from audit.measure import BASE, PARTS, grouped, measured
from audit.rows import DIGITS, EXACT, LISTED, MOST
from flows.plan import Kpi, TopicPlan

RELATIVE = 1e-9
"""Floats agree to this share of the recomputed value: 4 million roundings of 2^-52, more than the merges from event to window."""

FLOOR = 2.0**-46
"""And never closer than this share of the size of what was added (64 roundings): sums of doubles depend on their order, and where large
values cancel out, what is left has no more digits than that. So a sum may miss by FLOOR * sum(|x|), a mean by FLOOR * mean(|x|), a
deviation by FLOOR * max(|x|). Integers and decimals have none; their means are one division, their deviations are doubles."""

QUANTILE, DISTINCT = 0.01, 0.02
"""What the flow's sketches promise: a quantile always to 1 %, a distinct count of more than EXACT values to 2 % in 99.9 % of cases. One
that is out by more than twice that is none of the others."""

TO = " \u2013 "  # between the edges of a bin
LONG = 2**63

Value = Any  # a number, text or nothing; a map of counts; a list of records: as Avro and JSON have them
Row = Mapping[str, Any]


class Wanted(NamedTuple):
    """A recomputed value. `slack`: by how much a published one may miss; `is_estimate`: or by twice that, if hardly any other does.

    `among`: of a top that the flow estimates, the most frequent values and their counts, of which it may leave out `slack` events each.
    """

    value: Value
    slack: float = 0.0
    is_estimate: bool = False
    among: Sequence[Mapping[str, Any]] = ()


def results(plan: TopicPlan, row: Row) -> dict[str, Wanted]:
    """KPI name -> what it must be. The groups over the limit are many counters in one row, so that there is no increase of theirs."""
    names = {of: name for name, (of, _) in measured(plan).items()}
    group = [row[name] for name in grouped(plan).values() if name in row]
    is_rest = bool(group) and all(value == OTHER for value in group)
    found = {
        kpi.name: Wanted(None) if is_rest and kpi.aggregate == "increase" else _result(kpi, names.get(kpi.of, ""), f"k{number}", row)
        for number, kpi in enumerate(plan.kpis)
        if kpi.aggregate != "ratio"
    }
    return {kpi.name: found.get(kpi.name) or _ratio(*(found[part] for part in kpi.parts)) for kpi in plan.kpis}


def _result(kpi: Kpi, name: str, column: str, row: Row) -> Wanted:  # noqa: PLR0911 - an aggregate a return
    match kpi.aggregate:
        case "count":
            return Wanted(row["events"] if kpi.of == "*" else row[f"{name}_n"])
        case "rate":
            return Wanted(row["events"] * 1000 / (row["end"] - row["start"]))
        case "min" | "max":
            return Wanted(row[f"{name}_{kpi.aggregate}"])
        case "first" | "last":
            said = row[f"{name}_{kpi.aggregate}"]
            return Wanted(None if said is None else said["it"])
        case "deviation":
            return Wanted(row[column], FLOOR * (row[f"{column}_largest"] or 0.0))
        case "sum":
            return Wanted(_sum(kpi, name, row), FLOOR * (row.get(f"{name}_size") or 0.0))
        case "increase":
            rise = None if not row[f"{name}_n"] else _fitting(kpi, _total(kpi, f"{name}_increase", row))
            return Wanted(rise, 3 * FLOOR * (row.get(f"{name}_size") or 0.0))
        case "distinct":
            different = row[column] or 0
            return Wanted(different, DISTINCT * different, is_estimate=True) if different > EXACT else Wanted(different)
    count = row[f"{name}_n"]
    return Wanted(None) if not count else _measuring(kpi, name, column, row, count)


def _measuring(kpi: Kpi, name: str, column: str, row: Row, count: int) -> Wanted:
    """Those that are null where nothing was measured."""
    match kpi.aggregate:
        case "counts":
            return Wanted(row[column])
        case "quantile":
            value = float(row[column])
            return Wanted(value, QUANTILE * abs(value))
        case "top":
            listed = row[column]
            exact = row[f"{column}_others"] <= EXACT
            return Wanted(listed) if exact else Wanted(listed[: kpi.k], count / (EXACT + 1), among=listed)
        case "histogram":
            return Wanted([{"bin": label, "events": events} for label, events in zip(labels(kpi.edges), row[column], strict=True)])
    return Wanted(_total(kpi, name, row) / (count * 10**kpi.scale), FLOOR * (row.get(f"{name}_size") or 0.0) / count)


def labels(edges: Sequence[float]) -> list[str]:
    """The bins of a histogram.

    >>> labels([10.0, 50.0])[::2]
    ['< 10', '≥ 50']
    """
    said = [f"{edge:.10g}" for edge in edges]
    return [f"< {said[0]}", *(f"{low}{TO}{high}" for low, high in pairwise(said)), f"≥ {said[-1]}"]


def _ratio(above: Wanted, below: Wanted) -> Wanted:
    """Null by nothing; with as much slack as both leave. Where the one below may be anything, so may the ratio."""
    if above.value is None or below.value is None:
        return Wanted(None)
    high, low = float(above.value), float(below.value)
    high_slack, low_slack = _slack(above), _slack(below)
    if low == 0 and not low_slack:
        return Wanted(None)
    if abs(low) <= low_slack:
        return Wanted(None, math.inf)
    value = high / low
    return Wanted(value if math.isfinite(value) else None, (abs(high) + high_slack) / (abs(low) - low_slack) - abs(value))


def _slack(wanted: Wanted) -> float:
    """How far off a number may be at most."""
    close = RELATIVE * abs(wanted.value) if isinstance(wanted.value, float) else 0.0
    return max(close, wanted.slack * (1 + wanted.is_estimate))


def _total(kpi: Kpi, name: str, row: Row) -> Any:  # noqa: ANN401 - int or float
    """The exact sum, of a decimal unscaled."""
    if kpi.kind != "decimal":
        return row[name if name.endswith("_increase") else f"{name}_sum"] or (0.0 if kpi.kind == "float" else 0)
    total = 0
    for part in PARTS:
        total = total * BASE + int(row[f"{name}_{part}"] or 0)
    return total


def _sum(kpi: Kpi, name: str, row: Row) -> Value:
    """0 of nothing."""
    return _fitting(kpi, _total(kpi, name, row))


def _fitting(kpi: Kpi, total: Any) -> Value:  # noqa: ANN401 - int or float
    """Null where it does not fit its type: a long, or 38 digits."""
    if kpi.kind == "float":
        return float(total)
    if kpi.kind == "decimal":
        return Decimal(total).scaleb(-kpi.scale, DIGITS) if abs(total) < MOST else None
    return int(total) if -LONG <= total < LONG else None


def agree(want: Wanted, got: Value) -> bool:
    """Whether a published value is the recomputed one: floats to RELATIVE or the slack, whichever is more; all else exactly."""
    if want.slack == math.inf:
        return True
    if want.among:
        return isinstance(got, list) and _is_top(want, got)
    if want.value is None or got is None:
        return want.value is None and got is None
    if want.is_estimate or (isinstance(want.value, float) and isinstance(got, int | float)):
        close = want.slack if want.is_estimate else max(RELATIVE * abs(want.value), want.slack)
        return bool(want.value == got or abs(want.value - got) <= close)
    if isinstance(got, float) and isinstance(want.value, int | Decimal):  # a field that was promoted after the row was written
        return abs(float(want.value) - got) <= RELATIVE * abs(float(want.value))
    return bool(want.value == got)


def _is_top(want: Wanted, got: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these are the most frequent values as far as a summary knows them: in order, no count too high, none too low by more than
    the slack, and no other value so frequent that it had to be among them.
    """
    counts = {it["value"]: it["events"] for it in want.among}
    others = want.among[-1]["events"] if len(want.among) == LISTED else 0
    least = got[-1]["events"] if len(got) == len(want.value or ()) else 0
    ordered = list(got) == sorted(got, key=lambda it: (-it["events"], it["value"])) and len({it["value"] for it in got}) == len(got)
    known = all(it["events"] <= counts.get(it["value"], others) for it in got)
    enough = all(counts[it["value"]] - it["events"] <= want.slack for it in got if it["value"] in counts)
    said = {it["value"] for it in got}
    complete = all(events <= least + want.slack for value, events in counts.items() if value not in said)
    return ordered and known and enough and complete and len(got) <= len(want.value or ())
