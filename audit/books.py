"""Records set aside against recomputed fates. In: a survey. Out: differences, and what could not be compared. Only reads."""

from collections.abc import Iterator

from audit import recompute
from audit.compare import Difference, Tally
from audit.survey import Survey

SAMPLED = 1_000  # of a partition: once so many in a row are no Avro, a dead letter is kept where the offset is divisible by this


def books(survey: Survey, tally: Tally) -> Iterator[Difference]:
    """Every message has one fate, and kpi.late and kpi.dead-letters hold those they must hold, once."""
    if not survey.judged.parts:
        return
    tally.leave(survey.begun.former, survey.aside.before)
    database = survey.database
    database.execute("CREATE OR REPLACE TABLE reach (partition INTEGER, first BIGINT, stop BIGINT)")
    reach = [(partition, first, min(end, survey.ends.get(partition, 0))) for partition, (first, end) in survey.span.items()]
    database.executemany("INSERT INTO reach VALUES (?, ?, ?)", reach)
    database.execute(
        'CREATE OR REPLACE TABLE letters AS SELECT partition, "offset", count(*) AS n, any_value(reason) AS reason, '
        "any_value(cause) AS cause, max(last) AS last, max(stamp) AS newest, count(DISTINCT (reason, cause)) AS fates "
        f'FROM {recompute.parquet([survey.aside.file])} JOIN reach USING (partition) WHERE "offset" >= first AND "offset" < stop '
        'GROUP BY partition, "offset"'
    )
    judged = recompute.parquet(survey.judged.parts)
    query = (
        "SELECT letters.*, judged.verdict AS verdict, judged.cause AS its_cause FROM letters "
        f'LEFT JOIN {judged} AS judged ON letters.partition = judged.partition AND letters."offset" = judged."offset" '
        "WHERE n > 1 OR verdict IS DISTINCT FROM reason OR letters.cause IS DISTINCT FROM its_cause"
    )
    for row in recompute.fetched(database, query):
        place = f"{survey.topic}[{row['partition']}] offset {row['offset']}"
        if row["n"] > 1:
            again_ms = row["newest"] if row["fates"] == 1 else None
            yield Difference(place, "records set aside", f"{row['n']}, which differ" if again_ms is None else row["n"], 1, again_ms)
        if (row["reason"], row["cause"]) == (row["verdict"], row["its_cause"]):
            continue
        if row["last"] is not None and row["verdict"] in {None, "batch"}:
            tally.leave("batches that the flow could not unpack")
        else:
            yield Difference(place, "fate", _fate(row["reason"], row["cause"]), _fate(row["verdict"], row["its_cause"]))
    yield from _missing(survey, judged, tally)


def _missing(survey: Survey, judged: str, tally: Tally) -> Iterator[Difference]:
    """Messages that must be late records or dead letters, and are not."""
    query = (
        f"SELECT partition, reason = 'late' AS late, min(\"offset\") AS oldest FROM {recompute.parquet([survey.aside.file])} GROUP BY 1, 2"
    )
    oldest = {(row["partition"], row["late"]): row["oldest"] for row in recompute.fetched(survey.database, query)}
    query = (
        'SELECT judged.*, unkept FROM (SELECT partition, "offset", verdict, cause FROM '
        f"{judged} WHERE verdict NOT IN ('folded', 'filtered', 'tombstone', 'beyond', 'batch')) AS judged "
        f'LEFT JOIN ({_unkept(survey, judged)}) AS unkept USING (partition, "offset") ANTI JOIN letters USING (partition, "offset")'
    )
    for row in recompute.fetched(survey.database, query):
        late = row["verdict"] == "late"
        if ("kpi.late" if late else "kpi.dead-letters") in survey.aside.expired and row["offset"] < oldest.get(
            (row["partition"], late), 2**62
        ):
            tally.leave("records set aside that have expired")
        elif row["unkept"]:
            tally.leave("dead letters of a partition that holds no Avro, of which a sample is kept")
        else:
            yield Difference(f"{survey.topic}[{row['partition']}] offset {row['offset']}", "fate", "", _fate(row["verdict"], row["cause"]))


def _unkept(survey: Survey, judged: str) -> str:
    """SQL: the messages without a zero byte in front that leave no dead letter. Any other but a tombstone ends a row of them.

    How long a row was of which the beginning has expired is not known.
    """
    before = f" OR (others = 0 AND partition IN ({', '.join(map(str, survey.cut))}))" if survey.cut else ""
    return f"""
    SELECT partition, "offset", true AS unkept FROM (
        SELECT *, sum((verdict = 'magic')::INTEGER) OVER (PARTITION BY partition, others ORDER BY "offset") AS so_far FROM (
            SELECT *, sum((verdict <> 'magic')::INTEGER) OVER (PARTITION BY partition ORDER BY "offset") AS others
            FROM (SELECT partition, "offset", verdict FROM {judged} WHERE verdict <> 'tombstone'
                UNION ALL SELECT partition, "offset", 'batch' FROM letters WHERE last IS NOT NULL)))
    WHERE verdict = 'magic' AND "offset" % {SAMPLED} <> 0 AND (so_far > {SAMPLED}{before})
    """


def _fate(verdict: str | None, cause: str | None) -> str:
    return "" if verdict is None else verdict if cause is None else f"{verdict} ({cause})"
