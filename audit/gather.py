"""The source topic as Parquet parts. In: messages in offset order, schemas, a declaration. Out: parts that `recompute` understands.

The plan grows with the schema ids that are met, as the flow's does. Where a new id changes what is read of messages that were read
already, the rest is only searched for further ids, and the topic is read once more: twice at most.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from audit.decode import HEAD, Reading, Said, decode, reading
from audit.measure import part
from flows.declaration import Declaration
from flows.errors import ConfigError
from flows.fields import Schema, SchemaError
from flows.plan import TopicPlan, helpful, plan

PART = 250_000  # messages a part: 100 MB while it is made


class Batch(NamedTuple):
    """Messages of any partitions, in offset order inside each."""

    partitions: Sequence[int]
    offsets: Sequence[int]
    stamps: Sequence[int]  # -1: none
    values: Sequence[bytes | None]


@dataclass(frozen=True, slots=True)
class Doubts:
    """Offsets of dead letters, sorted, by partition: reason `schema`; reasons `malformed` and `range`."""

    unknown: Mapping[int, npt.NDArray[np.int64]] = field(default_factory=dict)
    doubted: Mapping[int, npt.NDArray[np.int64]] = field(default_factory=dict)

    def of(self, batch: Batch) -> Said:
        """The places in a batch of the messages that dead letters speak of."""
        if not self.unknown and not self.doubted:
            return Said()
        partitions, offsets = np.array(batch.partitions), np.array(batch.offsets)
        return Said(*(_places(letters, partitions, offsets) for letters in (self.unknown, self.doubted)))


def _places(letters: Mapping[int, npt.NDArray[np.int64]], partitions: npt.NDArray[np.int64], offsets: npt.NDArray[np.int64]) -> set[int]:
    found: set[int] = set()
    for partition, known in letters.items():
        found.update(np.flatnonzero((partitions == partition) & np.isin(offsets, known)).tolist())
    return found


@dataclass(frozen=True, slots=True)
class Source:
    """A source topic, what is declared for it, and its schemas.

    `schema_of` raises SchemaError for what cannot be read; `versions`: the ids of its subject, which help where those met do not
    have what is declared; `others`: those of subjects that are named after records, which may help where it has no versions.
    """

    declaration: Declaration
    topic: str
    schema_of: Callable[[int], Schema]
    versions: Callable[[], Iterable[int]] = tuple
    others: Callable[[Sequence[Schema]], Iterable[int]] = lambda _: ()

    def plan(self, ids: Iterable[int]) -> TopicPlan:
        """The plan with these schemas, as far as they can be read. Raises ConfigError."""
        numbers = set(ids)
        met = self._usable(numbers)
        try:
            return plan(self.declaration, self.topic, met)
        except ConfigError:
            more = self._usable(set(self.versions()) - numbers)
            more = more or helpful(self.declaration, self.topic, met, self._usable(set(self.others(met)) - numbers))
            return plan(self.declaration, self.topic, [*met, *more])

    def _usable(self, ids: Iterable[int]) -> list[Schema]:
        return [schema for schema_id in ids if (schema := self.usable(schema_id)) is not None]

    def usable(self, schema_id: int) -> Schema | None:
        """A schema, unless it cannot be read."""
        try:
            return self.schema_of(schema_id)
        except SchemaError:
            return None


def schema_ids(values: Iterable[bytes | None]) -> set[int]:
    """Those that messages name."""
    return {int.from_bytes(value[1:HEAD], "big") for value in values if value and len(value) >= HEAD and not value[0]}


class Gather:
    """Takes batches, writes parts. `stale`: the plan has changed under parts already written: forget them, read again with `ids`."""

    def __init__(self, source: Source, directory: Path, ids: Sequence[int], doubts: Doubts) -> None:
        self._source, self._directory, self._doubts = source, directory, doubts
        self.stale = False
        self.parts: list[Path] = []
        self._readings: dict[int, Reading] = {}
        self._frames: list[pl.DataFrame] = []
        self._waiting = 0
        self.plan = source.plan(ids)
        self.ids = {*ids, *self.plan.version}

    def take(self, batch: Batch) -> None:
        """Decode and measure; or, once stale, only look for schema ids."""
        if self.stale:
            self._meet(schema_ids(batch.values))
        else:
            self._keep(batch, self._decoded(batch))

    def _decoded(self, batch: Batch) -> pl.DataFrame:
        """Decoded again where a schema id of this very batch has changed the columns."""
        while True:
            used = self.plan.columns
            frame = decode(batch.values, self._doubts.of(batch), dict(used), self._reading)
            if used == self.plan.columns:
                return frame

    def _keep(self, batch: Batch, frame: pl.DataFrame) -> None:
        if self.stale:
            return
        self._frames.append(part(self.plan, batch[:3], frame))
        self._waiting += len(batch.values)
        if self._waiting >= PART:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._frames and not self.stale:
            file = self._directory / f"part-{len(self.parts):06}.parquet"
            pl.concat(self._frames).write_parquet(file, compression="lz4")
            self.parts.append(file)
        self._frames, self._waiting = [], 0

    def _reading(self, schema_id: int) -> Reading:
        """Raises SchemaError. An id that is met the first time may change the plan."""
        schema = self._source.schema_of(schema_id)
        self._meet({schema_id})
        if schema_id not in self._readings:
            self._readings[schema_id] = reading(schema, self.plan)
        return self._readings[schema_id]

    def _meet(self, ids: set[int]) -> None:
        for schema_id in ids - self.ids:
            if self._source.usable(schema_id) is None:
                continue
            before, self.plan = self.plan, self._source.plan({*self.ids, schema_id})
            self.ids |= {schema_id, *self.plan.version}
            if _reads(before) != _reads(self.plan):
                self._readings.clear()
                self.stale = self.stale or bool(self.parts or self._frames)


def _reads(plan: TopicPlan) -> tuple[object, ...]:
    """What of a plan decides how messages are read and measured."""
    return plan.time, plan.columns, plan.kpis, plan.aliases
