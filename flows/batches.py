"""Record batches cut into records. In: whole Kafka record batches. Out: where each record, its key and its value lie. Pure.

One compiled loop cuts any number of batches (Kafka's record format v2). No Python object is made for a record.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import polars as pl

from flows import loops
from flows.cursor import PADDING
from flows.loops import HEADER_BYTES, Ints
from flows.message import Malformed, Reader

RECORD_BYTES = 7  # the fewest that a record can have: its length, attributes, two deltas, two lengths, the number of headers
META = {"__partition": pl.Int32(), "__offset": pl.Int64(), "__timestamp": pl.Int64(), "__batch": pl.Int32(), "__at": pl.Int64()}


class RecordError(ValueError):
    """The body of a batch is not made of records. Its checksum was right, so it was written so."""


class Fault(NamedTuple):
    """Why nothing in a batch can be read: the fate of its messages ("size" or "malformed"), and the error in words."""

    reason: str
    error: str


class RawBatch(NamedTuple):
    """One record batch, decompressed: `body` is `count` records in format v2. `append_time`: every record's timestamp, if not None.

    `last_offset`: of the batch (None: that of `count` offsets without gaps). With a `fault` there is no body.
    """

    partition: int
    base_offset: int
    count: int  # type: ignore[assignment] # hides tuple.count, which is of no use here
    first_timestamp: int
    append_time: int | None
    body: bytes
    last_offset: int | None = None
    fault: Fault | None = None

    @property
    def last(self) -> int:
        """The last offset that the batch takes up."""
        return self.base_offset + max(self.count, 1) - 1 if self.last_offset is None else self.last_offset


@dataclass(frozen=True, slots=True)
class Records:
    """The records of some batches, by partition and offset. Places are in `buffer`; a length of -1 is null.

    `meta`: what Kafka says about each, see META; `schema_id`: of its message, or why it has none (see loops).
    """

    buffer: bytes
    meta: pl.DataFrame
    key: Ints
    key_length: Ints
    value: Ints
    value_length: Ints
    schema_id: Ints

    def bytes_at(self, start: int, length: int) -> bytes | None:
        """A key or a value."""
        return None if length < 0 else self.buffer[start : start + length]


def cut(batches: Sequence[RawBatch]) -> Records:
    """Every record, with the proof that each was cut out exactly: lengths add up to each batch, offsets rise, keys and values fit.

    Raises RecordError.
    """
    try:
        return _cut(batches)
    except RecordError:
        if len(batches) > 1:
            for batch in batches:  # which of them it is
                cut([batch])
        raise


def _cut(batches: Sequence[RawBatch]) -> Records:
    order = sorted(range(len(batches)), key=lambda index: (batches[index].partition, batches[index].base_offset))
    ordered = [batches[index] for index in order]
    if any(not 0 <= batch.count <= len(batch.body) // RECORD_BYTES for batch in ordered):
        raise RecordError(_named(ordered, "more records than its bytes can hold, or less than none"))
    counts = np.array([batch.count for batch in ordered], np.int64)
    buffer = b"".join((*(batch.body for batch in ordered), bytes(PADDING)))
    bounds = np.cumsum([0, *(len(batch.body) for batch in ordered)], dtype=np.int64)
    found = np.empty((loops.FIELDS, int(counts.sum())), np.int64)
    if wrong := loops.records(np.frombuffer(buffer, np.uint8), bounds[:-1], bounds[1:], counts, found):
        said = "the lengths of records do not add up to their batch" if wrong == loops.UNEVEN else "what stands in a record is none"
        raise RecordError(_named(ordered, said))
    at, since, delta, key, key_length, value, value_length, schema_id = found
    ends, reach = np.cumsum(counts), np.array([batch.last - batch.base_offset for batch in ordered], np.int64)
    if (delta[ends[counts > 0] - 1] > reach[counts > 0]).any():
        raise RecordError(_named(ordered, "a record's offset lies beyond its batch"))
    batch = np.repeat(np.arange(len(ordered)), counts)
    stamps = np.array([batch.first_timestamp if batch.append_time is None else batch.append_time for batch in ordered], np.int64)
    follows = np.array([batch.append_time is None for batch in ordered], np.int64)
    meta = {
        "__partition": np.array([batch.partition for batch in ordered], np.int32)[batch],
        "__offset": np.array([batch.base_offset for batch in ordered], np.int64)[batch] + delta,
        "__timestamp": stamps[batch] + since * follows[batch],
        "__batch": np.array(order, np.int32)[batch],
        "__at": at,
    }
    return Records(buffer, pl.DataFrame(meta, schema=META), key, key_length, value, value_length, schema_id)


def sound(batches: Sequence[RawBatch]) -> tuple[list[RawBatch], list[RawBatch]]:
    """The batches that are made of records, and those that are not or have a fault already, each with its fault."""
    good, bad = [], [batch for batch in batches if batch.fault is not None]
    for batch in batches:
        if batch.fault is None:
            try:
                cut([batch])
                good.append(batch)
            except RecordError as error:
                bad.append(batch._replace(body=b"", fault=Fault("malformed", str(error))))
    return good, bad


def original(batches: Sequence[RawBatch], batch_index: int, at: int) -> tuple[bytes | None, bytes | None]:
    """Key and value of the record that starts there (`__batch` and `__at` of a frame)."""
    return _record(batches[batch_index].body, at)[:2]


def first_schema_ids(batches: Iterable[RawBatch]) -> set[int]:
    """The schema id of the first message of each batch that has one: what to plan a topic with, before it is decoded."""
    found = set()
    for batch in batches:
        at = 0
        for _ in range(batch.count):
            try:
                _, value, at = _record(batch.body, at)
            except Malformed:
                break
            if value is not None and len(value) >= HEADER_BYTES and value[0] == 0:
                found.add(int.from_bytes(value[1:HEADER_BYTES], "big"))
                break
    return found


def _record(body: bytes, at: int) -> tuple[bytes | None, bytes | None, int]:
    """Key and value of a record, and where the next one starts."""
    reader = Reader(body, {}, at)
    after = reader.length() + reader.at
    reader.take(1)  # attributes
    for _ in ("timestamp", "offset"):
        reader.varint()
    key, value = (None if (length := reader.varint()) < 0 else reader.take(length) for _ in ("key", "value"))
    return key, value, after


def _named(batches: Sequence[RawBatch], error: str) -> str:
    return f"partition {batches[0].partition} from offset {batches[0].base_offset}: {error}"
