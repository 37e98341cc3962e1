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
from flows.fold import Passed, Rows, newer, packed, unpacked
from flows.limit import OTHER
from flows.plan import TopicPlan, of_plain, plain
from flows.watermark import NEVER
from flows.windows import END, START, Window

STATE_VERSION = 1
BY_DATA = "by_data"


class Rest:
    """The rests of one `topic|group set`, of windows that some shard has closed and another has not."""

    plan: TopicPlan
    group_set: tuple[str, ...]

    def __init__(self, shards: int, state: Mapping[str, Any] | None = None) -> None:
        """Anew, or from a `snapshot()`."""
        state = state or {"version": STATE_VERSION, "closed": {}, "open": {}, "scales": {}}
        if state["version"] != STATE_VERSION:
            raise ValueError(f"state of version {state['version']}, this program reads version {STATE_VERSION}")
        self.closed_ms: dict[int, int] = dict.fromkeys(range(shards), NEVER) | state["closed"]
        self.scales: dict[str, int] = state["scales"]
        self.open: dict[int, pl.DataFrame] = {size_ms: unpacked(table) for size_ms, table in state["open"].items()}
        self.stored_plan: dict[str, Any] | None = state.get("plan")
        if self.stored_plan is not None:
            self.plan, self.group_set = of_plain(self.stored_plan), tuple(state["group_set"])

    def snapshot(self) -> dict[str, Any]:
        """Everything that cannot be had again, tables as Arrow IPC bytes."""
        return {
            "version": STATE_VERSION,
            "closed": dict(self.closed_ms),
            "open": {size_ms: packed(table) for size_ms, table in self.open.items()},
            "scales": self.scales,
            "plan": self.stored_plan,
            "group_set": getattr(self, "group_set", ()),
        }

    def take(self, told: Iterable[tuple[int, Passed]]) -> list[Rows]:
        """Add what shards tell, each with its number; then the rows of the windows that all of them have closed."""
        for shard, passed in told:
            self._plan(passed)
            for size_ms, table in passed.rests.items():
                older = [self.open[size_ms]] if size_ms in self.open else []
                self.open[size_ms] = pl.concat([*older, aggregates.conform(table, self.plan, aggregates.scales(passed.plan))])
            self.closed_ms[shard] = max(self.closed_ms[shard], passed.closed_ms)
        return [rows for window in self.plan.windows if (rows := self._final(window)) is not None] if self.open else []

    def _plan(self, passed: Passed) -> None:
        """The plan of the newest schema version wins, as in the fold."""
        if not hasattr(self, "plan") or newer(passed.plan, self.plan):
            self.plan, self.group_set = passed.plan, passed.group_set
            self.stored_plan = plain(self.plan)
            self.open = {size_ms: aggregates.conform(table, self.plan, self.scales) for size_ms, table in self.open.items()}
            self.scales = aggregates.scales(self.plan)

    def _final(self, window: Window) -> Rows | None:
        """Closed by data if event times alone closed it in a shard, as the last one to close it has seen all of them."""
        if (table := self.open.pop(window.size_ms, None)) is None:
            return None
        by_data = table.group_by(START).agg(pl.col(BY_DATA).any())
        table = (
            aggregates.merge(table, self.plan, [START]).join(by_data, on=START).with_columns((pl.col(START) + window.size_ms).alias(END))
        )
        done = pl.col(START) + window.size_ms <= min(self.closed_ms.values())
        if len(still := table.filter(~done)):
            self.open[window.size_ms] = still.select(START, BY_DATA, pl.exclude(START, END, BY_DATA))
        if (table := table.filter(done)).is_empty():
            return None
        told = table.select(
            START,
            END,
            *(pl.lit(OTHER).alias(f"by:{path}") for path in self.group_set),
            aggregates.EVENTS,
            pl.lit(value=True).alias("final"),
            pl.when(BY_DATA).then(pl.lit("data")).otherwise(pl.lit("idle")).alias("closed_by"),
            pl.lit(0, pl.Int64).alias("revision"),
        )
        return Rows(self.plan, self.group_set, window, pl.concat([told, aggregates.results(table, self.plan)], how="horizontal"))
