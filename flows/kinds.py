"""Windows that are no plain stretches. In: closed panes, how far windows are closed. Out: closed windows. Pure.

calendar   panes |-|-|-|-|-|-|-|     merged into the day, week, month or year that holds them
cumulate   panes |-|-|-|-|-|-|-|     merged into what the stretch has so far, which is told at each step
session    slices with their first and last event time, merged where they are closer than the gap
hopping    hopping.py
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from flows import aggregates
from flows.aggregates import FIRST_TIME as FIRST
from flows.aggregates import LAST_TIME as LAST
from flows.assembly import Assembler, Merger, Span
from flows.hopping import Hopping
from flows.windows import END, START, Times, Window, bounds, next_step, steps


def assembler(window: Window, tables: Sequence[pl.DataFrame] = ()) -> Assembler:
    """The one of a window's kind, anew or from its `tables()`."""
    match window.kind:
        case "hopping":
            return Hopping(window, tables)
        case "cumulate":
            return Cumulate(window, tables)
        case "session":
            return Session(window, tables)
    return Calendar(window, tables)


class Calendar(Assembler):
    """`held`: open windows, START their own. Provisional rows of all of them may be told, as of any tumbling window (see fold.py)."""

    def take(self, panes: pl.DataFrame | None, span: Span, merger: Merger) -> list[pl.DataFrame]:
        """See Assembler."""
        if panes is not None:
            starts, _ = bounds(self.window, panes[START].to_numpy())
            mine = panes.with_columns(pl.Series(START, starts))
            self.held = merger.whole([mine] if self.held is None else [self.held, mine])
        if self.held is None:
            return []
        _, ends = bounds(self.window, self.held[START].to_numpy())
        done = pl.Series(ends <= span[1])
        told = self.held.with_columns(pl.Series(END, ends)).filter(done)
        self._hold(self.held.filter(~done))
        return [told] if len(told) else []


class Cumulate(Assembler):
    """`held`: with START of the whole stretch and END of the step: what it has up to the last step, and the parts of steps after it."""

    def take(self, panes: pl.DataFrame | None, span: Span, merger: Merger) -> list[pl.DataFrame]:
        """See Assembler."""
        if panes is not None:
            times = panes[START].to_numpy()
            mine = panes.with_columns(pl.Series(START, bounds(self.window, times)[0]), pl.Series(END, next_step(self.window, times)))
            self.held = mine if self.held is None else pl.concat([self.held, mine.select(self.held.columns)])
        told: list[pl.DataFrame] = []
        while self.held is not None and (found := self._next(self.held, span)) is not None:
            start_ms, ends = found
            done = (pl.col(START) == start_ms) & (pl.col(END) <= ends[0])
            now = merger.whole([self.held.filter(done).drop(END)])
            told.append(now.join(pl.DataFrame({END: ends}), how="cross"))
            rest = self.held.filter(~done)
            over = ends[-1] == bounds(self.window, np.array([start_ms]))[1][0]
            now = now.with_columns(pl.lit(int(ends[-1]), pl.Int64).alias(END))
            self._hold(rest if over else pl.concat([now.select(rest.columns), rest]))
            span = (int(ends[-1]), span[1])
        return told

    def _next(self, held: pl.DataFrame, span: Span) -> tuple[int, Times] | None:
        """Of the first stretch that there is something to tell of its start and ends in the span, up to where more comes to it.

        A pane that a midnight parts (see windows.py) is there when its own step is told: it is in the next one, or the last.
        """
        known = held.select(START, END).unique().sort(START, END)
        start_ms, first_ms = known.row(0)
        edges = steps(self.window, start_ms)
        at = min(int(np.searchsorted(edges, max(span[0] + 1, first_ms))), len(edges) - 1)
        if edges[at] > span[1]:
            return None
        more = known.filter((pl.col(START) == start_ms) & (pl.col(END) > int(edges[at])))[END].to_list()
        return start_ms, edges[at : np.searchsorted(edges, min([span[1] + 1, *more]))]

    def upcoming(self, closed_ms: int) -> Span | None:
        """See Assembler."""
        times = np.array([closed_ms])
        return int(bounds(self.window, times)[0][0]), int(next_step(self.window, times)[0])

    def so_far(self, start_ms: int, merger: Merger) -> list[pl.DataFrame]:  # noqa: ARG002 - it is merged already
        """See Assembler."""
        if self.held is None:
            return []
        return [found.drop(END)] if len(found := self.held.filter(pl.col(START) == start_ms)) else []


class Session(Assembler):
    """`held`: open sessions, with FIRST and LAST."""

    def take(self, panes: pl.DataFrame | None, span: Span, merger: Merger) -> list[pl.DataFrame]:
        """See Assembler."""
        if panes is not None:
            tables = [panes] if self.held is None else [self.held, panes.select(self.held.columns)]
            self.held = self._apart(pl.concat(tables), merger)
        if self.held is None:
            return []
        end = pl.col(LAST) + self.window.size_ms
        done = end <= span[1]
        told = self.held.filter(done).with_columns(pl.col(FIRST).alias(START), end.alias(END))
        self._hold(self.held.filter(~done))
        return [told] if len(told) else []

    def _apart(self, table: pl.DataFrame, merger: Merger) -> pl.DataFrame:
        """One row a session: a new one begins where a group's next event is no less than the gap after all before it."""
        table = table.sort(FIRST)
        apart = (pl.col(FIRST) - pl.col(LAST).cum_max().shift(1) >= self.window.size_ms).fill_null(value=False).cum_sum().cast(pl.Int64)
        numbered = table.with_columns((apart.over(merger.groups) if merger.groups else apart).alias(START))
        return aggregates.settle(merger.merge([numbered]), merger.plan)
