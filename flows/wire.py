"""Record batches to a frame. In: whole record batches and the schemas of their messages. Out: the wanted columns, rejected messages. Pure.

`flows.batches` cuts the records, `flows.cursor` reads the same field of all of them at once, and `flows.message` reads those few alone
that are in doubt. The verdict is a function of the message and its schema: not of its neighbours, not of the columns that are wanted.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

import numpy as np
import polars as pl

from flows import columns as leaves
from flows import loops
from flows.batches import RawBatch, RecordError, Records, cut, first_schema_ids, original, sound
from flows.cursor import Columns, Cursor, read
from flows.fields import Leaf, Schema, SchemaError, promotes
from flows.loops import HEADER_BYTES, Ints
from flows.message import Malformed, examine

__all__ = ["Decoded", "RawBatch", "RecordError", "Rejected", "decode", "first_schema_ids", "original", "sound"]

UNFRAMED = {
    loops.TOMBSTONE: ("tombstone", "no value"),
    loops.SHORT: ("short", "a value of less than five bytes"),
    loops.MAGIC: ("magic", "the first byte is not 0"),
}
UNUSABLE = "__type:"  # before a wanted column's name: whether an event has that field in a type that cannot be promoted

_Wanted = Mapping[str, tuple[Leaf, pl.DataType]]  # column -> the leaf that it is, and the dtype to give it


class Rejected(NamedTuple):
    """A message that is no event. `reason`: tombstone, short, magic, schema, malformed, range (the first that applies)."""

    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    reason: str
    error: str
    schema_id: int | None


@dataclass(frozen=True, slots=True)
class Decoded:
    """Events and the rest, both by partition and offset.

    `frame`: __partition Int32, __offset Int64, __timestamp Int64 (Kafka's, UTC ms), __batch Int32 (index into the batches given),
    __at Int64 (where the record starts in that batch's body), then the wanted columns; and for each column that some schema here has in
    a type that cannot be promoted, `__type:<column>` Boolean: true in the rows that lack a value for that reason.
    """

    frame: pl.DataFrame
    rejected: list[Rejected]


def decode(
    batches: Sequence[RawBatch],
    columns: Mapping[str, pl.DataType],
    schema_of: Callable[[int], Schema],
    aliases: Mapping[str, Sequence[str]] | None = None,
) -> Decoded:
    """The wanted columns (leaf path -> dtype) of every event, and the messages that are none.

    Nulls for a column that a version of the schema lacks, or has in a type that cannot be promoted to the dtype; `aliases` are further
    paths to look for a column under (see fields.Leaf.aliases). What makes a message malformed: `message.examine` has the list.

    `schema_of` is asked once for each schema id, before anything is decoded; its SchemaError rejects the messages, whatever else it
    raises passes through. Raises RecordError where a body is not made of records.
    """
    records = cut(batches)
    rejections = _Rejections(records)
    ids = records.schema_id
    is_one = len(ids) > 0 and bool((ids == ids[0]).all())  # nearly always, and to look is cheaper than to sort
    met = [int(ids[0])] if is_one else np.unique(ids).tolist()
    schemas = {schema_id: _asked(schema_of, schema_id) for schema_id in met if schema_id >= 0}
    for why in UNFRAMED.keys() & set(met):
        rejections.add(np.flatnonzero(ids == why), repeat(UNFRAMED[why]))
    frames = []
    for schema_id, schema in schemas.items():
        rows = np.flatnonzero(ids == schema_id)
        if isinstance(schema, SchemaError):
            rejections.add(rows, repeat(("schema", str(schema))), schema_id)
        else:
            wanted, unusable = _wanted(schema, columns, aliases or {})
            frames.append(_events(records, rows, schema, wanted, rejections).with_columns(pl.lit(value=True).alias(it) for it in unusable))
    return Decoded(_joined(frames, records, columns), rejections.in_order())


class _Rejections:
    """The messages that are no events, as they are found."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._found: list[tuple[int, Rejected]] = []

    def add(self, rows: Ints, reasons: Iterable[tuple[str, str]], schema_id: int | None = None) -> None:
        """The messages of these rows are no events: for each the reason and the error."""
        if not len(rows):
            return
        records = self._records
        keys, values = (
            [records.bytes_at(start, length) for start, length in zip(starts[rows].tolist(), lengths[rows].tolist(), strict=True)]
            for starts, lengths in ((records.key, records.key_length), (records.value, records.value_length))
        )
        heads = (records.meta[name][rows] for name in ("__partition", "__offset", "__timestamp"))
        found = zip(*heads, keys, values, reasons, strict=False)  # reasons may go on and on
        self._found += [
            (row, Rejected(partition, offset, timestamp, key, value, reason, error, schema_id))
            for row, (partition, offset, timestamp, key, value, (reason, error)) in zip(rows.tolist(), found, strict=True)
        ]

    def in_order(self) -> list[Rejected]:
        """All of them, by partition and offset."""
        return [rejected for _, rejected in sorted(self._found, key=lambda found: found[0])]


def _asked(schema_of: Callable[[int], Schema], schema_id: int) -> Schema | SchemaError:
    try:
        return schema_of(schema_id)
    except SchemaError as error:
        return error


def _wanted(schema: Schema, columns: Mapping[str, pl.DataType], aliases: Mapping[str, Sequence[str]]) -> tuple[_Wanted, list[str]]:
    """The columns that a schema has, and the names (see UNUSABLE) of those that it has in a type of no use."""
    wanted, unusable = {}, []
    for path, dtype in columns.items():
        leaf = next((schema.leaves[name] for name in (path, *aliases.get(path, ())) if name in schema.leaves), None)
        if leaf is not None and promotes(leaf.dtype, dtype):
            wanted[path] = (leaf, dtype)
        elif leaf is not None or _stands(schema, path):
            unusable.append(UNUSABLE + path)
    return wanted, unusable


def _stands(schema: Schema, path: str) -> bool:
    """Whether there is a field at a path, of whatever type."""
    wire = schema.wire
    for name in path.split("."):
        branches = [branch for _, branch in wire.fields if branch.type != "null"] if wire.type == "union" else [wire]
        fields = dict(branches[0].fields) if len(branches) == 1 and branches[0].type == "record" else {}
        if name not in fields:
            return False
        wire = fields[name]
    return wire.type != "null"


def _events(records: Records, rows: Ints, schema: Schema, wanted: _Wanted, rejections: _Rejections) -> pl.DataFrame:
    """The events among these messages of one schema, each with its `__row`."""
    start, end = records.value[rows] + HEADER_BYTES, records.value[rows] + records.value_length[rows]
    cursor, columns = Cursor(records.buffer, start, end), Columns({leaf.path for leaf, _ in wanted.values()})
    read(schema.wire, cursor, columns)
    doubt = cursor.doubt | (cursor.at != end)
    for some, at, length in columns.texts:  # of columns that nobody wants
        text = leaves.promoted(leaves.slices(records.buffer, at, length), pl.String())
        doubt[some] |= text.is_null().to_numpy()
    made = {leaf.path: leaves.column(leaf, columns.found.get(leaf.path), records.buffer, doubt) for leaf, _ in wanted.values()}
    frame = pl.DataFrame({"__row": rows} | {path: leaves.promoted(made[leaf.path], dtype) for path, (leaf, dtype) in wanted.items()})
    if not doubt.any():
        return frame
    return pl.concat([frame.filter(pl.Series(~doubt)), _doubtful(records, rows[doubt], schema, wanted, rejections)])


def _doubtful(records: Records, rows: Ints, schema: Schema, wanted: _Wanted, rejections: _Rejections) -> pl.DataFrame:
    """The same of messages that have to be read one by one."""
    values, reasons = [], []
    sound = np.ones(len(rows), np.bool_)
    for index, (start, length) in enumerate(zip(records.value[rows].tolist(), records.value_length[rows].tolist(), strict=True)):
        try:
            values.append(examine(schema, records.buffer[start + HEADER_BYTES : start + length]))
        except Malformed as malformed:
            sound[index] = False
            reasons.append((malformed.reason, str(malformed)))
    rejections.add(rows[~sound], reasons, schema.id)
    plain = {path: leaves.promoted(leaves.plain_column(leaf, values), dtype) for path, (leaf, dtype) in wanted.items()}
    return pl.DataFrame({"__row": rows[sound]} | plain)


def _joined(frames: Sequence[pl.DataFrame], records: Records, columns: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """All events in the order of the records, with what Kafka says about each."""
    unusable = dict.fromkeys((name for frame in frames for name in frame.columns if name.startswith(UNUSABLE)), pl.Boolean())
    shape = pl.Schema({"__row": pl.Int64(), **columns, **unusable})
    events = pl.concat([shape.to_frame(), *(frame.match_to_schema(shape, missing_columns="insert") for frame in frames)])
    events = events if events["__row"].is_sorted() else events.sort("__row")
    meta = records.meta if len(events) == len(records.meta) else records.meta[events["__row"]]
    return pl.concat([meta, events.drop("__row")], how="horizontal")
