"""KPIs of accumulators. In: a row of `recompute.rows`. Out: values, and by how much a float may miss. Pure.

Sums of integers and decimals are Python's whole numbers, so nothing is lost before the last division.
"""

from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any

from audit.measure import BASE, PARTS, measured
from flows.plan import Kpi, TopicPlan

RELATIVE = 1e-9
"""Floats agree to this share of the recomputed value: 4 million roundings of 2^-52, more than the merges from event to window."""

FLOOR = 2.0**-46
"""And never closer than this share of the size of what was added (64 roundings): sums of doubles depend on their order, and where large
values cancel out, what is left has no more digits than that. So a sum may miss by FLOOR * sum(|x|), a mean by FLOOR * mean(|x|), a
deviation by FLOOR * max(|x|). Integers and decimals have none; their means are one division, their deviations are doubles."""

LONG = 2**63
MOST = 10**38
EXACT = Context(prec=80)

Value = int | float | Decimal | str | None


def results(plan: TopicPlan, row: Mapping[str, Any], size_ms: int) -> dict[str, tuple[Value, float]]:
    """KPI name -> (value, slack)."""
    names = {of: name for name, (of, _) in measured(plan).items()}
    return {kpi.name: _result(kpi, names.get(kpi.of, ""), row, size_ms) for kpi in plan.kpis}


def _result(kpi: Kpi, name: str, row: Mapping[str, Any], size_ms: int) -> tuple[Value, float]:  # noqa: PLR0911 - an aggregate a return
    match kpi.aggregate:
        case "count":
            return (row["events"] if kpi.of == "*" else row[f"{name}_n"]), 0.0
        case "rate":
            return row["events"] * 1000 / size_ms, 0.0
        case "min" | "max":
            return row[f"{name}_{kpi.aggregate}"], 0.0
        case "deviation":
            return row[f"{name}_deviation"], FLOOR * (row[f"{name}_largest"] or 0.0)
        case "sum":
            return _sum(kpi, name, row), FLOOR * (row.get(f"{name}_size") or 0.0)
    count = row[f"{name}_n"]
    if not count:
        return None, 0.0
    return _total(kpi, name, row) / (count * 10**kpi.scale), FLOOR * (row.get(f"{name}_size") or 0.0) / count


def _total(kpi: Kpi, name: str, row: Mapping[str, Any]) -> Any:  # noqa: ANN401 - int or float
    """The exact sum, of a decimal unscaled."""
    if kpi.kind != "decimal":
        return row[f"{name}_sum"] or (0.0 if kpi.kind == "float" else 0)
    total = 0
    for part in PARTS:
        total = total * BASE + int(row[f"{name}_{part}"] or 0)
    return total


def _sum(kpi: Kpi, name: str, row: Mapping[str, Any]) -> Value:
    """0 of nothing; null where it does not fit its type: a long, or 38 digits."""
    total = _total(kpi, name, row)
    if kpi.kind == "float":
        return float(total)
    if kpi.kind == "decimal":
        return Decimal(total).scaleb(-kpi.scale, EXACT) if abs(total) < MOST else None
    return int(total) if -LONG <= total < LONG else None


def agree(want: Value, got: Value, slack: float) -> bool:
    """Whether a published value is the recomputed one: floats to RELATIVE or the slack, whichever is more; all else exactly."""
    if want is None or got is None:
        return want is None and got is None
    if isinstance(want, float) and isinstance(got, int | float):
        return want == got or abs(want - got) <= max(RELATIVE * abs(want), slack)
    if isinstance(got, float) and isinstance(want, int | Decimal):  # a field that was promoted after the row was written
        return abs(float(want) - got) <= RELATIVE * abs(float(want))
    return want == got
