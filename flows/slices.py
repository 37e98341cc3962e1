"""Cut event time into slices. In: frames of folded events. Out: partials, one table a group set and shard. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from flows import aggregates, limit
from flows.plan import TopicPlan
from flows.watermark import Mark
from flows.windows import START, start_of

FINER = 2  # a finer table of more than half as many rows as there are events saves nothing


@dataclass(frozen=True, slots=True)
class Events:
    """What a reader passes on of one topic at a time; without a frame it only tells the time.

    `frame`: `time` Int64 UTC ms, `by:<path>` a column a group path, `of:<of>` a column a measure; only events to be folded.
    `marks`: the watermark of every partition of this reader after these events; `partitions`: how many the topic has in all.
    `offsets`: the first and last offset read of each partition, to tell where events came from.
    """

    plan: TopicPlan
    frame: pl.DataFrame | None
    marks: Mapping[int, Mark]
    partitions: int
    clock_ms: int
    offsets: Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Partial:
    """Aggregates of the groups of one group set and shard in the slices of one frame, and how far event time has come.

    `table`: `start` Int64 (of the slice), `by:<path>` String, `events` Int64, accumulators; None when nothing fell here.
    `over`: how many groups of its slices were put into the rest (see limit.py).
    """

    plan: TopicPlan
    group_set: tuple[str, ...]
    table: pl.DataFrame | None
    marks: Mapping[int, Mark]
    partitions: int
    clock_ms: int
    offsets: Mapping[int, tuple[int, int]]
    over: int = 0


def partials(events: Events) -> Iterator[tuple[str, Partial]]:
    """For every group set and shard its partial, keyed `topic|group set|shard`; also the empty ones, as time goes on for all."""
    plan, frame = events.plan, events.frame
    tables = {} if frame is None or frame.is_empty() else partial_tables(frame, plan)
    for group_set in plan.group_sets:
        table = tables.get(group_set)
        parts = _sharded(table, plan, group_set) if table is not None else {}
        for shard in range(plan.shards_of(group_set)):
            key = f"{plan.topic}|{','.join(group_set)}|{shard}"
            part, over = parts.get(shard, (None, 0))
            yield key, Partial(plan, group_set, part, events.marks, events.partitions, events.clock_ms, events.offsets, over)


def partial_tables(frame: pl.DataFrame, plan: TopicPlan) -> dict[tuple[str, ...], pl.DataFrame]:
    """Accumulators of every slice and group of a frame of events; a null group value is a group of its own, a very long one is cut.

    A group set whose paths are all in another one is merged of that one's table, unless it is nearly as long as the events.
    """
    frame = frame.with_columns(start_of(pl.col("time"), plan.slice_ms).alias(START))
    made: dict[tuple[str, ...], pl.DataFrame] = {}
    for group_set in sorted(plan.group_sets, key=len, reverse=True):
        groups = [f"by:{path}" for path in group_set]
        finer = [table for other, table in made.items() if set(group_set) <= set(other) and FINER * len(table) < len(frame)]
        if finer:
            made[group_set] = aggregates.merge(min(finer, key=len), plan, [START, *groups])
        else:
            table = aggregates.add(frame, plan, [START, *groups])
            others = [group for group in groups if table.schema[group] != pl.String]
            made[group_set] = table.with_columns(pl.col(others).cast(pl.String)) if others else table
    return {
        group_set: limit.shortened(table, [f"by:{path}" for path in group_set]) if group_set else table for group_set, table in made.items()
    }


def _sharded(table: pl.DataFrame, plan: TopicPlan, group_set: tuple[str, ...]) -> dict[int, tuple[pl.DataFrame, int]]:
    """The rows of each shard, cut to what it keeps, and how many went into the rest. By crc32, so a group's shard never changes."""
    if not group_set:
        return {0: (table, 0)}
    groups, keep = [f"by:{path}" for path in group_set], limit.keep_of(plan)
    if plan.shards == 1:
        return {0: limit.cut(table, groups, keep, plan)}
    crcs = limit.crcs(table, groups)
    hashes = [crcs] if len(table) > keep else []  # else nothing is cut
    table = table.with_columns((crcs % plan.shards).cast(pl.Int32).alias("shard"), *hashes)
    parts = table.partition_by("shard", as_dict=True, include_key=False)
    return {number: limit.cut(part, groups, keep, plan) for (number,), part in parts.items()}
