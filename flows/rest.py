"""The rest of a group set: what has no row of its own, in one row a window. In: how far each shard has closed, its rests. Out: rows. Pure.

    shard 0   closed to 10 s, rest of [0, 10)  ──┐
    shard 1   closed to 10 s, no rest          ──┼──► the row of [0, 10): when the last shard has closed it
    shard 2   closed to  0 s                   ──┘

Every shard tells how far it is, also without a rest: only so the others' is known to be complete.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from flows import aggregates
from flows.assembly import Assembler, Merger
from flows.fold import Passed, Rows, newer, packed, unpacked
from flows.kinds import assembler
from flows.limit import OTHER
from flows.plan import TopicPlan, of_plain, plain
from flows.watermark import NEVER
from flows.windows import END, START, Window

STATE_VERSION = 2


class Rest:
    """The rests of one `topic|group set`, of windows that some shard has closed and another has not."""

    plan: TopicPlan
    group_set: tuple[str, ...]

    def __init__(self, shards: int, state: Mapping[str, Any] | None = None) -> None:
        """Anew, or from a `snapshot()`."""
        state = state or {"version": STATE_VERSION, "closed": {}, "open": {}, "sessions": {}, "scales": {}}
        if state["version"] != STATE_VERSION:
            raise ValueError(f"state of version {state['version']}, this program reads version {STATE_VERSION}")
        self.closed_ms: dict[int, int] = dict.fromkeys(range(shards), NEVER) | state["closed"]
        self.scales: dict[str, int] = state["scales"]
        self.open: dict[str, pl.DataFrame] = {name: unpacked(table) for name, table in state["open"].items()}
        self.stored_plan: dict[str, Any] | None = state.get("plan")
        self.sessions: dict[str, Assembler] = {}
        if self.stored_plan is not None:
            self._adopt(
                of_plain(self.stored_plan), tuple(state["group_set"]), {n: unpacked(table) for n, table in state["sessions"].items()}
            )

    def snapshot(self) -> dict[str, Any]:
        """Everything that cannot be had again, tables as Arrow IPC bytes."""
        return {
            "version": STATE_VERSION,
            "closed": dict(self.closed_ms),
            "open": {name: packed(table) for name, table in self.open.items()},
            "sessions": {name: packed(table) for name, table in self._sessions().items()},
            "scales": self.scales,
            "plan": self.stored_plan,
            "group_set": getattr(self, "group_set", ()),
        }

    def take(self, told: Iterable[tuple[int, Passed]]) -> list[Rows]:
        """Add what shards tell, each with its number; then the rows of the windows that all of them have closed."""
        rows: list[Rows] = []
        for shard, passed in told:
            self._plan(passed)
            for name, rest in passed.rests.items():
                table = aggregates.conform(rest, self.plan, aggregates.scales(passed.plan))
                self.open[name] = pl.concat([self.open[name], table.select(self.open[name].columns)]) if name in self.open else table
            for closed_ms, by_data_ms in passed.steps:
                before_ms = min(self.closed_ms.values())
                self.closed_ms[shard] = max(self.closed_ms[shard], closed_ms)
                if (now_ms := min(self.closed_ms.values())) > before_ms and (self.open or self.sessions):
                    rows += [found for window in self.plan.windows if (found := self._final(window, (before_ms, now_ms), by_data_ms))]
        return rows

    def _plan(self, passed: Passed) -> None:
        """The plan of the newest schema version wins, as in the fold."""
        if not hasattr(self, "plan") or newer(passed.plan, self.plan):

            def conformed(tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
                return {name: aggregates.conform(table, passed.plan, self.scales) for name, table in tables.items()}

            self._adopt(passed.plan, passed.group_set, conformed(self._sessions()))
            self.stored_plan = plain(self.plan)
            self.open = conformed(self.open)
            self.scales = aggregates.scales(self.plan)

    def _adopt(self, plan: TopicPlan, group_set: tuple[str, ...], held: Mapping[str, pl.DataFrame]) -> None:
        self.plan, self.group_set = plan, group_set
        self.merger = Merger(plan, (), 1)
        self.sessions = {w.label: assembler(w, held.get(w.label)) for w in plan.windows if w.kind == "session"}

    def _sessions(self) -> dict[str, pl.DataFrame]:
        return {name: table for name, it in self.sessions.items() if (table := it.table()) is not None}

    def _final(self, window: Window, span: tuple[int, int], by_data_ms: int) -> Rows | None:
        """The rows of the windows that ended in the span. Closed by data if event times alone closed it in the last shard to do so."""
        table = self.open.pop(window.label, None)
        if window.kind == "session":
            table = self._session(window, table, span)
        elif table is not None:
            done = pl.col(END) <= span[1]
            if len(still := table.filter(~done)):
                self.open[window.label] = still
            table = table.filter(done)
        if table is None or table.is_empty():
            return None
        table = aggregates.settle(aggregates.merge(table, self.plan, [START, END]), self.plan)
        told = table.select(
            START,
            END,
            *(pl.lit(OTHER).alias(f"by:{path}") for path in self.group_set),
            aggregates.EVENTS,
            pl.lit(value=True).alias("final"),
            pl.when(pl.col(END) <= by_data_ms).then(pl.lit("data")).otherwise(pl.lit("idle")).alias("closed_by"),
            pl.lit(0, pl.Int64).alias("revision"),
        )
        known = aggregates.results(table, self.plan)
        counters = [f"kpi:{kpi.name}" for kpi in self.plan.kpis if kpi.aggregate == "increase"]  # of many groups they are no one counter
        known = known.with_columns(pl.lit(None, known.schema[name]).alias(name) for name in counters)
        return Rows(self.plan, self.group_set, window, pl.concat([told, known], how="horizontal"))

    def _session(self, window: Window, slices: pl.DataFrame | None, span: tuple[int, int]) -> pl.DataFrame | None:
        """The rest's closed sessions: of the slices that every shard has closed, as a session may go on in another shard."""
        done = None
        if slices is not None:
            is_done = pl.col(START) < span[1]
            if len(still := slices.filter(~is_done)):
                self.open[window.label] = still
            done = slices.filter(is_done)
        found = self.sessions[window.label].take(done if done is not None and len(done) else None, span, self.merger)
        return found[0] if found else None
