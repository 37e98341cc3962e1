"""One KPI topic as the dashboard remembers it: the newest windows of each of its groups. In: rows. Out: points, groups in order. Pure."""

from bisect import bisect_left
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from serve.shape import TOTAL, Group, Row, Shape, label

POINTS = 1_440  # windows of the total: 4 hours of 10 s, a day of 1 min
POINTS_GROUP = 360  # windows of another group, while there are few: an hour of 10 s
POINTS_FEW = 6  # windows of a group where a topic has GROUPS of them
BACK_MS = 10_000  # while two flows write, one of each version, the newer one's rows come more often than this
GROUPS = 12_000  # groups a KPI topic
BUDGET = GROUPS * POINTS_FEW  # points a KPI topic

By = tuple[str, ...]


class Point(NamedTuple):
    """A row, the board's version when it came (greater than what a session has seen: new to it), and when it was written."""

    row: Row
    change: int
    at_ms: int = 0


@dataclass(slots=True)
class Series:
    """The windows of one group, in order. `version`: the board's at its last change. `name`: what is searched. `number`: of its coming."""

    group: Group
    name: str
    number: int
    points: list[Point] = field(default_factory=list)
    version: int = 0
    shared: tuple[int, tuple[Point, ...]] | None = None  # what all sessions are given, until it changes

    def upsert(self, point: Point, most: int) -> bool:
        """Put a point where its window is, unless what is there supersedes it; keep the newest `most`. True if something changed."""
        points, bounds = self.points, point.row.bounds
        at = bisect_left(points, bounds, key=lambda point: point.row.bounds)
        if at < len(points) and points[at].row.bounds == bounds:
            if not supersedes(point, points[at]):
                return False
            points[at] = point
        elif at == 0 and len(points) >= most:
            return False
        else:
            points.insert(at, point)
            del points[:-most]
        self.version, self.shared = point.change, None
        return True

    def share(self) -> tuple[int, tuple[Point, ...]]:
        """Version and points, oldest first: the same object until something changes."""
        if self.shared is None:
            self.shared = self.version, tuple(self.points)
        return self.shared


def supersedes(new: Point, old: Point) -> bool:
    """Final wins; then the higher revision; of two equal ones the one written later, and at the same moment the one that came later."""
    return (new.row.final, new.row.revision, new.at_ms) >= (old.row.final, old.row.revision, old.at_ms)


@dataclass(slots=True)
class Table:
    """One KPI topic: its shape, and its groups in the order of their last change."""

    shape: Shape
    groups: OrderedDict[Group, Series] = field(default_factory=OrderedDict)
    sizes: Counter[By] = field(default_factory=Counter)  # groups of each group set
    sets: tuple[By, ...] = ()
    came: int = 0  # groups so far
    shape_ms: int = 0  # when the newest row of this shape was written

    def upsert(self, row: Row, change: int, at_ms: int) -> bool:
        """Take in a row of the table's shape. True if something changed."""
        series = self.groups.get(row.group) or self._added(row)
        if series is None:
            return False
        self.groups.move_to_end(series.group)
        return series.upsert(Point(Row(series.group, *row[1:]), change, at_ms), self.most(series.group))  # the group once for all its rows

    def is_left_for(self, shape: Shape, at_ms: int) -> bool:
        """Whether a row of another shape, written at `at_ms`, says that the flow has gone over to it.

        A newer version of the schema does, unless it is the past that is read. So does an older one, where the newer is written no more: a
        declaration that was taken back is registered under the id that it had.
        """
        if shape.schema_id == self.shape.schema_id:
            left = False
        elif shape.schema_id > self.shape.schema_id:
            left = at_ms >= self.shape_ms
        else:
            left = at_ms > self.shape_ms + BACK_MS
        if left or shape.schema_id == self.shape.schema_id:
            self.shape_ms = max(self.shape_ms, at_ms)
        return left

    def reshape(self, shape: Shape) -> None:
        """Go over to another version of the schema; what it added is unknown in older rows."""
        for series in self.groups.values():
            series.points = [Point(reordered(shape, self.shape, point.row), *point[1:]) for point in series.points]
            series.shared = None
        self.shape = shape

    def most(self, group: Group) -> int:
        """Points kept of a group: fewer, the more groups share the budget. The total always keeps them all."""
        return POINTS if group == TOTAL else max(POINTS_FEW, min(POINTS_GROUP, BUDGET // len(self.groups)))

    def ranked(self, by: By, most: int, at: int | None = None, text: str = "") -> list[Group]:
        """The groups of a group set whose label holds the text, in any case: those with the most events in their newest window first, or
        with the largest newest value of the KPI at `at`, unknown last. Of equal ones the first by name.
        """
        wanted = text.casefold()
        found = [series for group, series in self.groups.items() if group[0] == by and wanted in series.name]
        if at is None or at >= len(self.shape.kpis):
            sizes: list[float] = [-series.points[-1].row.events for series in found]
        else:
            sizes = [-it if type(it := series.points[-1].row.values[at]) is float else inf for series in found]
        if len(found) > most > 0:  # of 10,000 groups few are wanted: to sort numbers takes a tenth of what their names would take
            limit = sorted(sizes)[most - 1]
            found, sizes = [it for it, size in zip(found, sizes, strict=True) if size <= limit], [size for size in sizes if size <= limit]
        keyed = sorted((size, series.name, series.number, series.group) for size, series in zip(sizes, found, strict=True))
        return [group for *_, group in keyed[:most]]

    def _added(self, row: Row) -> Series | None:
        """A series for a new group. None where the table is full of groups that are still changing."""
        if len(self.groups) >= GROUPS and not self._dropped_stalest(row.end_ms):
            return None
        self.came += 1
        added = self.groups[row.group] = Series(row.group, label(row.group.values).casefold(), self.came)
        self.sizes[row.group.by] += 1
        if row.group.by not in self.sets:
            self.sets = tuple(sorted((*self.sets, row.group.by), key=lambda by: (len(by), by)))
        return added

    def _dropped_stalest(self, end_ms: int) -> bool:
        stalest = next(group for group in self.groups if group != TOTAL)
        if self.groups[stalest].points[-1].row.end_ms + POINTS_FEW * self.shape.spacing_ms > end_ms:
            return False
        del self.groups[stalest]
        self.sizes[stalest.by] -= 1
        return True


def reordered(shape: Shape, its: Shape, row: Row) -> Row:
    """A row with its values in the order of another version of its schema."""
    if shape.kpis == its.kpis:
        return row
    values = dict(zip((kpi.name for kpi in its.kpis), row.values, strict=True))
    return row._replace(values=tuple(values.get(kpi.name) for kpi in shape.kpis))
