"""What one reader makes of the record batches of one topic. In: batches and the clock. Out: events to fold, records set aside. Pure.

Here every message gets its one fate, and here alone lateness is judged: in offset order, inside the message's own partition.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import polars as pl

from flows import wire
from flows.batches import Fault
from flows.expressions import evaluate
from flows.fields import Schema
from flows.plan import TopicPlan, dtype_of
from flows.records import DEAD, LATE, Origin, Record, set_aside
from flows.runs import ORDER
from flows.slices import Events
from flows.strangers import judged_strangers
from flows.watermark import NEVER, Mark, Times, before, late

YEAR_9999_MS = 253_402_300_799_999
FATES = ("size", "tombstone", "short", "magic", "schema", "malformed", "range", "time", "future", "late", "filtered", "folded")
PLACE = ("__partition", "__offset", "__timestamp", "__batch", "__at")  # of a message: see wire.Decoded
CAUSES = ("data", "joined", "idle")  # of a late message; the fold knows one more, "closed"


@dataclass(frozen=True, slots=True)
class Position:
    """How far one partition is read: the next offset, its watermark, and its books (read = the sum of all fates).

    `seen_ms`: its watermark by data alone; `joined_ms`, `idle_ms`: what it promised; `moved_ms`: when, by the clock, data last moved it.
    """

    offset: int
    seen_ms: int = NEVER
    joined_ms: int = NEVER
    idle_ms: int = NEVER
    fates: Mapping[str, int] = field(default_factory=dict)
    moved_ms: int = NEVER
    strangers: int = 0  # messages of fate `magic` in a row, up to here (see strangers.py)

    @property
    def reached_ms(self) -> int:
        """The partition's watermark, promises included."""
        return max(self.seen_ms, self.joined_ms, self.idle_ms)


class Notes(NamedTuple):
    """What people should hear of some batches.

    `unmeasured`: (field or expression, "not-finite" or "type") -> events whose value is left out of KPIs for that cause.
    `strange`: partition -> the offset from which on it counts as non-Avro. `faults`: of batches that cannot be read, what is wrong.
    """

    unmeasured: dict[tuple[str, str], int]
    strange: dict[int, int]
    faults: list[str]


class Taken(NamedTuple):
    """Of some batches: the frame of events to fold, the messages set aside, and where each partition stands then."""

    frame: pl.DataFrame
    aside: list[Record]
    positions: dict[int, Position]
    offsets: dict[int, tuple[int, int]]
    notes: Notes


class _Judged(NamedTuple):
    """Of each row its event time, its fate (index into FATES), a late one's cause (into CAUSES); of each partition its W_p after them."""

    times: Times
    fate: Times
    cause: Times
    seen_ms: dict[int, int]


_TIME, _FUTURE, _LATE, _FILTERED, _FOLDED = (FATES.index(fate) for fate in ("time", "future", "late", "filtered", "folded"))


def take(
    plan: TopicPlan,
    positions: Mapping[int, Position],
    batches: Sequence[wire.RawBatch],
    schema_of: Callable[[int], Schema],
    clock_ms: int,
) -> Taken:
    """Decode batches (of partitions in `positions`, in offset order) and judge every message.

    A batch may begin below a partition's offset, as Kafka hands out whole batches: those messages were read before.
    Whatever `schema_of` raises but SchemaError passes through, and nothing has happened then.
    """
    good, bad, decoded = _decoded(plan, batches, schema_of)
    bad = [batch for batch in bad if batch.last >= positions[batch.partition].offset]
    frame = _unread(decoded.frame, positions, good)
    rejected = [message for message in decoded.rejected if message.offset >= positions[message.partition].offset]
    segments = _segments(frame)
    judged = _judge(plan, positions, frame, segments, clock_ms)
    books: dict[int, Counter[str]] = {partition: Counter() for partition in positions}
    offsets: dict[int, tuple[int, int]] = {}
    for partition, rows in segments.items():
        counts = np.bincount(judged.fate[rows], minlength=len(FATES))
        books[partition].update({FATES[fate]: int(counts[fate]) for fate in np.flatnonzero(counts)})
        offsets[partition] = (int(frame["__offset"][rows.start]), int(frame["__offset"][rows.stop - 1]))
    for message in rejected:
        books[message.partition][message.reason] += 1
        first, last = offsets.get(message.partition, (message.offset, message.offset))
        offsets[message.partition] = (min(first, message.offset), max(last, message.offset))
    for batch in bad:
        at = positions[batch.partition].offset
        books[batch.partition][_fault(batch).reason] += _unread_of(batch, at)
        first, last = offsets.get(batch.partition, (batch.base_offset, batch.last))
        offsets[batch.partition] = (min(first, max(at, batch.base_offset)), max(last, batch.last))
    strangers = judged_strangers(positions, frame, segments, rejected, bad)
    stand = {
        partition: replace(
            _advance(positions[partition], last + 1, judged.seen_ms.get(partition, NEVER), books[partition], clock_ms),
            strangers=strangers.rows.get(partition, 0),
        )
        for partition, (_, last) in offsets.items()
    }
    aside = [_rejected(plan.topic, message) for message in rejected if message.reason != "tombstone" and strangers.kept(message)]
    aside += [_faulty(plan.topic, batch) for batch in bad]
    aside += _unfolded(plan.topic, good, frame, judged)
    folded = frame if (judged.fate == _FOLDED).all() else frame.filter(pl.Series(judged.fate == _FOLDED))
    events, unmeasured = _columns(plan, folded)
    return Taken(events, aside, stand, offsets, Notes(unmeasured, strangers.since, [_said(batch) for batch in bad]))


def promise(plan: TopicPlan, positions: Mapping[int, Position], seen: Mapping[int, int]) -> dict[int, Position]:
    """Positions raised by an idle promise, which is about what was there at a moment: after that anything may wait unread.

    `seen`: partition -> when its end was asked for that is read by now; no newer event time had come for `idle` then.
    """
    return {
        partition: replace(position, idle_ms=max(position.idle_ms, asked_ms - plan.lateness_ms))
        for partition, asked_ms in seen.items()
        if quiet(plan, position := positions[partition], asked_ms)
    }


class Reading:
    """One reader's share of one topic: its partitions' positions, and what it passes on. The clock and the plan are arguments."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.positions: dict[int, Position] = {}
        self.fresh: set[int] = set()  # partitions in which nothing unread is old
        self.notes = Notes({}, {}, [])  # of what was read last

    def meet(self, partition: int, offset: int, clock_ms: int, *, joined_behind_ms: int | None = None) -> None:
        """A partition to be read from `offset`; one that joined while the flow runs starts with a promise that far behind the clock."""
        joined_ms = NEVER if joined_behind_ms is None else clock_ms - joined_behind_ms
        self.positions[partition] = Position(offset, joined_ms=joined_ms, moved_ms=clock_ms)

    def read(
        self, plan: TopicPlan, partitions: int, batches: Sequence[wire.RawBatch], schema_of: Callable[[int], Schema], clock_ms: int
    ) -> tuple[Events, list[Record]]:
        """Events and records set aside of some batches (see `take`)."""
        taken = take(plan, self.positions, batches, schema_of, clock_ms)
        self.positions |= taken.positions
        self.notes = taken.notes
        return self._events(plan, taken.frame, partitions, clock_ms, taken.offsets), taken.aside

    def tick(self, plan: TopicPlan, partitions: int, seen: Mapping[int, int], clock_ms: int) -> Events:
        """No events, but how late it is: partitions whose end was `seen` (see `promise`) promise what they may."""
        self.positions |= promise(plan, self.positions, seen)
        return self._events(plan, None, partitions, clock_ms, {})

    def _events(
        self, plan: TopicPlan, frame: pl.DataFrame | None, partitions: int, clock_ms: int, offsets: Mapping[int, tuple[int, int]]
    ) -> Events:
        marks = {partition: Mark(at.seen_ms, at.reached_ms, partition in self.fresh) for partition, at in self.positions.items()}
        return Events(plan, frame, marks, partitions, clock_ms, offsets)


def quiet(plan: TopicPlan, position: Position, clock_ms: int) -> bool:
    """Whether a partition's watermark has not moved for `idle`, so that it may promise if its end is seen."""
    return clock_ms - position.moved_ms >= plan.idle_ms


def _advance(position: Position, offset: int, seen_ms: int, fates: Counter[str], clock_ms: int) -> Position:
    return replace(
        position,
        offset=max(position.offset, offset),
        seen_ms=max(position.seen_ms, seen_ms),
        moved_ms=clock_ms if seen_ms > position.reached_ms else position.moved_ms,
        fates=dict(fates + Counter(position.fates)),  # a plain one: dataclasses.astuple does not copy a Counter, it counts its pairs
    )


def _decoded(
    plan: TopicPlan, batches: Sequence[wire.RawBatch], schema_of: Callable[[int], Schema]
) -> tuple[Sequence[wire.RawBatch], list[wire.RawBatch], wire.Decoded]:
    """The batches that can be read, those of which nothing can, and what the first hold. Each is tried alone only when one fails."""
    bad = [batch for batch in batches if batch.fault is not None]
    good = [batch for batch in batches if batch.fault is None] if bad else batches
    columns, aliases = dict(plan.columns), dict(plan.aliases)
    try:
        return good, bad, wire.decode(good, columns, schema_of, aliases)
    except wire.RecordError:
        good, bad = wire.sound(batches)
        return good, bad, wire.decode(good, columns, schema_of, aliases)


def _fault(batch: wire.RawBatch) -> Fault:
    return batch.fault or Fault("malformed", "")


def _unread_of(batch: wire.RawBatch, offset: int) -> int:
    """How many messages of a batch that cannot be read were not counted before: what it says, within what its offsets can hold."""
    return max(1, min(batch.count, batch.last + 1 - max(batch.base_offset, offset)))


def _faulty(topic: str, batch: wire.RawBatch) -> Record:
    """One dead letter for a whole batch: no value, as what could not be unpacked cannot be kept either."""
    origin = Origin(topic, batch.partition, batch.base_offset, batch.first_timestamp, _fault(batch).reason, _said(batch))
    return set_aside(DEAD, None, None, origin)


def _said(batch: wire.RawBatch) -> str:
    return f"partition {batch.partition}, offsets {batch.base_offset} to {batch.last}, {batch.count} records: {_fault(batch).error}"


def _unread(frame: pl.DataFrame, positions: Mapping[int, Position], batches: Sequence[wire.RawBatch]) -> pl.DataFrame:
    again = {b.partition for b in batches if b.base_offset < positions[b.partition].offset}
    for partition in again:
        frame = frame.filter((pl.col("__partition") != partition) | (pl.col("__offset") >= positions[partition].offset))
    return frame


def _segments(frame: pl.DataFrame) -> dict[int, slice]:
    """The rows of each partition; a decoded frame is sorted by partition and offset."""
    partitions, starts = np.unique(frame["__partition"].to_numpy(), return_index=True)
    edges = [*starts.tolist(), len(frame)]
    return {partition: slice(*edges[number : number + 2]) for number, partition in enumerate(partitions.tolist())}


def _judge(
    plan: TopicPlan, positions: Mapping[int, Position], frame: pl.DataFrame, segments: Mapping[int, slice], clock_ms: int
) -> _Judged:
    """The first that applies: time, future, late, filtered, folded. What passes `future` moves the watermark, whatever comes then."""
    column = frame[plan.time or "__timestamp"]
    times = (column.fill_null(-1) if column.null_count() else column).to_numpy()
    stamps = frame["__timestamp"].to_numpy()
    possible = (times >= 0) & (times <= YEAR_9999_MS)
    future = times > np.where(stamps < 0, clock_ms, np.minimum(stamps, clock_ms)) + plan.max_future_ms
    moves = possible & ~future
    cause, seen_ms = np.full(len(times), -1, np.int64), {}
    for partition, rows in segments.items():
        position = positions[partition]
        marks = before(times[rows], moves[rows], plan.lateness_ms, position.seen_ms)
        for number, watermark in ((2, position.idle_ms), (1, position.joined_ms), (0, marks[:-1])):  # the first cause has the last word
            cause[rows][late(times[rows], watermark, plan.slice_ms)] = number
        seen_ms[partition] = int(marks[-1])
    fate = np.full(len(times), _FOLDED, np.int64)
    if plan.where is not None:
        kept = evaluate(frame, plan.where, pl.Boolean()).fill_null(value=False).to_numpy()
        fate[~kept] = _FILTERED
    fate[cause >= 0] = _LATE
    fate[future] = _FUTURE
    fate[~possible] = _TIME
    return _Judged(times, fate, cause, seen_ms)


def _rejected(topic: str, message: wire.Rejected) -> Record:
    origin = Origin(topic, message.partition, message.offset, message.timestamp, message.reason, message.error, message.schema_id)
    return set_aside(DEAD, message.key, message.value, origin)


def _unfolded(topic: str, batches: Sequence[wire.RawBatch], frame: pl.DataFrame, judged: _Judged) -> list[Record]:
    """Late records, and dead letters of impossible and future times, with their original bytes."""
    rows = np.flatnonzero((judged.fate == _LATE) | (judged.fate == _TIME) | (judged.fate == _FUTURE))
    if not len(rows):
        return []
    records = []
    for row, (partition, offset, timestamp, batch, at) in zip(rows, frame[rows].select(PLACE).iter_rows(), strict=True):
        key, value = wire.original(batches, batch, at)
        reason = FATES[judged.fate[row]]
        error = f"cause: {CAUSES[judged.cause[row]]}" if reason == "late" else f"event time {judged.times[row]}"
        records.append(
            set_aside(LATE if reason == "late" else DEAD, key, value, Origin(topic, partition, offset, timestamp, reason, error))
        )
    return records


def _order(time: pl.Expr) -> pl.Expr:
    """Which event comes first: by event time, then partition, then offset, in 48, 16 and 63 bits."""
    wide = [it.cast(pl.Int128) * pl.lit(unit, pl.Int128) for it, unit in ((time, 2**79), (pl.col("__partition"), 2**63))]
    return (sum(wide[1:], wide[0]) + pl.col("__offset")).alias(ORDER)


def _columns(plan: TopicPlan, frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[tuple[str, str], int]]:
    """Time, groups and measures of events; what is not finite is left out of its KPI, as it would poison sums for ever, and counted."""
    if not plan.version:  # no schema yet, so no event, and none of the fields that are declared
        return pl.DataFrame(), {}
    kinds = {kpi.of: (kpi.kind, kpi.scale) for kpi in plan.kpis}
    unusable = [name for name in frame.columns if name.startswith(wire.UNUSABLE)]
    unmeasured = {(name.removeprefix(wire.UNUSABLE), "type"): int(frame[name].sum()) for name in unusable}
    measures = []
    for of in plan.measures:
        column = evaluate(frame, of, dtype_of(*kinds[of])).alias(f"of:{of}")
        if column.dtype.is_float() and (left_out := int((wrong := ~column.is_finite()).sum())):
            unmeasured[of, "not-finite"] = left_out
            column = column.set(wrong, None)
        measures.append(column)
    texts = {name: name for name in plan.groups if name in frame.columns and frame.schema[name] == pl.Time} | dict(plan.group_expressions)
    groups = [(evaluate(frame, texts[name], pl.String()) if name in texts else frame[name]).alias(f"by:{name}") for name in plan.groups]
    time = pl.col(plan.time or "__timestamp").alias("time")
    order = [_order(time)] if plan.is_ordered else []
    made = frame.select(time, *order, *groups, *measures)
    return made, {what: count for what, count in unmeasured.items() if count}
