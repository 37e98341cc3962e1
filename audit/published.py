"""The rows of a KPI topic as Parquet. In: a KPI topic, the registry. Out: one file: keys, what makes a row valid, values as text."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import fastavro
import polars as pl
from confluent_kafka import Message

from audit.decode import HEAD, without_logical
from audit.spool import Spool
from audit.survey import Ground, Survey
from audit.topic import CannotVerifyError, headers_of, stamp_of
from flows.fields import Schema, SchemaError
from flows.plan import TopicPlan
from flows.records import BEGUN, UNKNOWN, field_names, output_topic
from flows.windows import Window

REPAIR = "kpi.repair"
EXACT = Context(prec=80)
SCHEMA = {
    "kpi_partition": pl.Int32(),  # of the KPI topic
    "kpi_offset": pl.Int64(),  # offset there
    "stamp": pl.Int64(),  # when it was written, UTC ms
    "group_by": pl.String(),
    "key": pl.String(),  # the group's values (see limit.key_of)
    "group": pl.String(),  # the same for people, JSON
    "start": pl.Int64(),
    "end": pl.Int64(),
    "revision": pl.Int64(),
    "final": pl.Boolean(),
    "closed_by": pl.String(),
    "repair": pl.String(),  # of a repaired row: its header
    "sound": pl.Boolean(),  # whether the value begins with the fields of the key
    "events": pl.Int64(),
    "kpis": pl.String(),  # JSON: KPI -> value; what the row's schema does not have is not in it, nor what began later
    "unknown": pl.Int64(),  # how many KPIs began later: a change of what is declared brought them while the window was open
    "begun": pl.Int64(),  # of a size that a change brought: from when on there are windows, UTC ms
}
SPREAD_MS = 10_000  # a close is one transaction, or a few
NONE_YET = 2**62
FINAL = [*SCHEMA].index("final")


@dataclass(frozen=True, slots=True)
class Published:
    """`file`: SCHEMA. `kept_from_ms`: windows that end at or before it may have expired from the KPI topic; None: nothing has.

    `before`: final rows that count no more, as the flow was begun anew after them. `begun_ms`: windows that begin before it have no rows,
    as a change of what is declared brought their size; None: they all have; NONE_YET: there is no row at all that would say so.
    """

    topic: str
    file: Path
    kept_from_ms: int | None
    before: int
    begun_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """How to read the rows of one version of the schema."""

    plain: Any
    groups: Mapping[str, str]  # path -> field
    kpis: Mapping[str, tuple[str, int | None]]  # KPI -> field, scale of a decimal


def read_published(where: Ground, found: Survey, window: Window) -> Published:
    """Every row of a window size that counts, read to the topic's present end."""
    name = output_topic(found.topic, window)
    span = where.topics.span(name)
    if not span:
        raise CannotVerifyError(f'there is no topic {name}: has the flow run with windows = ["{window.label}"]?')
    shapes: dict[int, Shape] = {}
    spool, before, whole = Spool(where.directory / f"published-{window.label}.parquet", SCHEMA), 0, set[int | None]()
    for messages in where.topics.read(name, span):
        rows = []
        for message in messages:
            value = message.value()
            if value is None:
                continue
            schema_id = int.from_bytes(value[1:HEAD], "big")
            try:
                if schema_id not in shapes:
                    shapes[schema_id] = shape_of(found.plan, where.schema_of(schema_id))
                row = row_of(message, value, shapes[schema_id], found.plan)
            except (SchemaError, ValueError, EOFError, IndexError, KeyError) as error:
                raise CannotVerifyError(
                    f"{name}: partition {message.partition()}, offset {message.offset()} is no KPI row ({error})"
                ) from None
            if stamp_of(message) >= found.begun.since_ms:
                rows.append(row)
            else:
                whole.add(message.partition())
                before += row[FINAL]
        spool.take(rows)
    file = spool.done()
    cut = [partition for partition, (first, _) in span.items() if first > 0 and partition not in whole]
    return Published(name, file, _kept_from(file, cut, SPREAD_MS if window.kind == "session" else 0), before, begun_of(file))


def begun_of(file: Path) -> int | None:
    """See Published.begun_ms."""
    begun_ms, told = pl.scan_parquet(file).select(pl.col("begun").max(), pl.len()).collect().row(0)
    return begun_ms if told else NONE_YET


def _kept_from(file: Path, cut: Sequence[int], spread_ms: int) -> int | None:
    """Rows are deleted from the oldest on, so what a partition still begins with says up to where.

    Windows that close together are written in any order, within `spread_ms`.
    """
    if not cut:
        return None
    finals = pl.scan_parquet(file).filter("final", pl.col("kpi_partition").is_in(cut)).sort("kpi_offset")
    began = pl.col("stamp") <= pl.col("stamp").first() + spread_ms
    own = pl.col("end").filter(began).max() if spread_ms else pl.col("end").first()
    known = finals.group_by("kpi_partition").agg(own).select(pl.col("end").max()).collect().item()
    return int(known) if known is not None else 2**62


def shape_of(plan: TopicPlan, schema: Schema) -> Shape:
    """How to read rows of a schema."""
    names = field_names(plan)
    groups = {path: names[f"by:{path}"] for path in plan.groups}
    known = {kpi.name: names[f"kpi:{kpi.name}"] for kpi in plan.kpis}
    written = {field["name"] for field in schema.parsed["fields"]}
    decimals = {path: leaf.scale for path, leaf in schema.leaves.items() if leaf.kind == "decimal"}
    kpis = {name: (field, decimals.get(field)) for name, field in known.items() if field in written}
    return Shape(without_logical(schema.parsed), groups, kpis)


def row_of(message: Message, value: bytes, shape: Shape, plan: TopicPlan) -> tuple[Any, ...]:
    """A record as SCHEMA has it."""
    record: Any = fastavro.schemaless_reader(io.BytesIO(value[HEAD:]), shape.plain, None)
    group_set = [path for path in record["group_by"].split(",") if path]
    group = {path: record[shape.groups[path]] for path in group_set}
    headers = headers_of(message)
    unknown = {name for name in headers.get(UNKNOWN, "").split(",") if name in shape.kpis}
    kpis = {name: _said(record[field], scale) for name, (field, scale) in shape.kpis.items() if name not in unknown}
    return (
        message.partition(),
        message.offset(),
        stamp_of(message),
        record["group_by"],
        "\x1f".join("-" if it is None else f"={it}" for it in group.values()),
        json.dumps(group, ensure_ascii=False),
        record["window_start"],
        record["window_end"],
        record["revision"],
        record["final"],
        record["closed_by"],
        headers.get(REPAIR),
        value[HEAD:].startswith((message.key() or b"")[HEAD:])
        and not any(record[shape.groups[path]] for path in plan.groups if path not in group),
        record["events"],
        json.dumps(kpis, ensure_ascii=False),
        len(unknown),
        None if BEGUN not in headers else int(headers[BEGUN]),
    )


def _said(value: Any, scale: int | None) -> Any:  # noqa: ANN401 - a KPI
    return value if scale is None or value is None else {"unscaled": str(int.from_bytes(value, "big", signed=True)), "scale": scale}


def kpis_of(text: str) -> dict[str, Any]:
    """The KPIs of a row: `kpis` read back. A map holds numbers of events, so a text tells a decimal."""

    def read(value: Any) -> Any:  # noqa: ANN401 - a KPI
        is_decimal = isinstance(value, dict) and isinstance(value.get("unscaled"), str)
        return Decimal(value["unscaled"]).scaleb(-value["scale"], EXACT) if is_decimal else value

    return {name: read(value) for name, value in json.loads(text).items()}
