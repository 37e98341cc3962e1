"""Hopping windows by blocks of panes. In: closed panes, how far windows are closed. Out: closed windows. Pure.

    panes    |-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|-|      four panes make a block, four blocks a larger one, each merged once
             [-------)-------)-------)-------)
    window       [-|-|-------|-------|-|)           and a window of n panes is put together of about 3 log4(n) of them

So `1h/1s` costs 17 tables a hop, not 3,600. Two stacks need fewer
merges still, but one after the other: they took four calls a hop, and all windows that close together here take one.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl

from flows.assembly import Assembler, Merger, Span
from flows.tiers import Tiers
from flows.windows import END, END_OF_TIME_MS, START, Window, start_of

FACTOR = 4  # panes a block, blocks a larger one
AT_ONCE = 64  # windows that are put together at once: about 140,000 rows of 125 groups


class Hopping(Assembler):
    """`blocks`: for each level its length, and start -> table of each block that is whole; the first are the panes."""

    def __init__(self, window: Window, tables: Sequence[pl.DataFrame] = ()) -> None:
        """Anew, or from its `tables()`."""
        super().__init__(window)
        self.panes, self.first_ms = Tiers(), 0  # all that came, and from when on windows need them
        lengths = [window.pane_ms]
        while lengths[-1] * FACTOR <= window.size_ms:
            lengths.append(lengths[-1] * FACTOR)
        self.blocks: dict[int, dict[int, pl.DataFrame]] = {length: {} for length in lengths}
        self.built_ms = dict.fromkeys(lengths, 0) | {window.pane_ms: END_OF_TIME_MS}  # up to which a level is built
        for table in tables:
            self._take(table)

    def take(self, panes: pl.DataFrame | None, span: Span, merger: Merger) -> list[pl.DataFrame]:
        """See Assembler. Windows without a pane are none."""
        if panes is not None:
            self._take(panes)
        self._build(span[1], merger)
        starts = list(self._closing(span))
        told = [self._whole(starts[n : n + AT_ONCE], merger) for n in range(0, len(starts), AT_ONCE)]
        self._forget(self.upcoming(span[1])[0])
        return told

    def upcoming(self, closed_ms: int) -> Span:
        """See Assembler."""
        size_ms, hop_ms = self.window.size_ms, self.window.step_ms
        start_ms = ((closed_ms - size_ms) // hop_ms + 1) * hop_ms
        return start_ms, start_ms + size_ms

    def so_far(self, start_ms: int, merger: Merger) -> list[pl.DataFrame]:
        """See Assembler."""
        found = self._parts(start_ms)
        return [merger.merge([pl.concat(found).with_columns(pl.lit(start_ms, pl.Int64).alias(START))])] if found else []

    def tables(self) -> list[pl.DataFrame]:
        """The panes: all else follows from them. Among them may be some that no window needs any more."""
        return self.panes.few(self._needed)

    def _needed(self, tables: list[pl.DataFrame]) -> pl.DataFrame:
        return pl.concat(tables).filter(pl.col(START) >= self.first_ms)

    def _take(self, panes: pl.DataFrame) -> None:
        self.panes.add(panes, self._needed)
        self._put(self.window.pane_ms, panes)

    def _put(self, length: int, table: pl.DataFrame) -> None:
        parts = table.partition_by(START, as_dict=True)
        self.blocks[length] |= {int(start_ms): part for (start_ms,), part in sorted(parts.items())}

    def _build(self, closed_ms: int, merger: Merger) -> None:
        """The blocks that became whole: those of a level of the blocks of the level below, all at once."""
        for below, length in zip(self.blocks, [*self.blocks][1:], strict=False):
            until_ms = closed_ms // length * length
            parts = [table for start_ms, table in self.blocks[below].items() if self.built_ms[length] <= start_ms < until_ms]
            self.built_ms[length] = max(self.built_ms[length], until_ms)
            if parts:
                self._put(length, merger.whole([pl.concat(parts).with_columns(start_of(pl.col(START), length))]))

    def _closing(self, span: Span) -> Iterator[int]:
        """The starts of the windows that end in the span and have panes."""
        panes = [*self.blocks[self.window.pane_ms]]
        start_ms = self.upcoming(span[0])[0]
        while (number := bisect_left(panes, start_ms)) < len(panes):
            start_ms = max(start_ms, self.upcoming(panes[number])[0])
            if start_ms + self.window.size_ms > span[1]:
                return
            yield start_ms
            start_ms += self.window.step_ms

    def _whole(self, starts: Sequence[int], merger: Merger) -> pl.DataFrame:
        """These windows, put together at once."""
        parts = [self._parts(start_ms) for start_ms in starts]
        rows = [sum(map(len, of_one)) for of_one in parts]
        table = pl.concat([part for of_one in parts for part in of_one]).with_columns(pl.Series(START, np.repeat(starts, rows)))
        return merger.whole([table]).with_columns((pl.col(START) + self.window.size_ms).alias(END))

    def _parts(self, start_ms: int) -> list[pl.DataFrame]:
        """The largest blocks that together are a window, as far as there is anything in them."""
        found, at, end_ms = list[pl.DataFrame](), start_ms, start_ms + self.window.size_ms
        largest_first = [*reversed(self.blocks)]
        while at < end_ms:
            length = next(it for it in largest_first if at % it == 0 and at + it <= min(end_ms, self.built_ms[it]))
            found += [self.blocks[length][at]] if at in self.blocks[length] else []
            at += length
        return found

    def _forget(self, start_ms: int) -> None:
        """Blocks that no window needs any more: those that begin before the next one does. Starts rise."""
        for blocks in self.blocks.values():
            while blocks and (first := next(iter(blocks))) < start_ms:
                del blocks[first]
        self.first_ms = start_ms
        self.panes.keep(lambda table: table[START].to_numpy().max(initial=0) >= start_ms)
