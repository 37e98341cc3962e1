"""The rows of a window and group set, once more. In: judged events, a plan. Out: a table. Pure but for its own tables.

Everything that can be put together from panes is an accumulator. What depends on all values of a window is told from how often each of
them is there (`_counted`), exactly, where the flow has sketches. What depends on the order of samples sees each event of each window.
"""

import math
from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import duckdb

from audit import limit
from audit.limit import BOUNDS
from audit.measure import PARTS, grouped, measured
from audit.stretches import placed
from flows.plan import Kpi, TopicPlan
from flows.windows import Window

EXACT = 1_024  # different values: up to here the flow's sketches of distinct and top are exact too
LISTED = 4_096  # of more different values, how many of the most frequent are listed
SUMMED = {"sum", "mean", "share"}
COUNTED = {"counts", "quantile", "distinct", "top", "histogram", "deviation"}
MOST = 10**38  # unscaled, of a decimal
DIGITS = Context(prec=80)
PLACE = 'time, partition, "offset"'


class Accumulator(NamedTuple):
    """SQL of a column: `add` of events, `merge` of panes."""

    name: str
    add: str
    merge: str

    @classmethod
    def of(cls, function: str, name: str, argument: str) -> "Accumulator":
        """One that is merged as it is made."""
        return cls(name, f"{function}({argument})", f"{function}({name})")


def rows(  # noqa: PLR0913, PLR0917 - a query has many parts
    database: duckdb.DuckDBPyConnection,
    plan: TopicPlan,
    cell: tuple[Window, tuple[str, ...]],
    events: str,
    table: str,
    have: str = "",
    only: str = "",
) -> None:
    """Make a table of a window and group set: key (see `limit.key_of`), start, end, groups, events, what `results` needs.

    `punctual`: whether it has an event that was not late; `have`: see `limit.over`; `only`: a table of the bounds that are wanted.
    """
    window, group_set = cell
    names = [grouped(plan)[path] for path in group_set]
    place = placed(database, plan, window, names, events)
    wanted = _among(only)
    source = wanted(place.events) if place.is_whole else place.events
    keys = ", ".join([*BOUNDS, *names])
    found = [Accumulator("events", "count(*)", "sum(events)"), Accumulator("punctual", "bool_or(verdict = 'folded')", "bool_or(punctual)")]
    for name, (of, kpi) in measured(plan).items():
        found += _accumulators(name, kpi, {it.aggregate for it in plan.kpis if it.of == of})
    added = ", ".join(f"{it.add} AS {it.name}" for it in found)
    database.execute(f"CREATE OR REPLACE TABLE panes AS SELECT {keys}, {added} FROM {source} GROUP BY {keys}")

    def named(panes: str) -> str:
        return wanted(place.spread(panes))

    merged = ", ".join(f"{it.merge} AS {it.name}" for it in found)
    query = f"CREATE OR REPLACE TABLE {table} AS SELECT {limit.key_of(names)} AS key, {keys}, {merged} FROM {{}} GROUP BY {keys}"
    database.execute(query.format(named("panes")))
    spread = named
    if window.kind != "session" and limit.over(database, table, names, plan.max_groups, plan.shards, have):

        def spread(panes: str) -> str:
            return limit.renamed(named(panes), names)

        database.execute(query.format(spread("panes")))
    for name, (of, kpi) in measured(plan).items():
        kpis = {f"k{number}": it for number, it in enumerate(plan.kpis) if it.of == of}
        made = [_counted(name, kpis, source, spread, keys), _increase(name, kpi, kpis, spread(source), keys)]
        for more in filter(None, made):
            _joined(database, table, more, ["start", '"end"', *names])


def _among(only: str) -> Callable[[str], str]:
    return lambda rows: f'(SELECT * FROM {rows} SEMI JOIN {only} USING (start, "end"))' if only else rows


def _accumulators(name: str, kpi: Kpi, aggregates: set[str]) -> list[Accumulator]:
    """What the aggregates of one measure need. Sums of integers have 128 bits, those of doubles are compensated (Kahan)."""
    found = [Accumulator(f"{name}_n", f"count({name})", f"sum({name}_n)")]
    if aggregates & SUMMED:
        if kpi.kind == "decimal":
            found += [Accumulator.of("sum", f"{name}_{part}", f"{name}_{part}") for part in PARTS]
        elif kpi.kind == "float":
            found.append(Accumulator.of("fsum", f"{name}_sum", name))
        elif kpi.kind == "boolean":
            found.append(Accumulator(f"{name}_sum", f"count(*) FILTER ({name})", f"sum({name}_sum)"))
        else:
            found.append(Accumulator.of("sum", f"{name}_sum", f"{name}::HUGEINT"))
    if kpi.kind == "float" and aggregates & {*SUMMED, "increase"}:
        found.append(Accumulator.of("sum", f"{name}_size", f"abs({name})"))
    found += [Accumulator.of(it, f"{name}_{it}", name) for it in ("min", "max") if it in aggregates]
    for it, function in (("first", "arg_min"), ("last", "arg_max")):
        if it in aggregates:
            column = f"{name}_{it}"
            said = f'struct_pack(it := {name}, at := time, part := partition, place := "offset")'
            add = f"{function}({said}, row({PLACE})) FILTER ({name} IS NOT NULL)"
            found.append(Accumulator(column, add, f"{function}({column}, row({column}.at, {column}.part, {column}.place))"))
    return found


def _counted(name: str, kpis: dict[str, Kpi], source: str, spread: Callable[[str], str], keys: str) -> str | None:
    """SQL: of each window and group, what depends on how often each value was there. A column `k<number>` for each KPI of these."""
    made = [(column, kpi) for column, kpi in kpis.items() if kpi.aggregate in COUNTED]
    if not made:
        return None
    by_value = f"(SELECT {keys}, {name} AS it, count(*) AS n FROM {source} WHERE {name} IS NOT NULL GROUP BY ALL)"
    counts = f"SELECT {keys}, it, sum(n) AS n FROM {spread(by_value)} GROUP BY ALL"
    aggregates = {kpi.aggregate for _, kpi in made}
    more = ["sum(n) OVER its AS total", "count(*) OVER its AS others"]
    if "quantile" in aggregates:
        more.append("sum(n) OVER (its ORDER BY it) AS up_to")
    if "top" in aggregates:
        more.append("row_number() OVER (its ORDER BY n DESC, it::VARCHAR) AS place")
    if "deviation" in aggregates:
        more.append("max(abs(it::DOUBLE)) OVER its AS largest")
    its = f"WINDOW its AS (PARTITION BY {keys})"
    ranked = f"(SELECT *, {', '.join(more)} FROM ({counts}) {its})"
    if "deviation" in aggregates:  # in shares of the largest, as squares may be beyond a double
        shares = f"(SELECT *, coalesce(it::DOUBLE / nullif(largest, 0), 0) AS share FROM {ranked})"
        ranked = f"(SELECT *, sum(share * n) OVER its / total AS middle FROM {shares} {its})"
    columns = ", ".join(part for column, kpi in made for part in _of_counts(column, kpi))
    return f"SELECT {keys}, {columns} FROM {ranked} GROUP BY {keys}"


def _of_counts(column: str, kpi: Kpi) -> list[str]:
    match kpi.aggregate:
        case "counts":
            return [f"map_from_entries(list(row(it::VARCHAR, n::BIGINT))) AS {column}"]
        case "quantile":
            return [f"min(it) FILTER (up_to > floor({kpi.q!r}::DOUBLE * (total - 1))) AS {column}"]
        case "distinct":
            return [f"count(*) AS {column}"]
        case "top":
            most = f"CASE WHEN others <= {EXACT} THEN {kpi.k} ELSE {LISTED} END"
            listed = "list(struct_pack(value := it::VARCHAR, events := n::BIGINT) ORDER BY place)"
            return [f"{listed} FILTER (place <= {most}) AS {column}", f"count(*) AS {column}_others"]
        case "histogram":
            at_least = ["true", *(_at_least(kpi, edge) for edge in kpi.edges), "false"]
            within = [f"{low} AND NOT ({high})" for low, high in pairwise(at_least)]
            return [f"[{', '.join(f'coalesce(sum(n) FILTER ({it}), 0)::BIGINT' for it in within)}] AS {column}"]
        case _:
            spread = "sqrt(sum(n * (share - middle) * (share - middle)) / (any_value(total) - 1)) * any_value(largest)"
            return [f"CASE WHEN any_value(total) > 1 THEN {spread} END AS {column}", f"any_value(largest) AS {column}_largest"]


def _at_least(kpi: Kpi, edge: float) -> str:
    """SQL: whether a value is not below an edge. An edge of decimals is what is written."""
    if kpi.kind == "float":
        return f"it >= {float(edge)!r}::DOUBLE"
    exact = Decimal(repr(edge)) if kpi.kind == "decimal" else Decimal(edge)
    least = math.ceil(Fraction(exact) * 10**kpi.scale)  # in units of the last digit
    if abs(least) >= MOST:
        return str(least < 0).lower()
    return f"it >= '{Decimal(least).scaleb(-kpi.scale, DIGITS):f}'::DECIMAL(38, {kpi.scale})"


def _increase(name: str, kpi: Kpi, kpis: dict[str, Kpi], events: str, keys: str) -> str | None:
    """SQL: by how much a counter rose from sample to sample of a window and group; below the one before it has begun anew."""
    if not any(it.aggregate == "increase" for it in kpis.values()):
        return None
    parts = [f"{name}_{part}" for part in PARTS] if kpi.kind == "decimal" else [name]
    before = ", ".join(f"lag({part}) OVER samples AS {part}_before" for part in dict.fromkeys([name, *parts]))
    wide = "" if kpi.kind in {"float", "decimal"} else "::HUGEINT"
    function = "fsum" if kpi.kind == "float" else "sum"
    rise = "CASE WHEN {n}_before IS NULL THEN 0 WHEN {n} >= {n}_before THEN {p}{w} - {p}_before ELSE {p}{w} END"
    sums = [f"{function}({rise.format(n=name, p=part, w=wide)}) AS {name}_increase{part.removeprefix(name)}" for part in parts]
    return (
        f"SELECT {keys}, {', '.join(sums)} FROM (SELECT *, {before} FROM {events} WHERE {name} IS NOT NULL "
        f"WINDOW samples AS (PARTITION BY {keys} ORDER BY {PLACE})) GROUP BY {keys}"
    )


def _joined(database: duckdb.DuckDBPyConnection, table: str, more: str, keys: Sequence[str]) -> None:
    """Columns more of a table; null where there was nothing to measure."""
    same = " AND ".join(f"had.{key} IS NOT DISTINCT FROM more.{key}" for key in keys)
    database.execute(f"CREATE OR REPLACE TABLE more AS {more}")
    database.execute(
        f"CREATE OR REPLACE TABLE {table} AS SELECT had.*, more.* EXCLUDE ({', '.join(keys)}) FROM {table} AS had LEFT JOIN more ON {same}"
    )
