"""The pure core in a line each. In: kpi.toml text, fields, small tuples. Out: plans, frames, partials, rows as dictionaries. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from flows.declaration import parse
from flows.fields import Schema, read_schema
from flows.fold import Rows
from flows.plan import TopicPlan, dtype_of, plan
from flows.slices import Events, Partial, partials
from flows.watermark import Mark

TOPIC = "t"
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


def money(scale: int, precision: int = 38) -> dict[str, object]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def schema(fields: Mapping[str, object], schema_id: int = 1) -> Schema:
    """An event of these fields (name -> Avro type)."""
    named = [{"name": name, "type": avro} for name, avro in fields.items()]
    return read_schema(schema_id, json.dumps({"type": "record", "name": "Event", "fields": named}))


def planned(said: str, *versions: Schema) -> TopicPlan:
    """The plan of topic `t`: `said` goes into its table in kpi.toml; nothing said means nothing declared."""
    return plan(parse(f"[topics.{TOPIC}]\n{said}" if said else ""), TOPIC, versions)


def frame(made: TopicPlan, rows: Iterable[tuple[object, ...]]) -> pl.DataFrame:
    """Events ready to fold. A row: time in ms, then a value for each group path, then one for each measure. Offsets are row numbers."""
    groups = {f"by:{path}": pl.String() for path in made.groups}
    measures = {f"of:{kpi.of}": dtype_of(kpi.kind, kpi.scale) for kpi in made.kpis if kpi.of != "*"}
    made_frame = pl.DataFrame(list(rows), schema={"time": pl.Int64(), **groups, **measures}, orient="row")
    return made_frame.with_columns(ordered(made_frame["time"])) if made.is_ordered else made_frame


def ordered(times: pl.Series) -> pl.Series:
    """The column `order` of events that come one after the other in partition 0."""
    at = pl.Series(times).cast(pl.Int128) * pl.lit(2**79, pl.Int128) + pl.int_range(len(times))
    return pl.select(at.alias("order")).to_series()


def events(
    made: TopicPlan, rows: Iterable[tuple[object, ...]], marks: Mapping[int, Mark], clock_ms: int = 0, partitions: int = 1
) -> Events:
    return Events(made, frame(made, rows), marks, partitions, clock_ms, {})


def partial(made: TopicPlan, rows: Iterable[tuple[object, ...]], watermark_ms: int | Mark, clock_ms: int = 0) -> Partial:
    """What a shard of the last group set gets if all of these events are its own; `watermark_ms` is the only partition's, after them."""
    mark = watermark_ms if isinstance(watermark_ms, Mark) else Mark(watermark_ms, watermark_ms)
    (_, whole) = list(partials(events(replace(made, shards=1), rows, {0: mark}, clock_ms)))[-1]
    return replace(whole, plan=made)


def told(rows: Sequence[Rows]) -> list[dict[str, Any]]:
    """Rows in plain words: `kpi:` and `by:` taken off, the window's size added."""
    return [
        {"size": said.plan.windows[row["window"]].size_ms}
        | {name.removeprefix("kpi:").removeprefix("by:"): value for name, value in row.items()}
        for said in rows
        for row in said.table.iter_rows(named=True)
    ]


def finals(rows: Sequence[Rows]) -> list[dict[str, Any]]:
    return [row for row in told(rows) if row["final"]]


def provisional(rows: Sequence[Rows]) -> list[dict[str, Any]]:
    return [row for row in told(rows) if not row["final"]]
