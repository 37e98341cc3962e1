"""What the dashboard remembers: the newest windows of each KPI topic and group, and who is late or dead. In: rows. Out: points. No I/O.

Everything is bounded, so a process that is left open for a year holds no more than after a day. One thread writes, sessions read.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import nlargest
from types import MappingProxyType
from typing import NamedTuple

from serve.shape import TOTAL, Group, Row, Shape

POINTS = 360  # windows a group: an hour of 10 s
POINTS_FEW = 12  # windows a group where a topic has GROUPS of them
GROUPS = 5_000  # groups a KPI topic
BUDGET = GROUPS * POINTS_FEW  # points a KPI topic: about 30 MB
REASONS = 1_000  # pairs of source topic and reason that are counted one by one


class Point(NamedTuple):
    """A row, and the board's version when it came: greater than the version a session has seen means new or changed since."""

    row: Row
    change: int


@dataclass(slots=True)
class Series:
    """The windows of one group, by start. `version`: the board's at its last change."""

    points: list[Point] = field(default_factory=list)
    version: int = 0

    def upsert(self, row: Row, change: int, most: int) -> bool:
        """Put a row where its window is, unless what is there supersedes it; keep the newest `most`. True if something changed."""
        at = bisect_left(self.points, row.start_ms, key=lambda point: point.row.start_ms)
        point = Point(row, change)
        if at < len(self.points) and self.points[at].row.start_ms == row.start_ms:
            if not supersedes(row, self.points[at].row):
                return False
            self.points[at] = point
        elif at == 0 and len(self.points) >= most:
            return False
        else:
            self.points.insert(at, point)
            del self.points[:-most]
        self.version = change
        return True


def supersedes(new: Row, old: Row) -> bool:
    """Final wins; otherwise the higher revision, and the later of two equal ones."""
    if new.final != old.final:
        return new.final
    return new.revision >= old.revision


@dataclass(slots=True)
class Table:
    """One KPI topic: its shape, and its groups in the order of their last change."""

    shape: Shape
    groups: dict[Group, Series] = field(default_factory=dict)
    sets: tuple[tuple[str, ...], ...] = ()

    def reshape(self, shape: Shape) -> None:
        """Go over to a newer version of the schema; what it added is unknown in older rows."""
        for series in self.groups.values():
            series.points = [Point(_as(shape, self.shape, point.row), point.change) for point in series.points]
        self.shape = shape

    def most(self, group: Group) -> int:
        """Points kept of a group: fewer, the more groups share the budget. The total always keeps them all."""
        return POINTS if group == TOTAL else max(POINTS_FEW, min(POINTS, BUDGET // len(self.groups)))

    def series(self, row: Row) -> Series | None:
        """The series of a row's group, moved to the end. None where the table is full of groups that are still changing."""
        found = self.groups.pop(row.group, None)
        if found is None:
            if len(self.groups) >= GROUPS and not self._dropped_stalest(row.start_ms):
                return None
            found = Series()
            if row.group.by not in self.sets:
                self.sets = tuple(sorted((*self.sets, row.group.by), key=lambda by: (len(by), by)))
        self.groups[row.group] = found
        return found

    def _dropped_stalest(self, start_ms: int) -> bool:
        stalest = next(group for group in self.groups if group != TOTAL)
        if self.groups[stalest].points[-1].row.start_ms + POINTS_FEW * self.shape.size_ms > start_ms:
            return False
        del self.groups[stalest]
        return True


class Offer(NamedTuple):
    """What of a KPI topic can be chosen: its shape, and the group sets seen in it."""

    shape: Shape
    sets: tuple[tuple[str, ...], ...]


Catalog = Mapping[str, Mapping[str, Offer]]  # source topic -> window, smallest first -> offer


class Board:
    """All tables. Every method may be called from any thread; `version` and `catalog` may be read at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[tuple[str, str], Table] = {}
        self._newest: dict[str, int] = {}
        self._fates: Counter[tuple[str, str, str]] = Counter()
        self.version = 0
        self.catalog: Catalog = MappingProxyType({})

    def upsert(self, shape: Shape, row: Row, at_ms: int) -> None:
        """Take in a row that was written at `at_ms`."""
        with self._lock:
            table = self._tables.setdefault((shape.topic, shape.window), Table(shape))
            before = table.shape, table.sets
            if shape.schema_id > table.shape.schema_id:
                table.reshape(shape)
            series = table.series(row)
            if series is not None and series.upsert(_as(table.shape, shape, row), self.version + 1, table.most(row.group)):
                self.version += 1
            self._newest[shape.topic] = max(at_ms, self._newest.get(shape.topic, 0))
            if before != (table.shape, table.sets) or shape.topic not in self.catalog or shape.window not in self.catalog[shape.topic]:
                self._offer()

    def count(self, fate: str, topic: str, reason: str) -> None:
        """Count a message that is "late" or "dead"."""
        with self._lock:
            key = (fate, topic, reason)
            if key not in self._fates and len(self._fates) >= REASONS:
                key = (fate, topic if any(topic == known for _, known, _ in self._fates) else "", "other")
            self._fates[key] += 1
            self.version += 1

    def points(self, topic: str, window: str, group: Group) -> tuple[int, list[Point]]:
        """A group's version and points, oldest first."""
        with self._lock:
            table = self._tables.get((topic, window))
            series = table.groups.get(group) if table else None
            return (series.version, list(series.points)) if series else (0, [])

    def top(self, topic: str, window: str, by: tuple[str, ...], most: int) -> list[Group]:
        """The groups of a group set with the most events in their newest window."""
        with self._lock:
            table = self._tables.get((topic, window))
            sizes = [(series.points[-1].row.events, group) for group, series in table.groups.items() if group.by == by] if table else []
        return [group for _, group in nlargest(most, sizes, key=lambda size: (size[0], str(size[1].values)))]

    def newest_ms(self, topic: str) -> int | None:
        """When the newest row of a source topic was written."""
        return self._newest.get(topic)

    def fates(self, topic: str, fate: str) -> dict[str, int]:
        """Reason -> messages of a source topic that are "late" or "dead"."""
        with self._lock:
            return {reason: n for (its_fate, its_topic, reason), n in self._fates.items() if (its_fate, its_topic) == (fate, topic)}

    def _offer(self) -> None:
        catalog: dict[str, dict[str, Offer]] = {}
        for table in sorted(self._tables.values(), key=lambda table: (table.shape.topic, table.shape.size_ms, table.shape.window)):
            catalog.setdefault(table.shape.topic, {})[table.shape.window] = Offer(table.shape, table.sets)
        self.catalog = MappingProxyType(catalog)
        self.version += 1


def _as(shape: Shape, its: Shape, row: Row) -> Row:
    """A row with its values in the order of another version of its schema."""
    if shape.kpis == its.kpis:
        return row
    values = dict(zip((kpi.name for kpi in its.kpis), row.values, strict=True))
    return row._replace(values=tuple(values.get(kpi.name) for kpi in shape.kpis))
