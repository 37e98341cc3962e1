"""The state of one group set and shard. In: partials. Out: rows of windows, provisional and final. Pure.

    partials ──► slices ──► 10 s ──► 1 m ──► 5 m        a closed stretch is merged once into the next larger size
                   open       open     open   open      and the state is these tables, never the events
                                        └──► 1h/1m      windows that are no plain stretches are put together of closed ones: kinds.py

A level is a table in parts (tiers.py) that are merged into one only when something can close, so adding a partial costs next to nothing.
Merged, it holds of each stretch the groups that the shard keeps (see limit.py), and one row of the rest.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from flows import aggregates, limit
from flows.assembly import Assembler, Merger
from flows.kinds import assembler
from flows.plan import TopicPlan, of_plain, plain
from flows.since import Since, newer, renumbered
from flows.slices import Partial
from flows.tiers import LOOSE_ROWS, TABLE_ROWS, Merge, Tiers
from flows.vault import Vault
from flows.watermark import NEVER, Mark, topic_watermark
from flows.windows import END, START, WINDOW, Window, bounds, cascade, start_of

STATE_VERSION = 4
ROWS_A_SECOND = 5_000  # provisional rows of a topic; finals are never held back
Placed = tuple[pl.DataFrame, Any]  # a table of windows of one size, and their ENDs as an array
CLOSED_BY = pl.Series("closed_by", ["idle", "data"])
SLICES = 0  # the level of slices; that of larger stretches is their length


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of all window sizes: `window` Int64 (index into the plan's), `start`, `end` Int64 UTC ms, `by:<path>` String, `events` Int64,
    `kpi:<name>`, `revision` Int64, `final` Boolean, `closed_by` String ("data", "idle"; null while open).
    """

    plan: TopicPlan
    group_set: tuple[str, ...]
    table: pl.DataFrame
    since: Since = field(default_factory=Since)


@dataclass(frozen=True, slots=True)
class Passed:
    """How far a shard has closed its windows, and the rests of those it closed just now (see rest.py).

    `closed_ms`: how far, with promises; `by_data_ms`: by data alone. `rests`: table of `window`, `start`, `end`, `events`, accumulators; of
    a session window its slices instead, whose `end` is null.
    """

    plan: TopicPlan
    group_set: tuple[str, ...]
    closed_ms: int
    by_data_ms: int
    rests: pl.DataFrame | None
    since: Since = field(default_factory=Since)


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
    lengths: list[int]  # of stretches, rising: the declared ones, and the panes that others are put together of
    feeds: list[int | None]  # of each length, which one feeds it
    merger: Merger
    assemblers: dict[str, Assembler]  # by label, of windows that are no plain stretches

    def __init__(self, state: Mapping[str, Any] | None = None, vault: Vault | None = None) -> None:
        """Anew, or from a `snapshot()`."""
        self.vault = vault or Vault()
        unpacked = self.vault.get
        self.updated_ms = NEVER
        self.touched: list[pl.DataFrame] = []
        self.unseen = 0  # rows of `touched` that came since it was narrowed
        self.is_full = False  # LOOSE_ROWS wait, so no more may until some are told
        self.rests: list[pl.DataFrame] = []
        begun = {"marks": {}, "closed": (NEVER, NEVER), "levels": {}, "windows": {}, "scales": {}, "since": {}}
        state = state or {"version": STATE_VERSION, **begun}
        if state["version"] != STATE_VERSION:
            raise ValueError(f"state of version {state['version']}, this program reads version {STATE_VERSION}")
        self.marks: dict[int, Mark] = {partition: Mark(*mark) for partition, mark in state["marks"].items()}
        self.closed_ms, self.closed_by_data_ms = state["closed"]
        self.scales: dict[str, int] = state["scales"]
        self.since = Since(**state["since"])
        self.levels = {length: Tiers(map(unpacked, parts)) for length, parts in state["levels"].items()}
        self.published: pl.DataFrame | None = unpacked(state["published"]) if state.get("published") else None
        self.stored_plan: dict[str, Any] | None = state.get("plan")  # not there before the first partial
        if self.stored_plan is not None:
            tables = {name: [unpacked(table) for table in tables] for name, tables in state["windows"].items()}
            self._adopt(of_plain(self.stored_plan), tuple(state["group_set"]), tables)

    def snapshot(self) -> dict[str, Any]:
        """Everything that cannot be had again; of tables what the vault gives for them."""
        windows = {name: it.tables() for name, it in self.assemblers.items()} if self.stored_plan else {}
        packed = self.vault.put
        state = {
            "version": STATE_VERSION,
            "marks": {partition: tuple(mark) for partition, mark in self.marks.items()},
            "closed": (self.closed_ms, self.closed_by_data_ms),
            "scales": self.scales,
            "since": self.since.plain(),
            "plan": self.stored_plan,
            "group_set": getattr(self, "group_set", ()),
            "levels": {length: [packed(part) for part in parts] for length in self.levels if (parts := self._level(length))},
            "windows": {name: [packed(table) for table in tables] for name, tables in windows.items() if tables},
            "published": None if self.published is None else packed(self.published),
        }
        self.vault.end()
        return state

    def size(self) -> tuple[int, int]:
        """How many slices are open, and how many groups they have, each counted in each of them."""
        parts = self._level(SLICES)
        return (len(np.unique(np.concatenate([part[START].to_numpy() for part in parts]))), sum(map(len, parts))) if parts else (0, 0)

    def take(self, partials: Iterable[Partial]) -> Turn:
        """Add partials, each reader's in its order; then close, once, what the watermark has passed."""
        closed, rows, over = 0, list[Rows](), 0
        self.rests = []
        before_ms, partitions, last = self.closed_ms, 0, None
        for last in partials:
            self._plan(last)
            self.marks.update(last.marks)
            if last.table is not None:
                closed += self._add(last.plan, last.table, last.partitions)
            over += last.over
            partitions = max(partitions, last.partitions)
        if last is not None:
            rows += self._close(*(topic_watermark(self.marks, partitions, promises=promises) for promises in (True, False)))
            rows += self._provisional(last.clock_ms, partitions)
            over += self.merger.over
            self.merger.over = 0
        return Turn(rows, closed, self._passed(before_ms), over)

    def _plan(self, partial: Partial) -> None:
        """The plan of most schema versions wins: readers meet a new schema at different moments, and after a start anew."""
        before = getattr(self, "plan", None)
        if before is not None and not newer(partial.plan, before):
            return
        held, fed = {}, []
        if before is not None:
            held = {name: it.tables() for name, it in self.assemblers.items()}
            fed = [(length, None if feed is None else self.lengths[feed]) for length, feed in zip(self.lengths, self.feeds, strict=True)]
            self.since = self.since.after(before, partial.plan, self._reached())

        def conformed(table: pl.DataFrame) -> pl.DataFrame:
            return aggregates.conform(table, partial.plan, self.scales)

        self._adopt(partial.plan, partial.group_set, {name: [conformed(table) for table in tables] for name, tables in held.items()})
        self.stored_plan = plain(self.plan)
        self.levels = {length: Tiers(map(conformed, level.parts)) for length, level in self.levels.items()}
        if before is not None:
            self._leave(fed)
            self.rests = [table for rest in self.rests if (table := renumbered(conformed(rest), before, self.plan)) is not None]
            self.published = None if self.published is None else renumbered(self.published, before, self.plan)
        self.scales = aggregates.scales(self.plan)

    def _reached(self) -> int:
        """Where no slice ends later that anything was folded in; NEVER where nothing was. The watermarks tell all shards the same."""
        slice_ms = self.plan.slice_ms
        ends = [int(table[START].to_numpy().max()) + slice_ms for table in self._level(SLICES) if len(table)]
        seen = [mark.seen_ms + self.plan.lateness_ms for mark in self.marks.values() if mark.seen_ms > NEVER]
        reached = [*ends, *((time_ms // slice_ms + 1) * slice_ms for time_ms in seen)]
        return max(self.closed_ms, *reached) if reached else NEVER

    def _leave(self, fed: Sequence[tuple[int, int | None]]) -> None:
        """What is open in stretches of lengths that are gone goes on in those that they fed. `fed`: former lengths, and what fed each."""
        for gone in [length for length, _ in fed if length not in self.lengths]:
            table = self._merged(gone)
            self.levels.pop(gone, None)
            for length in [length for length, feed in fed if feed == gone]:
                if table is not None:
                    self._put(length, self._lifted(table, length))

    def _adopt(self, plan: TopicPlan, group_set: tuple[str, ...], held: Mapping[str, Sequence[pl.DataFrame]]) -> None:
        self.plan, self.group_set = plan, group_set
        self.groups = [f"by:{path}" for path in group_set]
        self.lengths = sorted({window.pane_ms for window in plan.windows} - {0})
        self.feeds = cascade(self.lengths)
        self.merger = Merger(plan, self.groups, limit.keep_of(plan))
        self.assemblers = {w.label: assembler(w, held.get(w.label, ())) for w in plan.windows if not w.is_fixed}

    def _add(self, plan: TopicPlan, table: pl.DataFrame, partitions: int) -> int:
        if (plan.generation, plan.version) != (self.plan.generation, self.plan.version):
            table = aggregates.conform(table, self.plan, aggregates.scales(plan))
        late = table[START] <= self.closed_ms - self.plan.slice_ms
        closed = 0
        if late.any():
            table, gone = parted(table, ~late)
            closed = int(gone[aggregates.EVENTS].sum())
        self._put(SLICES, table)
        if self.plan.update_ms is not None and not self.is_full:
            self._touch(table, partitions)
        return closed

    def _touch(self, table: pl.DataFrame, partitions: int) -> None:
        """What changed waits to be told. What is alike is found when many rows wait, as that costs more than to fold them."""
        self.touched.append(table)
        self.unseen += len(table) + TABLE_ROWS
        if self.unseen <= LOOSE_ROWS:
            return
        if self._is_fresh(partitions):
            self._wait(self._changed())
        else:
            self._forget()

    def _wait(self, changed: pl.DataFrame) -> None:
        """These are told next: the first first, or any LOOSE_ROWS of them where they are more."""
        self.is_full = len(changed) >= LOOSE_ROWS
        if len(changed) > LOOSE_ROWS:
            changed = changed.sample(LOOSE_ROWS, seed=self.updated_ms % 2**32)  # always others, or the last ones never had their turn
        self.touched = [changed] if len(changed) else []

    def _forget(self) -> None:
        """What changed while catching up will be told by the finals; but for the last table, which may be at the end."""
        self.touched, self.unseen, self.is_full = self.touched[-1:], 0, False

    def _is_fresh(self, partitions: int) -> bool:
        """Whether none of the partitions lags; what is known of others is of some that are gone."""
        return all(mark.fresh for partition, mark in self.marks.items() if partition < partitions)

    def _put(self, level: int, table: pl.DataFrame) -> None:
        """Add to a level, to be merged later."""
        self.levels.setdefault(level, Tiers()).add(table, self._whole(level))

    def _whole(self, level: int) -> Merge:
        """How tables of a level become one: a row for each stretch and group that is kept, and one for the rest."""

        def whole(tables: list[pl.DataFrame]) -> pl.DataFrame:
            is_merged = len(tables) == 1 and level == SLICES  # longer stretches are put together of several
            table = tables[0] if is_merged else self.merger.merge(tables)
            return self.merger.cut(table if level == SLICES else aggregates.settle(table, self.plan))

        return whole

    def _close(self, watermark_ms: int, data_ms: int) -> list[Rows]:
        """Slices and windows whose end is at or below floor(W / slice) * slice; each closed stretch feeds the next size."""
        slice_ms = self.plan.slice_ms
        closed_ms = watermark_ms // slice_ms * slice_ms
        self.closed_by_data_ms = max(self.closed_by_data_ms, data_ms // slice_ms * slice_ms)
        if closed_ms <= self.closed_ms:
            return []
        before_ms, self.closed_ms = self.closed_ms, closed_ms
        slices = self._split(SLICES, slice_ms, before_ms)
        panes = self._cascaded(None if slices is None else aggregates.settle(slices, self.plan), before_ms)
        closing = [self._closing(window, panes, before_ms) for window in self.plan.windows]
        return self._final(table) if (table := joined(closing)) is not None else []

    def _cascaded(self, slices: pl.DataFrame | None, before_ms: int) -> dict[int, pl.DataFrame | None]:
        """Length -> the stretches that closed, each fed by smaller ones. Slices stand at their own length."""
        closed: dict[int, pl.DataFrame | None] = {self.plan.slice_ms: slices}
        for length, feed in zip(self.lengths, self.feeds, strict=True):
            if length == self.plan.slice_ms:
                continue
            source = slices if feed is None else closed[self.lengths[feed]]
            if source is not None:
                self._put(length, self._lifted(source, length))
            closed[length] = self._split(length, length, before_ms)
        return closed

    def _closing(self, window: Window, panes: Mapping[int, pl.DataFrame | None], before_ms: int) -> list[Placed]:
        """The windows of one size that closed."""
        pane = panes[window.pane_ms or self.plan.slice_ms]
        if window.is_fixed:
            whole = None if pane is None else filled(self.since.told(pane, window))
            return [] if whole is None else [(whole, whole[START].to_numpy() + window.size_ms)]
        if window.kind == "session" and pane is not None:
            slices = self.since.taken(pane, window)
            if self.groups:
                slices, rest = parted(slices, ~limit.is_rest(slices, self.groups))
                self._rest(rest, window)
            pane = filled(slices)
        told = self.assemblers[window.label].take(pane, (before_ms, self.closed_ms), self.merger)
        return [(table.drop(END), table[END].to_numpy()) for table in (self.since.told(it, window) for it in told) if len(table)]

    def _passed(self, before_ms: int) -> Passed | None:
        """How far windows have closed since; None where none with groups can have."""
        if self.closed_ms <= before_ms or not self.groups:
            return None
        edges = {window.pane_ms or self.plan.slice_ms for window in self.plan.windows}
        if all(before_ms // length == self.closed_ms // length for length in edges):
            return None
        rests = pl.concat(self.rests) if self.rests else None
        return Passed(self.plan, self.group_set, self.closed_ms, self.closed_by_data_ms, rests, self.since)

    def _rest(self, rest: pl.DataFrame, session: Window | None = None) -> None:
        """Groups over the limit: all shards' together have a row."""
        if session is not None:
            window = pl.lit(self.plan.windows.index(session), pl.Int64).alias(WINDOW)
            rest = rest.with_columns(window, pl.lit(None, pl.Int64).alias(END))
        if len(rest):
            rest = rest.drop(self.groups)
            self.rests.append(rest.select(self.rests[0].columns) if self.rests else rest)

    def _split(self, level: int, length: int, before_ms: int) -> pl.DataFrame | None:
        """The closed part of a level, or None; the open part stays. Nothing to do unless an edge of this length was passed."""
        if before_ms // length == self.closed_ms // length or (table := self._merged(level)) is None:
            return None
        done, rest = parted(table, table[START] <= self.closed_ms - length)
        self.levels[level] = Tiers([rest] if len(rest) else [], is_whole=True)
        return filled(done)

    def _lifted(self, source: pl.DataFrame, length: int) -> pl.DataFrame:
        """Closed stretches as parts of longer ones, to be merged when those close."""
        starts = start_of(source[START].to_numpy(), length)
        return source.clone().replace_column(source.get_column_index(START), pl.Series(START, starts))

    def _merged(self, level: int) -> pl.DataFrame | None:
        """A level as one table."""
        return self.levels[level].one(self._whole(level)) if level in self.levels else None

    def _final(self, table: pl.DataFrame) -> list[Rows]:
        """The rows of closed windows whose groups have rows of their own."""
        if self.groups and (is_rest := limit.is_rest(table, self.groups)).any():
            table, rest = parted(table, ~is_rest)
            self._rest(rest)
        by_data = (table[END] <= self.closed_by_data_ms).to_numpy()
        rows = [self._rows(table, final=True, closed_by=CLOSED_BY[by_data.astype(np.int64)])] if len(table) else []
        if self.published is not None and (self.published[END] <= self.closed_ms).any():
            self.published = filled(self.published.filter(pl.col(END) > self.closed_ms))
        return rows

    def _provisional(self, clock_ms: int, partitions: int) -> list[Rows]:
        """Rows of open windows that changed since the last time: at most every `update`, and only while none of the partitions lags."""
        plan = self.plan
        if plan.update_ms is None or not self.touched or clock_ms < self.updated_ms + plan.update_ms:
            return []
        if not self._is_fresh(partitions):
            self._forget()
            return []
        self.updated_ms = clock_ms
        folds = sum(map(plan.shards_of, plan.group_sets))
        most = max(1, ROWS_A_SECOND * plan.update_ms // 1000 // (folds * len(plan.windows)))
        changed = self._changed()
        self._wait(changed.slice(most))
        if not len(changed):
            return []
        table = self._so_far(changed.head(most))
        return [] if table is None else [self._rows(table, final=False, closed_by=alike("closed_by", None, pl.String(), len(table)))]

    def _so_far(self, changed: pl.DataFrame) -> pl.DataFrame | None:
        """What is known of the open windows that may be told and have changed: WINDOW, START, END, groups, accumulators."""
        keys, asked, found = [WINDOW, START, END, *self.groups], list[pl.DataFrame](), list[pl.DataFrame]()
        for number, window in enumerate(self.plan.windows):
            which = pl.lit(number, pl.Int64).alias(WINDOW)
            mine, parts = self._upcoming(window, changed)
            asked.append(mine.with_columns(which).select(keys))
            found += [self.since.told(part, window).with_columns(which) for part in self._kept(window, parts) if len(part)]
        if not found:
            return None
        order = found[0].columns
        table = pl.concat([part.select(order) for part in found]).join(pl.concat(asked), on=keys, how="semi", nulls_equal=True)
        return self.merger.merge([table], WINDOW, END) if len(table) else None

    def _upcoming(self, window: Window, changed: pl.DataFrame) -> tuple[pl.DataFrame, list[pl.DataFrame]]:
        """What of it has changed, and the parts of its open windows that may be told: START, END, groups, and accumulators of parts."""
        parts = self._open(window)
        if window.kind == "tumbling":
            if not window.is_fixed:
                parts += self.assemblers[window.label].tables()
            asked, *found = (self._placed(window, table) for table in (changed, *parts))
            return asked, found
        if window.kind == "session" or self.closed_ms == NEVER or not (next_ := self.assemblers[window.label].upcoming(self.closed_ms)):
            return changed.clear().with_columns(pl.col(START).alias(END)), []
        here, [start, end] = pl.col(START).is_between(*next_, closed="left"), (pl.lit(it, pl.Int64) for it in next_)
        found = [table.filter(here) for table in parts] + self.assemblers[window.label].so_far(next_[0], self.merger)
        asked, *found = (table.with_columns(start.alias(START), end.alias(END)) for table in (changed.filter(here), *found))
        return asked, found

    def _placed(self, window: Window, table: pl.DataFrame) -> pl.DataFrame:
        """Stretches as parts of the tumbling windows that hold them; a window is its own."""
        if window.is_fixed:
            start = start_of(pl.col(START), window.size_ms)
            return table.with_columns(start, (start + window.size_ms).alias(END))
        starts, ends = bounds(window, table[START].to_numpy())
        return table.with_columns(pl.Series(START, starts), pl.Series(END, ends))

    def _changed(self) -> pl.DataFrame:
        """Slice and group of what was touched, where an open window may still tell of it; when they are many, only groups that are kept."""
        changed = pl.concat([table.select(START, *self.groups) for table in self.touched])
        self.unseen = 0
        starts = changed[START].to_numpy()
        is_open = np.any([self._last_end(window, starts) > self.closed_ms for window in self.plan.windows], axis=0)
        if not is_open.all():
            changed = changed.filter(pl.Series(is_open))
        changed = changed.unique(maintain_order=True) if len(changed) else changed
        if not self.groups or not len(changed):
            return changed
        changed = changed.filter(~limit.is_rest(changed, self.groups))
        if len(changed) <= self.merger.keep:
            return changed
        held = [table for it in self.assemblers.values() for table in it.tables()]
        known = [table.select(self.groups) for table in (*(table for level in self.levels for table in self._level(level)), *held)]
        kept = pl.concat(known).unique() if known else changed.select(self.groups).clear()
        return changed.join(kept, on=self.groups, how="semi", nulls_equal=True)

    def _last_end(self, window: Window, starts: Any) -> Any:  # noqa: ANN401 - an array of times
        """The end of the last window that has a slice."""
        if window.kind == "session":
            return np.full_like(starts, NEVER)
        return starts + window.size_ms if window.kind == "hopping" else bounds(window, starts)[1]

    def _kept(self, window: Window, tables: list[pl.DataFrame]) -> list[pl.DataFrame]:
        """Where a window may have more groups than it keeps: one table, cut; what was told of groups that are gone is forgotten."""
        if not self.groups or sum(map(len, tables)) <= self.merger.keep:
            return tables
        ends = pl.concat([table.select(START, END) for table in tables]).unique()
        table = self.merger.cut(self.merger.merge([table.drop(END) for table in tables])).join(ends, on=START)
        if self.published is not None:
            mine, keys = pl.col(WINDOW) == self.plan.windows.index(window), [START, END, *self.groups]
            stays = self.published.filter(mine).join(table, on=keys, how="semi", nulls_equal=True)
            self.published = filled(pl.concat([self.published.filter(~mine), stays]))
        return [table]

    def _open(self, window: Window) -> list[pl.DataFrame]:
        """The tables whose rows will end in a window or its panes: those of its length and of what feeds it, down to the slices."""
        found: list[pl.DataFrame] = []
        number = self.lengths.index(window.pane_ms) if window.pane_ms else None
        while number is not None:
            found += self._level(self.lengths[number])
            number = self.feeds[number]
        return [*found, *self._level(SLICES)]

    def _level(self, level: int) -> list[pl.DataFrame]:
        """A level in parts."""
        return self.levels[level].few(self._whole(level)) if level in self.levels else []

    def _rows(self, table: pl.DataFrame, *, final: bool, closed_by: pl.Series) -> Rows:
        """Results of a table of accumulators; a revision counts the rows of this window and group that went out before."""
        keys = [WINDOW, START, END, *self.groups]
        told = [*(table[name] for name in (*keys, aggregates.EVENTS)), alike("final", final, pl.Boolean(), len(table)), closed_by]
        table = self.since.known(pl.DataFrame([*told, *aggregates.results(table, self.plan).get_columns()]))
        if self.published is None:
            table = table.hstack([alike("revision", 0, pl.Int64(), len(table))])
        else:
            table = table.join(self.published, on=keys, how="left", nulls_equal=True).with_columns((pl.col("revision") + 1).fill_null(0))
        if not final:
            newest = table.select(*keys, "revision")
            older = [] if self.published is None else [self.published.join(newest, on=keys, how="anti", nulls_equal=True)]
            self.published = pl.concat([*older, newest])
        return Rows(self.plan, self.group_set, table, self.since)


def joined(found: Sequence[Sequence[Placed]]) -> pl.DataFrame | None:
    """Tables of each of the plan's windows in turn, with their ENDs, as one with WINDOW and END; None where there are none."""
    placed = [(number, table, ends) for number, of_one in enumerate(found) for table, ends in of_one]
    if not placed:
        return None
    columns = placed[0][1].columns
    table = pl.concat([table.select(columns) if table.columns != columns else table for _, table, _ in placed])
    numbers = np.repeat([number for number, _, _ in placed], [len(ends) for _, _, ends in placed])
    return table.hstack([pl.Series(WINDOW, numbers, pl.Int64), pl.Series(END, np.concatenate([ends for _, _, ends in placed]))])


def alike(name: str, value: object, dtype: pl.DataType, count: int) -> pl.Series:
    """A column of one value."""
    return pl.Series(name, [value], dtype).new_from_index(0, count)


def parted(table: pl.DataFrame, mask: pl.Series) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows where it is true, and the others. Often that is all of them: a question to polars costs a small table more than its rows."""
    if mask.all():
        return table, table.clear()
    return table.filter(mask), table.filter(~mask)


def filled(table: pl.DataFrame) -> pl.DataFrame | None:
    """A table, or None for an empty one."""
    return table if len(table) else None
