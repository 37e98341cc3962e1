"""Which slices make up which window. In: sizes. Out: starts, and who feeds whom. Pure."""

from collections.abc import Sequence

import polars as pl

from flows.plan import Window

START = "start"  # the column of a table that says which stretch a row is of: its start, UTC ms


def start_of(time: pl.Expr, size_ms: int) -> pl.Expr:
    """The start of the stretch that holds a time: floor(t / size) * size, also before 1970. (Scotty, ICDE 2018.)"""
    return time.floordiv(size_ms) * size_ms


def cascade(windows: Sequence[Window]) -> list[int | None]:
    """For each window, smallest first, which one feeds it: the largest smaller one that divides it, else the slices (None).

    So a closed slice is merged once, and each larger size only merges what the smaller one has closed.

    >>> cascade([Window(10_000, "10s"), Window(60_000, "1m"), Window(300_000, "5m")])
    [None, 0, 1]
    >>> cascade([Window(10_000, "10s"), Window(15_000, "15s")])
    [None, None]
    """
    return [max((j for j in range(i) if w.size_ms % windows[j].size_ms == 0), default=None) for i, w in enumerate(windows)]
