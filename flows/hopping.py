"""Hopping windows by two stacks. In: closed panes, how far windows are closed. Out: closed windows. Pure.

panes    |-|-|-|-|-|:|-|-|-|         what is left of `:` is merged from there back, what is right of it from there on,
window        [---------)            so a window is what is left from its start on and all that is right, however many panes it has
"""

from collections.abc import Iterator
from math import isqrt

import polars as pl

from flows.assembly import Assembler, Merger, Span
from flows.windows import END, START, Window


class Hopping(Assembler):
    """Panes of the last `size`, and what is merged of them: two stacks, and the left one in two levels.

    When a window begins at or after the middle, all panes so far go to the left: they are merged from there back, a block of about √n panes
    at a time, and within a block only when windows begin in it. So it never stops for n merges at once: 3,600 of 1,000
    groups took 2.5 s. (Two stacks: Tangwongsan, Hirzel, Schneider, DEBS 2017.)
    """

    def __init__(self, window: Window, held: pl.DataFrame | None = None) -> None:
        """Anew, or from a `table()`."""
        super().__init__(window)
        self.block_ms = window.pane_ms * max(1, isqrt(window.size_ms // window.pane_ms))
        self.panes: dict[int, pl.DataFrame] = {}  # start -> table, rising
        self.middle_ms = 0
        self.right: pl.DataFrame | None = None  # of panes from the middle on
        self.reached_ms = 0  # up to which panes are on the right
        self.blocks: dict[int, pl.DataFrame] = {}  # start of a block -> of panes from there to the middle
        self.left: dict[int, pl.DataFrame] = {}  # start of a pane -> of panes from there to its block's end; of one block
        if held is not None:
            self._put(held)

    def take(self, panes: pl.DataFrame | None, span: Span, merger: Merger) -> list[pl.DataFrame]:
        """See Assembler. Windows without a pane are none."""
        if panes is not None:
            self._put(panes)
        told = []
        for start_ms, end_ms in self._closing(span):
            if found := self._found(start_ms, end_ms, merger):
                whole = merger.whole(found).with_columns(pl.lit(end_ms, pl.Int64).alias(END))
                told.append(whole)
        self._forget(self.upcoming(span[1])[0])
        return told

    def upcoming(self, closed_ms: int) -> tuple[int, int]:
        """See Assembler."""
        size_ms, hop_ms = self.window.size_ms, self.window.step_ms
        start_ms = ((closed_ms - size_ms) // hop_ms + 1) * hop_ms
        return start_ms, start_ms + size_ms

    def so_far(self, start_ms: int, merger: Merger) -> list[pl.DataFrame]:
        """See Assembler."""
        return self._found(start_ms, max(self.panes, default=start_ms) + 1, merger)

    def table(self) -> pl.DataFrame | None:
        """The panes: all else follows from them."""
        return pl.concat(self.panes.values()) if self.panes else None

    def _put(self, table: pl.DataFrame) -> None:
        parts = table.partition_by(START, as_dict=True)
        self.panes |= {int(start_ms): part for (start_ms,), part in sorted(parts.items())}

    def _closing(self, span: Span) -> Iterator[tuple[int, int]]:
        """The windows that end in the span and have panes."""
        if not self.panes:
            return
        size_ms, hop_ms = self.window.size_ms, self.window.step_ms
        first_ms, last_ms = min(self.panes), max(self.panes)
        ends_after_ms = max(span[0], first_ms)
        start_ms = ((ends_after_ms - size_ms) // hop_ms + 1) * hop_ms
        while start_ms <= last_ms and start_ms + size_ms <= span[1]:
            yield start_ms, start_ms + size_ms
            start_ms += hop_ms

    def _found(self, start_ms: int, end_ms: int, merger: Merger) -> list[pl.DataFrame]:
        """Tables of all panes in [start, end), at most three of them. Windows come in their order."""
        first_ms = next((at for at in self.panes if at >= start_ms), end_ms)
        if first_ms >= end_ms:
            return []
        if first_ms >= self.middle_ms:
            self._turn(end_ms, merger)
        for at in [at for at in self.panes if self.reached_ms <= at < end_ms]:
            pane = [self._as_one(self.panes[at])]
            self.right = merger.whole(pane if self.right is None else [self.right, *pane])
            self.reached_ms = at + 1
        block_ms = first_ms // self.block_ms * self.block_ms
        if first_ms not in self.left:
            self._open_block(block_ms, merger)
        after = [table for at, table in self.blocks.items() if at > block_ms][-1:]
        parts = [self.left[first_ms], *after, *([] if self.right is None else [self.right])]
        return [part.with_columns(pl.lit(start_ms, pl.Int64).alias(START)) for part in parts]

    def _turn(self, end_ms: int, merger: Merger) -> None:
        """All panes before the end go to the left."""
        self.middle_ms = self.reached_ms = end_ms
        self.right, self.blocks, self.left = None, {}, {}
        after: list[pl.DataFrame] = []
        inside = sorted({at // self.block_ms * self.block_ms for at in self.panes if at < end_ms}, reverse=True)
        for block_ms in inside:
            panes = [self._as_one(self.panes[at]) for at in self.panes if block_ms <= at < min(block_ms + self.block_ms, end_ms)]
            self.blocks[block_ms] = merger.whole([*panes, *after])
            after = [self.blocks[block_ms]]

    def _open_block(self, block_ms: int, merger: Merger) -> None:
        self.left = {}
        after: list[pl.DataFrame] = []
        for at in sorted((at for at in self.panes if block_ms <= at < min(block_ms + self.block_ms, self.middle_ms)), reverse=True):
            self.left[at] = merger.whole([self._as_one(self.panes[at]), *after])
            after = [self.left[at]]

    def _as_one(self, table: pl.DataFrame) -> pl.DataFrame:
        """A pane as part of something larger, whose start does not matter yet."""
        return table.with_columns(pl.lit(0, pl.Int64).alias(START))

    def _forget(self, start_ms: int) -> None:
        for at in [at for at in self.panes if at < start_ms]:
            del self.panes[at]
