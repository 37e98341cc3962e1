"""The fates of a topic, once more. In: Parquet parts, records set aside, a plan. Out: verdicts. Pure but for its own files.

DuckDB does the arithmetic: lateness is a window function over offsets. Parts are judged one after the other, so that memory does not
depend on the topic's size; what is grouped may spill to the directory.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from audit.measure import PARTS, grouped, measured
from audit.moment import YEAR_9999_MS
from flows.plan import Kpi, TopicPlan

DuckError = duckdb.Error
MEMORY = "1GB"
GIVEN = "reason = 'future' OR cause IN ('idle', 'joined', 'closed')"


@dataclass(frozen=True, slots=True)
class Judged:
    """What `judge` made: the parts with a `verdict` and a late one's `cause`; `reached`: partition -> largest event time that moves W_p."""

    parts: Sequence[Path]
    reached: Mapping[int, int]


def connect(directory: Path) -> duckdb.DuckDBPyConnection:
    """DuckDB in memory, which spills to a directory rather than grow."""
    database = duckdb.connect()
    database.execute(f"SET memory_limit = '{MEMORY}'")
    database.execute(f"SET temp_directory = {quoted(str(directory))}")
    database.execute("SET preserve_insertion_order = false")
    return database


@dataclass(frozen=True, slots=True)
class Known:
    """What the data alone does not say. `aside`: Parquet of kpi.late and kpi.dead-letters: partition, offset, reason, cause.

    `ends`: partition -> where the flow has not come yet. `cut`: partitions whose beginning has expired, so that a late record of theirs
    may be late because of a message that is gone.
    """

    aside: Path
    ends: Mapping[int, int] = field(default_factory=dict)
    cut: Collection[int] = ()


def judge(database: duckdb.DuckDBPyConnection, plan: TopicPlan, parts: Iterable[Path], known: Known) -> Judged:
    """One fate a message.

    Taken as given is what depends on the clock of the run: late because of a promise (causes idle, joined, closed), and future by the
    read clock. All else is computed. What the flow has not come to has the verdict `beyond`; what is of a batch that
    it could not unpack, `batch`.
    """
    cut = f" OR (reason = 'late' AND partition IN ({', '.join(map(str, known.cut))}))" if known.cut else ""
    database.execute(
        'CREATE OR REPLACE TABLE given AS SELECT DISTINCT ON (partition, "offset") partition, "offset", reason, cause '
        f"FROM {parquet([known.aside])} WHERE {GIVEN}{cut}"
    )
    database.execute(
        f'CREATE OR REPLACE TABLE batches AS SELECT DISTINCT partition, "offset" AS first, last FROM {parquet([known.aside])} '
        "WHERE last IS NOT NULL"
    )
    database.execute("CREATE OR REPLACE TABLE carry (partition INTEGER, time BIGINT)")
    database.execute("CREATE OR REPLACE TABLE ends (partition INTEGER, stop BIGINT)")
    if known.ends:
        database.executemany("INSERT INTO ends VALUES (?, ?)", list(known.ends.items()))
    judged = []
    for part in parts:
        target = part.with_suffix(".judged.parquet")
        database.execute(f"COPY ({_judging(plan, part)}) TO {quoted(str(target))} (FORMAT parquet, COMPRESSION lz4)")
        database.execute(
            "CREATE OR REPLACE TABLE carry AS SELECT partition, max(time) AS time FROM (SELECT * FROM carry UNION ALL "
            f"SELECT partition, time FROM {parquet([target])} WHERE verdict IN ('late', 'filtered', 'folded')) GROUP BY partition"
        )
        part.unlink()
        judged.append(target)
    return Judged(judged, dict(database.execute("SELECT partition, time FROM carry").fetchall()))


def _judging(plan: TopicPlan, part: Path) -> str:
    """The window function: W_p before each message is the largest time of the messages before it that move it, less the lateness."""
    wanted = [*grouped(plan).values(), *(column for name, (_, kpi) in measured(plan).items() for column in _stored(name, kpi))]
    late = f"(time // {plan.slice_ms} + 1) * {plan.slice_ms} <= before - {plan.lateness_ms}"
    return f"""
    WITH said AS (
        SELECT part.*, given.reason AS reason, given.cause AS given_cause, coalesce(part."offset" >= ends.stop, false) AS beyond,
            batches.first IS NOT NULL AS whole, fate IS NULL AND NOT whole AND time BETWEEN 0 AND {YEAR_9999_MS} AS possible
        FROM {parquet([part])} AS part
        LEFT JOIN given ON given.partition = part.partition AND given."offset" = part."offset"
        LEFT JOIN ends ON ends.partition = part.partition
        LEFT JOIN batches ON batches.partition = part.partition AND part."offset" BETWEEN batches.first AND batches.last
    ), dated AS (
        SELECT *, possible AND NOT beyond
            AND NOT ((stamp >= 0 AND time > stamp + {plan.max_future_ms}) OR coalesce(reason = 'future', false)) AS moves FROM said
    ), told AS (
        SELECT dated.*, greatest(carry.time, max(CASE WHEN moves THEN dated.time END) OVER (
            PARTITION BY dated.partition ORDER BY "offset" ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)) AS before
        FROM dated LEFT JOIN carry ON carry.partition = dated.partition
    ), caused AS (
        SELECT *, CASE WHEN NOT moves THEN NULL WHEN {late} THEN 'data' WHEN reason = 'late' THEN given_cause END AS cause FROM told
    )
    SELECT partition, "offset", stamp, time, kept, cause, {", ".join([*wanted, ""])}
        CASE WHEN beyond THEN 'beyond' WHEN whole THEN 'batch' WHEN fate IS NOT NULL THEN fate
            WHEN NOT possible OR possible IS NULL THEN 'time' WHEN NOT moves THEN 'future' WHEN cause IS NOT NULL THEN 'late'
            WHEN kept IS NOT TRUE THEN 'filtered' ELSE 'folded' END AS verdict
    FROM caused
    """


def closed_ms(plan: TopicPlan, reached: Mapping[int, int], partitions: int) -> int | None:
    """Up to where windows are closed by data alone: the slowest partition's watermark, in whole slices. None: nothing is."""
    if partitions == 0 or any(partition not in reached for partition in range(partitions)):
        return None
    return (min(reached[partition] for partition in range(partitions)) - plan.lateness_ms) // plan.slice_ms * plan.slice_ms


def counted(parts: Sequence[Path], repaired: Mapping[int, int] | None = None) -> str:
    """The events that are in windows: those folded; for a repaired row also late ones that `where` keeps, below these offsets."""
    late = " OR ".join(f'(partition = {int(partition)} AND "offset" < {int(stop)})' for partition, stop in (repaired or {}).items())
    also = f" OR (verdict = 'late' AND kept AND ({late}))" if late else ""
    return f"(SELECT * FROM {parquet(parts)} WHERE verdict = 'folded'{also})"


def _stored(name: str, kpi: Kpi) -> list[str]:
    return [name, *(f"{name}_{part}" for part in PARTS)] if kpi.kind == "decimal" else [name]


def fetched(database: duckdb.DuckDBPyConnection, query: str) -> Iterator[dict[str, Any]]:
    """The rows of a query as dictionaries, some thousands in memory at a time."""
    cursor = database.cursor()
    result = cursor.execute(query)
    names = [column[0] for column in result.description or []]
    while found := result.fetchmany(5_000):
        for row in found:
            yield dict(zip(names, row, strict=True))


def parquet(files: Sequence[Path]) -> str:
    """SQL: the rows of these files."""
    return f"read_parquet([{', '.join(quoted(str(file)) for file in files)}])"


def quoted(value: str) -> str:
    """SQL: a text."""
    return "'" + value.replace("'", "''") + "'"
