"""Messages to columns, one message after the other. In: values, schemas. Out: a frame of the wanted leaves, and fates. Pure.

fastavro reads under the writer's schema without its logical types; times, decimals and promotions are made of the plain values here.
"""

import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Context, Decimal
from typing import Any, NamedTuple
from uuid import UUID

import fastavro
import polars as pl

from audit.strict import verdict
from flows.fields import Leaf, Schema, SchemaError, Wire, promotes
from flows.plan import TopicPlan

HEAD = 5  # bytes: zero, then the schema's id
DIGITS = 38  # of a decimal column
EXACT = Context(prec=2 * DIGITS)
MILLI_NS = 1_000_000
DAY_NS = 86_400 * 10**9
FIRST_DAY, LAST_DAY = date(1970, 1, 1).toordinal(), date.max.toordinal()
FAILURES = (ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError, MemoryError, RecursionError)  # of fastavro, on wild bytes

Columns = Mapping[str, pl.DataType]


@dataclass(frozen=True, slots=True)
class Reading:
    """A writer's schema, ready to read with: `plain` has no logical types; `leaves` are those of the wanted `columns` that it can give."""

    schema: Schema
    plain: Any
    columns: Columns
    leaves: Mapping[str, Leaf]
    digits: Mapping[str, int]  # of the decimals among them


class Said(NamedTuple):
    """What dead letters say of some messages, by their place in the batch, where that decides how they are read."""

    unknown: Collection[int] = ()  # reason schema: what could not be read then is not read now
    doubted: Collection[int] = ()  # reason malformed or range: judged byte by byte


def reading(schema: Schema, plan: TopicPlan) -> Reading:
    """How to get a plan's columns out of messages of a schema. A column that it lacks, or has in a type of no use, is null."""
    leaves, columns, aliases = {}, dict(plan.columns), dict(plan.aliases)
    for path, dtype in columns.items():
        leaf = next((schema.leaves[name] for name in (path, *aliases.get(path, ())) if name in schema.leaves), None)
        if leaf is not None and promotes(leaf.dtype, dtype):
            leaves[path] = leaf
    digits = {path: _precision(schema.wire, leaf.path.split(".")) for path, leaf in leaves.items() if leaf.kind == "decimal"}
    return Reading(schema, without_logical(schema.parsed), columns, leaves, digits)


def decode(values: Sequence[bytes | None], said: Said, columns: Columns, reading_of: Callable[[int], Reading]) -> pl.DataFrame:
    """A row a message: `fate` (null where it could be read: tombstone, short, magic, schema, malformed, range) and the columns.

    `reading_of` is asked once for each schema id; its SchemaError is the fate `schema`.
    """
    fates: list[str | None] = [None] * len(values)
    by_schema: dict[int, list[int]] = {}
    for row, value in enumerate(values):
        if value is None:
            fates[row] = "tombstone"
        elif len(value) < HEAD:
            fates[row] = "short"
        elif value[0]:
            fates[row] = "magic"
        elif row in said.unknown:
            fates[row] = "schema"
        else:
            by_schema.setdefault(int.from_bytes(value[1:HEAD], "big"), []).append(row)
    frames = []
    for schema_id, rows in by_schema.items():
        try:
            its = reading_of(schema_id)
        except SchemaError:
            for row in rows:
                fates[row] = "schema"
            continue
        frames.append(_events(values, rows, rows if its.schema.names else said.doubted, its, fates))
    shape = pl.Schema({"row": pl.Int64(), **columns})
    events = pl.concat([shape.to_frame(), *frames])
    return pl.DataFrame({"row": range(len(values)), "fate": fates}, schema={"row": pl.Int64(), "fate": pl.String()}).join(
        events, on="row", how="left", maintain_order="left"
    )


def _events(
    values: Sequence[bytes | None], rows: list[int], strictly: Collection[int], its: Reading, fates: list[str | None]
) -> pl.DataFrame:
    """The events among messages of one schema. Those in `strictly` fastavro only sees when they are sound."""
    found, records = [], []
    bodies = [values[row] or b"" for row in rows]
    stream, end = io.BytesIO(b"".join(bodies)), 0
    read, plain, tell = fastavro.schemaless_reader, its.plain, stream.tell
    for row, body in zip(rows, bodies, strict=True):
        begin, end = end, end + len(body)
        if row in strictly and (wrong := verdict(its.schema, body[HEAD:])):
            fates[row] = wrong
            continue
        stream.seek(begin + HEAD)
        try:
            record = read(stream, plain, None)
        except FAILURES:
            fates[row] = verdict(its.schema, body[HEAD:]) or "malformed"
            continue
        if tell() != end:  # it read into the next message, or left some of this one
            fates[row] = verdict(its.schema, body[HEAD:]) or "malformed"
            continue
        found.append(row)
        records.append(record)
    series: list[pl.Series] = []
    for path, dtype in its.columns.items():
        if path not in its.leaves:
            series.append(pl.repeat(None, len(found), dtype=dtype, eager=True).alias(path))
            continue
        plains = _values(records, its.leaves[path].path.split("."))
        if path in its.digits:
            _out_of_range(plains, found, its.digits[path], fates)
        series.append(_promoted(_column(plains, its.leaves[path]), dtype).alias(path))
    frame = pl.DataFrame([pl.Series("row", found, dtype=pl.Int64), *series])
    return frame.filter(pl.Series([fates[row] is None for row in found], dtype=pl.Boolean)) if its.digits else frame


def _values(records: Sequence[Any], path: Sequence[str]) -> list[Any]:
    first, *rest = path
    values = [record[first] for record in records]
    for name in rest:
        values = [None if value is None else value[name] for value in values]
    return values


def _out_of_range(plains: list[Any], rows: Sequence[int], digits: int, fates: list[str | None]) -> None:
    """Decimals of too many digits: nobody doubted them, so the books will not agree. Makes the others numbers."""
    most = 10 ** min(digits, DIGITS)
    for at, octets in enumerate(plains):
        if octets is not None:
            number = int.from_bytes(octets, "big", signed=True)
            if abs(number) >= most:
                fates[rows[at]], number = "range", 0
            plains[at] = number


def _column(plains: list[Any], leaf: Leaf) -> pl.Series:
    """Plain values as the leaf's column: times floored to UTC ms, decimals with their scale, days and times of day where there are such."""
    if leaf.kind == "decimal":
        return pl.Series([None if it is None else Decimal(it).scaleb(-leaf.scale, EXACT) for it in plains], dtype=leaf.dtype)
    if leaf.kind == "date":
        return _dates(plains)
    if leaf.kind == "daytime":
        return pl.Series([None if it is None or not 0 <= (ns := it * leaf.unit_ns) < DAY_NS else ns for it in plains], dtype=pl.Int64).cast(
            pl.Time
        )
    if leaf.kind == "uuid":
        return pl.Series([None if it is None else str(UUID(bytes=it)) for it in plains], dtype=pl.String)
    if leaf.kind == "float":  # of a union some may be integers
        plains = [None if it is None else float(it) for it in plains]
    series = pl.Series(plains, dtype=leaf.dtype)
    if leaf.kind == "time" and leaf.unit_ns != MILLI_NS:
        return series * (leaf.unit_ns // MILLI_NS) if leaf.unit_ns > MILLI_NS else series // (MILLI_NS // leaf.unit_ns)
    return series


def _dates(days: Sequence[int | None]) -> pl.Series:
    """Of days since 1970; null where Python has no such date."""
    numbers = [None if it is None else it + FIRST_DAY for it in days]
    return pl.Series([date.fromordinal(it) if it is not None and 0 < it <= LAST_DAY else None for it in numbers], dtype=pl.Date)


def _promoted(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    if series.dtype == pl.Binary and dtype == pl.String:
        return pl.Series([_text(octets) for octets in series], dtype=pl.String)
    if series.dtype == pl.Int64 and dtype == pl.Date:
        return _dates(series.to_list())
    return series.cast(dtype, strict=False)


def _text(octets: bytes | None) -> str | None:
    try:
        return None if octets is None else octets.decode()
    except UnicodeDecodeError:
        return None


def _precision(wire: Wire, path: Sequence[str]) -> int:
    """The digits that the decimal at a path may have."""
    if wire.type == "union":
        return max(_precision(branch, path) for _, branch in wire.fields)
    if wire.type == "record" and path:
        return next((_precision(inner, path[1:]) for name, inner in wire.fields if name == path[0]), 0)
    return wire.precision


def without_logical(declared: Any) -> Any:  # noqa: ANN401 - parsed JSON
    """A schema whose times are integers and whose decimals are bytes."""
    if isinstance(declared, dict):
        return {name: without_logical(it) for name, it in declared.items() if name != "logicalType"}
    return [without_logical(it) for it in declared] if isinstance(declared, list) else declared
