"""A run as the audit sees it, without a broker. In: runs and what stands in the side topics. Out: fates and rows. Writes to a directory."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from audit import recompute
from audit.gather import Batch, Doubts, Gather, Source
from audit.measure import grouped
from audit.results import results
from audit.rows import rows
from flows.declaration import Declaration, parse
from flows.fields import Schema, SchemaError, read_schema
from flows.plan import TopicPlan
from tests.framing import TOPIC, Encoded, declaration, encode
from tests.oracle import Fate
from tests.strategies import Run

ASIDE = {"partition": pl.Int32(), "offset": pl.Int64(), "reason": pl.String(), "cause": pl.String(), "last": pl.Int64()}


@dataclass(frozen=True)
class Audited:
    """`fates`: (partition, offset) -> (verdict, cause); `rows`: of every window that has events, open or closed."""

    plan: TopicPlan
    fates: Mapping[tuple[int, int], tuple[str, str | None]]
    rows: Sequence[Mapping[str, Any]]
    closed_ms: int | None


def messages_of(drawn: Run) -> list[tuple[int, Encoded]]:
    """Every message as the broker keeps it, in the order of the polls."""
    return [(partition, m) for polled in encode(drawn) for partition, cut in polled.items() for batch in cut for m in batch]


def aside_of(fates: Mapping[tuple[int, int], Fate]) -> pl.DataFrame:
    """What kpi.late and kpi.dead-letters hold of a run, and the events that found their slice closed."""
    kept = [(at, fate) for at, fate in fates.items() if fate.kind not in ("tombstone", "filtered", "folded")]
    return pl.DataFrame([(*at, fate.kind, fate.cause, None) for at, fate in kept], schema=ASIDE, orient="row")


def audit(drawn: Run, fates: Mapping[tuple[int, int], Fate], directory: Path, step: int) -> Audited:
    """The run recomputed, in batches and parts of `step` messages."""
    schema = read_schema(drawn.schema_id, json.dumps(drawn.schema))

    def schema_of(schema_id: int) -> Schema:
        if schema_id != schema.id:
            raise SchemaError(f"no schema {schema_id}")
        return schema

    partitions = max((at.partitions for at in drawn.steps), default=1)
    return recomputed(
        parse(declaration(drawn)),
        schema_of,
        [schema.id],
        messages_of(drawn),
        aside_of(fates),
        directory,
        step,
        partitions,
    )


def recomputed(  # noqa: PLR0913, PLR0917 - a whole run
    said: Declaration,
    schema_of: Any,
    ids: Sequence[int],
    messages: Sequence[tuple[int, Encoded]],
    aside: pl.DataFrame,
    directory: Path,
    step: int,
    partitions: int,
) -> Audited:
    doubts = Doubts(*({p: _offsets(aside, reasons, p) for p in range(partitions)} for reasons in (["schema"], ["malformed", "range"])))
    while True:
        gather = Gather(Source(said, TOPIC, schema_of), directory, ids, doubts)
        for at in range(0, len(messages), step):
            part = messages[at : at + step]
            gather.take(Batch([p for p, _ in part], *([getattr(m, name) for _, m in part] for name in ("offset", "timestamp_ms", "value"))))
            gather.flush()
        if not gather.stale:
            break
        ids = sorted(gather.ids)
    database = recompute.connect(directory)
    aside.write_parquet(directory / "aside.parquet")
    judged = recompute.judge(database, gather.plan, gather.parts, recompute.Known(directory / "aside.parquet"))
    fates: dict[tuple[int, int], tuple[str, str | None]] = {}
    for file in judged.parts:
        fates |= {(p, o): (v, c) for p, o, v, c in pl.read_parquet(file, columns=["partition", "offset", "verdict", "cause"]).iter_rows()}
    closed = recompute.closed_ms(gather.plan, judged.reached, partitions)
    return Audited(gather.plan, fates, list(_rows(database, gather.plan, judged)) if judged.parts else [], closed)


def _offsets(aside: pl.DataFrame, reasons: Iterable[str], partition: int) -> Any:
    return np.sort(aside.filter(pl.col("reason").is_in(list(reasons)), pl.col("partition") == partition)["offset"].to_numpy())


def _rows(database: Any, plan: TopicPlan, judged: recompute.Judged) -> Iterable[Mapping[str, Any]]:
    """As tests/differences.py wants them."""
    for window in plan.windows:
        for group_set in plan.group_sets:
            rows(database, plan, (window, group_set), recompute.counted(judged.parts), "want")
            for row in recompute.fetched(database, "SELECT * FROM want"):
                group = {path: row[grouped(plan)[path]] for path in group_set}
                yield {
                    "window": window.label,
                    "window_start": row["start"],
                    "window_end": row["end"],
                    "group_by": ",".join(group_set),
                    "group": group,
                    "events": row["events"],
                    **{name: want.value for name, want in results(plan, row).items()},
                }
