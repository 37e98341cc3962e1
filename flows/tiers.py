"""A table in parts, so that what does not change is neither merged nor written again. In: tables. Out: a few, or one. Pure.

    |-------------------------------| |-----------| |----| |-|      each part has at least twice the rows of the next one

A row is merged as often as the number of parts that its table once fitted into: log2 of all rows at most, and a snapshot writes
the last parts only. (The log-structured merge tree; O'Neil and others, 1996.)
"""

from collections.abc import Callable, Iterable
from itertools import chain

import polars as pl

FACTOR = 2
SMALL_ROWS = 1_000  # all together are one part; and so many may wait, with what their tables cost, for the next merge
TABLE_ROWS = 50  # what a table costs over its rows, in rows
LOOSE_ROWS = 50_000  # that wait to be merged, so that no stream, however many its groups, piles up more of them

Merge = Callable[[list[pl.DataFrame]], pl.DataFrame]


class Tiers:
    """`parts` together are the table: rows of one key in several of them are to be merged."""

    def __init__(self, parts: Iterable[pl.DataFrame] = (), *, is_whole: bool = False) -> None:
        """`is_whole`: it is one part, and merged."""
        self.parts = list(parts)
        self.is_whole = is_whole
        self.loose = sum(len(part) + TABLE_ROWS for part in self.parts[1:])  # rows that came since parts were merged, as far as is known

    def add(self, table: pl.DataFrame, merge: Merge) -> None:
        """Rows to be merged later, or now that more wait than are merged."""
        if table.is_empty() and self.parts:  # it is no longer than what follows it, so it would stay a part
            return
        self.parts.append(table)
        self.is_whole = False
        self.loose += len(table) + TABLE_ROWS
        if self.loose > max(LOOSE_ROWS, len(self.parts[0])):
            self.few(merge)

    def few(self, merge: Merge) -> list[pl.DataFrame]:
        """The parts, those merged that are of a length, or shorter than what follows them; of a few rows, only now and then."""
        if self.loose < SMALL_ROWS:
            return self.parts
        groups: list[list[pl.DataFrame]] = []
        for table in self.parts:
            group = [table]
            while groups and _rows(groups[-1]) < FACTOR * _rows(group):
                group = [*groups.pop(), *group]
            groups.append(group)
        if len(groups) > 1 and _rows(self.parts) < SMALL_ROWS:
            groups = [[*chain(*groups)]]
        self.parts = [group[0] if len(group) == 1 else merge(group) for group in groups]
        self.loose = 0
        return self.parts

    def keep(self, wanted: Callable[[pl.DataFrame], bool]) -> None:
        """Drop the parts that are not."""
        self.parts = [part for part in self.parts if wanted(part)]

    def one(self, merge: Merge) -> pl.DataFrame | None:
        """All of it merged; None where there is nothing."""
        if self.parts and not self.is_whole:
            self.parts, self.is_whole, self.loose = [merge(self.parts)], True, 0
        return self.parts[0] if self.parts else None


def _rows(tables: Iterable[pl.DataFrame]) -> int:
    return sum(map(len, tables))
