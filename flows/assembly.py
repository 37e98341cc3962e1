"""What windows are put together with. In: tables of accumulators. Out: fewer of them, and open windows that take panes. Pure.

A pane is a table of one stretch `pane_ms` long (see windows.Window): START, groups, accumulators. Kinds: kinds.py, hopping.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from flows import aggregates, limit
from flows.plan import TopicPlan
from flows.windows import START, Window

Span = tuple[int, int]  # from which moment to which windows have closed, UTC ms


@dataclass(slots=True)
class Merger:
    """How tables of a shard become one. `over`: how many groups of a stretch it has put into the rest so far."""

    plan: TopicPlan
    groups: Sequence[str]
    keep: int
    over: int = 0

    def merge(self, tables: Sequence[pl.DataFrame], *more: str) -> pl.DataFrame:
        """One row for each stretch (START, and `more`) and group; of parts that may grow still."""
        return aggregates.merge(pl.concat(tables), self.plan, [START, *more, *self.groups])

    def whole(self, tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """The same of closed parts, cut to the groups that are kept."""
        return self.cut(aggregates.settle(self.merge(tables), self.plan))

    def cut(self, table: pl.DataFrame) -> pl.DataFrame:
        """As many groups of each stretch as are kept, and the rest. The total has no groups to cut."""
        if not self.groups:
            return table
        table, over = limit.cut(table, self.groups, self.keep, self.plan)
        self.over += over
        return table


class Assembler(ABC):
    """The windows of one kind and size of a shard, as far as they are open."""

    held: pl.DataFrame | None

    def __init__(self, window: Window, tables: Sequence[pl.DataFrame] = ()) -> None:
        """Anew, or from its `tables()`."""
        self.window = window
        self.held = pl.concat(tables) if tables else None

    @abstractmethod
    def take(self, panes: pl.DataFrame | None, span: Span, merger: Merger) -> list[pl.DataFrame]:
        """Add panes that closed in the span. Result: the windows that closed in it, each once, with START and END."""

    def upcoming(self, closed_ms: int) -> Span | None:  # noqa: ARG002 - not of this kind
        """The window that closes next, of which alone provisional rows are told; None where there is none such."""
        return None

    def so_far(self, start_ms: int, merger: Merger) -> list[pl.DataFrame]:  # noqa: ARG002 - not of this kind
        """What it has of the window that closes next."""
        return []

    def tables(self) -> list[pl.DataFrame]:
        """Everything that cannot be had again; those that have not changed are the same objects."""
        return [] if self.held is None else [self.held]

    def _hold(self, table: pl.DataFrame) -> None:
        self.held = table if len(table) else None
