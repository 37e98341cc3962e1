"""The state of one group set and shard. In: partials. Out: rows of windows, provisional and final. Pure.

    partials ──► slices ──► 10 s ──► 1 m ──► 5 m        a closed stretch is merged once into the next larger size
                   open       open     open   open      and the state is these tables, never the events

A level is a list of tables that are merged only when something can close or they have become many, so adding a partial costs next to
nothing. Merged, a level holds of each stretch the groups that the shard keeps (see limit.py), and one row of the rest.
"""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from flows import aggregates, limit
from flows.plan import TopicPlan, of_plain, plain
from flows.slices import Partial
from flows.watermark import NEVER, Mark, topic_watermark
from flows.windows import END, START, Window, cascade, start_of

STATE_VERSION = 1
ROWS_A_SECOND = 5_000  # provisional rows of a topic; finals are never held back
LOOSE_ROWS = 50_000  # of tables that wait to be merged, so that no stream, however many its groups, piles up more of them
TABLE_ROWS = 50  # what a table costs over its rows, in rows


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one window size: `start`, `end` Int64 UTC ms, `by:<path>` String, `events` Int64, `kpi:<name>`, `revision` Int64,
    `final` Boolean, `closed_by` String ("data", "idle"; null while open).
    """

    plan: TopicPlan
    group_set: tuple[str, ...]
    window: Window
    table: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Passed:
    """How far a shard has closed its windows, and the rests of those it closed just now (see rest.py).

    `rests`: window size -> table of `start` Int64 UTC ms, `by_data` Boolean (whether event times alone closed it), `events`, accumulators.
    """

    plan: TopicPlan
    group_set: tuple[str, ...]
    closed_ms: int
    rests: Mapping[int, pl.DataFrame]


@dataclass(frozen=True, slots=True)
class Turn:
    """What came of some partials: rows, events that found their slice closed (late, cause `closed`), how far windows have closed
    since the last turn (None: no further), and how many times a group of a stretch was put into the rest.
    """

    rows: list[Rows]
    closed: int
    passed: Passed | None = None
    over: int = 0


class Fold:
    """Windows of one `topic|group set|shard`. The clock and the plan come with the partials, so there is no plan before the first."""

    plan: TopicPlan
    group_set: tuple[str, ...]
    groups: list[str]
    feeds: list[int | None]
    keep: int

    def __init__(self, shards: int, state: Mapping[str, Any] | None = None) -> None:
        """Anew, or from a `snapshot()`. The `shards` of a group set share the limit on provisional rows."""
        self.shards = shards
        self.updated_ms = NEVER
        self.touched: list[pl.DataFrame] = []
        self.loose: dict[int, int] = {}  # level -> rows that came since it was merged
        self.unseen = 0  # rows of `touched` that came since it was narrowed
        self.rests: dict[int, pl.DataFrame] = {}
        self.over = 0
        state = state or {"version": STATE_VERSION, "marks": {}, "closed": (NEVER, NEVER), "levels": {}, "scales": {}, "published": {}}
        if state["version"] != STATE_VERSION:
            raise ValueError(f"state of version {state['version']}, this program reads version {STATE_VERSION}")
        self.marks: dict[int, Mark] = {partition: Mark(*mark) for partition, mark in state["marks"].items()}
        self.closed_ms, self.closed_by_data_ms = state["closed"]
        self.scales: dict[str, int] = state["scales"]
        self.levels: dict[int, list[pl.DataFrame]] = {size: [unpacked(table)] for size, table in state["levels"].items()}
        self.published: dict[int, pl.DataFrame] = {size: unpacked(table) for size, table in state["published"].items()}
        self.stored_plan: dict[str, Any] | None = state.get("plan")  # not there before the first partial, nor in states of older programs
        if self.stored_plan is not None:
            self._adopt(of_plain(self.stored_plan), tuple(state["group_set"]))

    def snapshot(self) -> dict[str, Any]:
        """Everything that cannot be had again, tables as Arrow IPC bytes."""
        return {
            "version": STATE_VERSION,
            "marks": {partition: tuple(mark) for partition, mark in self.marks.items()},
            "closed": (self.closed_ms, self.closed_by_data_ms),
            "scales": self.scales,
            "plan": self.stored_plan,
            "group_set": getattr(self, "group_set", ()),
            "levels": {size: packed(table) for size in self.levels if (table := self._merged(size)) is not None},
            "published": {size: packed(table) for size, table in self.published.items() if len(table)},
        }

    def size(self) -> tuple[int, int]:
        """How many slices are open, and how many groups they have, each counted in each of them."""
        table = self._merged(0)
        return (0, 0) if table is None else (table[START].n_unique(), len(table))

    def take(self, partials: Iterable[Partial]) -> Turn:
        """Add partials, in the order of their reader; then close what the watermark has passed."""
        closed, rows = 0, []
        before_ms, self.rests, self.over = self.closed_ms, {}, 0
        last = None
        for last in partials:
            self._plan(last)
            if last.table is not None:
                closed += self._add(last.plan, last.table)
            self.over += last.over
            self.marks.update(last.marks)
            rows += self._close(*(topic_watermark(self.marks, last.partitions, promises=promises) for promises in (True, False)))
        if last is not None:
            rows += self._provisional(last.clock_ms, last.partitions)
        return Turn(rows, closed, self._passed(before_ms), self.over)

    def _plan(self, partial: Partial) -> None:
        """The plan of most schema versions wins: readers meet a new schema at different moments, and after a start anew."""
        if not hasattr(self, "plan") or newer(partial.plan, self.plan):
            self._adopt(partial.plan, partial.group_set)
            self.stored_plan = plain(self.plan)
            self.levels = {
                size: [aggregates.conform(table, self.plan, self.scales) for table in tables] for size, tables in self.levels.items()
            }
            self.rests = {size: aggregates.conform(table, self.plan, self.scales) for size, table in self.rests.items()}
            self.scales = aggregates.scales(self.plan)

    def _adopt(self, plan: TopicPlan, group_set: tuple[str, ...]) -> None:
        self.plan, self.group_set = plan, group_set
        self.groups = [f"by:{path}" for path in group_set]
        self.feeds = cascade([window.size_ms for window in plan.windows])
        self.keep = limit.keep_of(plan, self.shards)

    def _add(self, plan: TopicPlan, table: pl.DataFrame) -> int:
        if plan.version != self.plan.version:
            table = aggregates.conform(table, self.plan, aggregates.scales(plan))
        late = pl.col(START) + self.plan.slice_ms <= self.closed_ms
        closed = int(table.select(pl.col("events").filter(late).sum()).item())
        if closed:
            table = table.filter(~late)
        self._put(0, table)
        if self.plan.update_ms is not None:
            self.touched.append(table)
            self.unseen += len(table) + TABLE_ROWS
            if self.unseen > LOOSE_ROWS:
                self.touched = [self._changed()]
        return closed

    def _put(self, level: int, table: pl.DataFrame) -> None:
        """Add to a level, to be merged later, or now that more waits than is merged (so a row is merged a few times at most)."""
        tables = self.levels.setdefault(level, [])
        tables.append(table)
        self.loose[level] = self.loose.get(level, 0) + len(table) + TABLE_ROWS
        if self.loose[level] > max(LOOSE_ROWS, len(tables[0])):
            self._merged(level)

    def _close(self, watermark_ms: int, data_ms: int) -> list[Rows]:
        """Slices and windows whose end is at or below floor(W / slice) * slice; each closed stretch feeds the next size."""
        closed_ms = watermark_ms // self.plan.slice_ms * self.plan.slice_ms
        self.closed_by_data_ms = max(self.closed_by_data_ms, data_ms // self.plan.slice_ms * self.plan.slice_ms)
        if closed_ms <= self.closed_ms:
            return []
        before_ms, self.closed_ms = self.closed_ms, closed_ms
        slices = self._split(0, self.plan.slice_ms, before_ms)
        rows: list[Rows] = []
        closed: list[pl.DataFrame | None] = []
        for window, feed in zip(self.plan.windows, self.feeds, strict=True):
            source = slices if feed is None else closed[feed]
            if source is not None:
                self._put(window.size_ms, self._lifted(source, window))
            closed.append(self._split(window.size_ms, window.size_ms, before_ms))
            if (table := closed[-1]) is not None and len(table := self._without_rest(window, table)):
                rows.append(self._final(window, table))
        return rows

    def _without_rest(self, window: Window, table: pl.DataFrame) -> pl.DataFrame:
        """The groups of closed windows that have rows of their own; the others' are `rests`."""
        if not self.groups or (rest := table.filter(limit.is_rest(self.groups))).is_empty():
            return table
        by_data = pl.col(START) + window.size_ms <= self.closed_by_data_ms
        rest = rest.select(START, by_data.alias("by_data"), pl.exclude(START, *self.groups))
        older = [self.rests[window.size_ms]] if window.size_ms in self.rests else []
        self.rests[window.size_ms] = pl.concat([*older, rest])
        return table.filter(~limit.is_rest(self.groups))

    def _passed(self, before_ms: int) -> Passed | None:
        """Told when a window can have closed; the total has no rest, and so nothing to tell."""
        if self.closed_ms == before_ms or not self.groups:
            return None
        if all(before_ms // window.size_ms == self.closed_ms // window.size_ms for window in self.plan.windows):
            return None
        return Passed(self.plan, self.group_set, self.closed_ms, self.rests)

    def _split(self, level: int, size_ms: int, before_ms: int) -> pl.DataFrame | None:
        """The closed part of a level, or None; the open part stays. Nothing to do unless an edge of this size was passed."""
        if before_ms // size_ms == self.closed_ms // size_ms or (table := self._merged(level)) is None:
            return None
        done = pl.col(START) + size_ms <= self.closed_ms
        self.levels[level] = [rest] if len(rest := table.filter(~done)) else []
        table = table.filter(done)
        return table if len(table) else None

    def _lifted(self, source: pl.DataFrame, window: Window) -> pl.DataFrame:
        """Closed stretches as parts of a larger window; those that fall into the same one are merged."""
        table = source.with_columns(start_of(pl.col(START), window.size_ms))
        return self._merge([table]) if source[START].n_unique() > table[START].n_unique() else table

    def _merged(self, level: int) -> pl.DataFrame | None:
        """A level as one table, a row for each stretch and group that is kept, and one for the rest."""
        tables = self.levels.get(level, [])
        if self.loose.pop(level, 0) and tables:
            table, over = self._cut(self._merge(tables) if len(tables) > 1 else tables[0])
            self.levels[level] = tables = [table]
            self.over += over
        return tables[0] if tables else None

    def _cut(self, table: pl.DataFrame) -> tuple[pl.DataFrame, int]:
        """A table that has as many groups as are kept, and how many rows that put into the rest. The total has no groups to cut."""
        return limit.cut(table, self.groups, self.keep, self.plan) if self.groups else (table, 0)

    def _merge(self, tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
        return aggregates.merge(pl.concat(tables), self.plan, [START, *self.groups])

    def _final(self, window: Window, table: pl.DataFrame) -> Rows:
        by_data = pl.col(START) + window.size_ms <= self.closed_by_data_ms
        closed_by = pl.when(by_data).then(pl.lit("data")).otherwise(pl.lit("idle"))
        rows = self._rows(window, table, final=True, closed_by=closed_by)
        if (published := self.published.get(window.size_ms)) is not None:
            self.published[window.size_ms] = published.filter(pl.col(START) + window.size_ms > self.closed_ms)
        return rows

    def _provisional(self, clock_ms: int, partitions: int) -> list[Rows]:
        """Rows of open windows that changed since the last time: at most every `update`, and only while none of the partitions lags."""
        plan = self.plan
        if plan.update_ms is None or not self.touched or clock_ms < self.updated_ms + plan.update_ms:
            return []
        if not all(mark.fresh for partition, mark in self.marks.items() if partition < partitions):  # others are gone
            self.touched = self.touched[-1:]  # what changed while catching up will be told by the finals
            return []
        self.updated_ms = clock_ms
        folds = sum(self.shards if group_set else 1 for group_set in plan.group_sets)
        most = max(1, ROWS_A_SECOND * plan.update_ms // 1000 // (folds * len(plan.windows)))
        changed = self._changed()
        self.touched = [changed.slice(most)] if len(changed) > most else []
        rows = []
        for number, window in enumerate(plan.windows):
            at = start_of(pl.col(START), window.size_ms)
            asked = changed.head(most).select(at, *self.groups).unique()
            tables = self._kept(window, [table.with_columns(at) for table in self._open(number)])
            found = [table.join(asked, on=[START, *self.groups], how="semi", nulls_equal=True) for table in tables]
            if found and len(table := self._merge(found)):
                rows.append(self._rows(window, table, final=False, closed_by=pl.lit(None, pl.String)))
        return rows

    def _changed(self) -> pl.DataFrame:
        """Slice and group of what was touched; when they are many, only those that an open window may still tell of."""
        changed = pl.concat([table.select(START, *self.groups) for table in self.touched]).unique(maintain_order=True)
        self.unseen = 0
        if not self.groups:
            return changed
        changed = changed.filter(~limit.is_rest(self.groups))
        if len(changed) <= self.keep:
            return changed
        is_open = (start_of(pl.col(START), window.size_ms) + window.size_ms > self.closed_ms for window in self.plan.windows)
        known = [table.select(self.groups) for level in self.levels for table in self._level(level)]
        kept = pl.concat(known).unique() if known else changed.select(self.groups).clear()
        return changed.filter(pl.any_horizontal(is_open)).join(kept, on=self.groups, how="semi", nulls_equal=True)

    def _kept(self, window: Window, tables: list[pl.DataFrame]) -> list[pl.DataFrame]:
        """Where a window may have more groups than it keeps: one table, cut; what was told of groups that are gone is forgotten."""
        if not self.groups or sum(map(len, tables)) <= self.keep:
            return tables
        table, _ = self._cut(self._merge(tables))
        if (published := self.published.get(window.size_ms)) is not None and len(published) > len(table):
            self.published[window.size_ms] = published.join(table, on=[START, *self.groups], how="semi", nulls_equal=True)
        return [table]

    def _open(self, number: int | None) -> Iterator[pl.DataFrame]:
        """The tables whose rows will end in a window: its own level and those that feed it, down to the slices."""
        while number is not None:
            yield from self._level(self.plan.windows[number].size_ms)
            number = self.feeds[number]
        yield from self._level(0)

    def _level(self, level: int) -> list[pl.DataFrame]:
        return [table] if (table := self._merged(level)) is not None else []

    def _rows(self, window: Window, table: pl.DataFrame, *, final: bool, closed_by: pl.Expr) -> Rows:
        """Results of a table of accumulators; a revision counts the rows of this window and group that went out before."""
        keys = [START, *self.groups]
        table = table.with_columns((pl.col(START) + window.size_ms).alias(END))
        told = table.select(*keys, END, aggregates.EVENTS, pl.lit(final).alias("final"), closed_by.alias("closed_by"))
        table = pl.concat([told, aggregates.results(table, self.plan)], how="horizontal")
        if (published := self.published.get(window.size_ms)) is None:
            table = table.with_columns(pl.lit(0, pl.Int64).alias("revision"))
        else:
            table = table.join(published, on=keys, how="left", nulls_equal=True).with_columns((pl.col("revision") + 1).fill_null(0))
        if not final:
            told = table.select(*keys, "revision")
            older = [] if published is None else [published.join(told, on=keys, how="anti", nulls_equal=True)]
            self.published[window.size_ms] = pl.concat([*older, told])
        return Rows(self.plan, self.group_set, window, table)


def newer(one: TopicPlan, other: TopicPlan) -> bool:
    """Whether a plan is the newer one. Plans grow by schema ids: the one made from more of them is.

    One that lacks an id of the other's may lack a column of it, and what was folded there would be lost.
    """
    return set(one.version) > set(other.version)


def packed(table: pl.DataFrame) -> bytes:
    """A table as Arrow IPC bytes, for a snapshot."""
    out = io.BytesIO()
    table.write_ipc(out)
    return out.getvalue()


def unpacked(table: bytes) -> pl.DataFrame:
    """The table of `packed`."""
    return pl.read_ipc(io.BytesIO(table))
