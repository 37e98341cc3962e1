"""The rest of a group set: what has no row of its own, in one row a window. In: how far each shard has closed, its rests. Out: rows. Pure.

    shard 0   closed to 10 s, rest of [0, 10)  ──┐
    shard 1   closed to 10 s, no rest          ──┼──► the row of [0, 10): when the last shard has closed it
    shard 2   closed to  0 s                   ──┘

Every shard tells how far it is, also without a rest: only so the others' is known to be complete.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from flows import aggregates
from flows.assembly import Assembler, Merger, Span
from flows.fold import Passed, Rows, filled, joined
from flows.kinds import assembler
from flows.limit import OTHER
from flows.plan import TopicPlan, of_plain, plain
from flows.since import Since, newer, renumbered
from flows.vault import packed, unpacked
from flows.watermark import NEVER
from flows.windows import END, START, WINDOW

STATE_VERSION = 4


class Rest:
    """The rests of one `topic|group set`, of windows that some shard has closed and another has not."""

    plan: TopicPlan
    group_set: tuple[str, ...]

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        """Anew, or from a `snapshot()`."""
        state = state or {"version": STATE_VERSION, "closed": {}, "open": None, "sessions": {}, "scales": {}, "since": {}}
        if state["version"] != STATE_VERSION:
            raise ValueError(f"state of version {state['version']}, this program reads version {STATE_VERSION}")
        self.closed_ms = dict[int, int](state["closed"])
        self.scales: dict[str, int] = state["scales"]
        self.since = Since(**state["since"])  # the latest that any shard told
        self.open: pl.DataFrame | None = unpacked(state["open"]) if state["open"] else None  # as Passed.rests
        self.stored_plan: dict[str, Any] | None = state.get("plan")
        self.sessions: dict[str, Assembler] = {}
        if self.stored_plan is not None:
            held = {name: [unpacked(table) for table in tables] for name, tables in state["sessions"].items()}
            self._adopt(of_plain(self.stored_plan), tuple(state["group_set"]), held)

    def snapshot(self) -> dict[str, Any]:
        """Everything that cannot be had again, tables as Arrow IPC bytes."""
        return {
            "version": STATE_VERSION,
            "closed": dict(self.closed_ms),
            "open": None if self.open is None else packed(self.open),
            "sessions": {name: [packed(table) for table in tables] for name, tables in self._sessions().items()},
            "scales": self.scales,
            "since": self.since.plain(),
            "plan": self.stored_plan,
            "group_set": getattr(self, "group_set", ()),
        }

    def take(self, told: Iterable[tuple[int, Passed]]) -> list[Rows]:
        """Add what shards tell, each with its number; then the rows of the windows that all of them have closed."""
        rows: list[Rows] = []
        for shard, passed in told:
            self._plan(passed)
            if passed.rests is not None:
                table = renumbered(aggregates.conform(passed.rests, self.plan, aggregates.scales(passed.plan)), passed.plan, self.plan)
                if table is not None:
                    self.open = table if self.open is None else pl.concat([self.open, table.select(self.open.columns)])
            before_ms = min(self.closed_ms.values())
            self.closed_ms[shard] = max(self.closed_ms[shard], passed.closed_ms)
            if (now_ms := min(self.closed_ms.values())) > before_ms:
                rows += self._final((before_ms, now_ms), passed.by_data_ms)
        return rows

    def _plan(self, passed: Passed) -> None:
        """The plan of the newest schema version wins, as in the fold."""
        before = getattr(self, "plan", None)
        if before is None or newer(passed.plan, before):
            if before is not None:
                waits = self.open is not None or self._sessions()
                self.since = self.since.after(before, passed.plan, max(self.closed_ms.values()) if waits else NEVER)

            held = {
                name: [aggregates.conform(table, passed.plan, self.scales) for table in tables] for name, tables in self._sessions().items()
            }
            self._adopt(passed.plan, passed.group_set, held)
            self.stored_plan = plain(self.plan)
            if self.open is not None and before is not None:
                self.open = renumbered(aggregates.conform(self.open, self.plan, self.scales), before, self.plan)
            self.scales = aggregates.scales(self.plan)
        if passed.plan.generation == self.plan.generation:
            self.since = self.since.latest(passed.since)

    def _adopt(self, plan: TopicPlan, group_set: tuple[str, ...], held: Mapping[str, Sequence[pl.DataFrame]]) -> None:
        self.plan, self.group_set = plan, group_set
        self.closed_ms = dict.fromkeys(range(plan.shards), NEVER) | self.closed_ms
        self.merger = Merger(plan, (), 1)
        self.sessions = {w.label: assembler(w, held.get(w.label, ())) for w in plan.windows if w.kind == "session"}

    def _sessions(self) -> dict[str, list[pl.DataFrame]]:
        return {name: tables for name, it in self.sessions.items() if (tables := it.tables())}

    def _final(self, span: Span, by_data_ms: int) -> list[Rows]:
        """The rows of the windows that ended in the span. Closed by data if event times alone closed it in the last shard to do so."""
        done = self._done(span[1])
        found = [self._closing(number, done, span) for number in range(len(self.plan.windows))]
        if (table := joined([[] if it is None else [(it.drop(END), it[END].to_numpy())] for it in found])) is None:
            return []
        told = table.select(
            WINDOW,
            START,
            END,
            *(pl.lit(OTHER).alias(f"by:{path}") for path in self.group_set),
            aggregates.EVENTS,
            pl.lit(value=True).alias("final"),
            pl.when(pl.col(END) <= by_data_ms).then(pl.lit("data")).otherwise(pl.lit("idle")).alias("closed_by"),
            pl.lit(0, pl.Int64).alias("revision"),
        )
        known = aggregates.results(table, self.plan)
        counters = {kpi.name for kpi in self.plan.kpis if kpi.aggregate == "increase"}  # of many groups they are no one counter
        absent = [f"kpi:{kpi.name}" for kpi in self.plan.kpis if counters & {kpi.name, *kpi.parts}]
        known = known.with_columns(pl.lit(None, known.schema[name]).alias(name) for name in absent)
        return [Rows(self.plan, self.group_set, self.since.known(pl.concat([told, known], how="horizontal")), self.since)]

    def _done(self, closed_ms: int) -> pl.DataFrame | None:
        """The windows, and a session window's slices, that every shard has closed."""
        if self.open is None:
            return None
        is_done = pl.col(END).fill_null(pl.col(START) + self.plan.slice_ms) <= closed_ms
        done, self.open = self.open.filter(is_done), filled(self.open.filter(~is_done))
        return filled(done)

    def _closing(self, number: int, done: pl.DataFrame | None, span: Span) -> pl.DataFrame | None:
        """The rest's windows of one size. A session may go on in another shard, so it is made of the slices of all of them."""
        window = self.plan.windows[number]
        mine = None if done is None else filled(done.filter(pl.col(WINDOW) == number).drop(WINDOW))
        if window.kind == "session":
            told = self.sessions[window.label].take(None if mine is None else mine.drop(END), span, self.merger)
            return filled(self.since.told(told[0], window)) if told else None
        mine = None if mine is None else filled(self.since.told(mine, window))
        return None if mine is None else aggregates.settle(aggregates.merge(mine, self.plan, [START, END]), self.plan)
