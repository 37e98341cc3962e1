"""What the dashboard remembers: the newest windows of each KPI topic and group, and who is late or dead. In: rows. Out: points. No I/O.

Everything is bounded, so a process that is left open for a year holds no more than after a day. One thread writes, sessions read: what a
session asks for many times a second is a look into a dictionary, without the lock.
"""

import threading
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from serve.asides import REASONS as REASONS
from serve.asides import Aside, Asides
from serve.shape import Group, Row, Shape
from serve.table import BUDGET as BUDGET
from serve.table import GROUPS as GROUPS
from serve.table import POINTS as POINTS
from serve.table import POINTS_FEW as POINTS_FEW
from serve.table import POINTS_GROUP as POINTS_GROUP
from serve.table import By, Series, Table, reordered
from serve.table import Point as Point


class Offer(NamedTuple):
    """What of a KPI topic can be chosen: its shape, and the group sets seen in it."""

    shape: Shape
    sets: tuple[By, ...]


Catalog = Mapping[str, Mapping[str, Offer]]  # source topic -> window, smallest first, sessions last -> offer


class Board:
    """All tables. Every method may be called from any thread; `version` and `catalog` may be read at any time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables: dict[tuple[str, str], Table] = {}
        self._newest: dict[str, int] = {}
        self._watermarks: dict[str, int] = {}
        self._arrived: Counter[str] = Counter()
        self._lags: Mapping[str, int] = {}
        self._asides = Asides()
        self.version = 0
        self.catalog: Catalog = MappingProxyType({})

    def upsert(self, shape: Shape, row: Row, at_ms: int) -> None:
        """Take in a row that was written at `at_ms`."""
        with self._lock:
            table = self._tables.setdefault((shape.topic, shape.window), Table(shape))
            before = table.shape, table.sets
            if table.is_left_for(shape, at_ms):
                table.reshape(shape)
            if table.upsert(reordered(table.shape, shape, row), self.version + 1, at_ms):
                self.version += 1
            self._arrived[shape.topic] += 1
            self._newest[shape.topic] = max(at_ms, self._newest.get(shape.topic, 0))
            if row.final and row.closed_by != "repair":
                self._watermarks[shape.topic] = max(row.end_ms, self._watermarks.get(shape.topic, row.end_ms))
            if before != (table.shape, table.sets) or shape.topic not in self.catalog or shape.window not in self.catalog[shape.topic]:
                self._offer()

    def forget(self, topic: str, window: str) -> None:
        """Give up all rows of a KPI topic: it is not there any more."""
        with self._lock:
            if self._tables.pop((topic, window), None) is None:
                return
            if not any(its_topic == topic for its_topic, _ in self._tables):
                for known in (self._newest, self._watermarks, self._arrived):
                    known.pop(topic, None)
            self._offer()

    def count(self, fate: str, topic: str, reason: str) -> None:
        """Count a message that is "late" or "dead"."""
        with self._lock:
            self._asides.count(fate, topic, reason)
            self.version += 1

    def put_aside(self, aside: Aside, at_ms: int) -> None:
        """Count a message that was set aside at `at_ms`, and keep it while it is among the newest."""
        with self._lock:
            self._asides.count(aside.fate, aside.topic, aside.reason)
            self._asides.keep(aside, at_ms)
            self.version += 1

    def put_lags(self, lags: Mapping[str, int]) -> None:
        """Take in how far the flow is behind, by source topic; of a topic that is not named it is unknown."""
        if lags != self._lags:
            with self._lock:
                self._lags = lags
                self.version += 1

    def points(self, topic: str, window: str, group: Group) -> tuple[int, tuple[Point, ...]]:
        """A group's version and points, oldest first; the same tuple for all who ask, until something changes."""
        series = self._series(topic, window, group)
        if series is None:
            return 0, ()
        shared = series.shared
        if shared is None:
            with self._lock:
                shared = series.share()
        return shared

    def points_version(self, topic: str, window: str, group: Group) -> int:
        """The board's version at a group's last change; 0 where there is none."""
        series = self._series(topic, window, group)
        return series.version if series else 0

    def top(self, topic: str, window: str, by: By, most: int, at: int | None = None) -> list[Group]:
        """The groups of a group set with the most events in their newest window; or with the largest newest value of the KPI at `at`."""
        return self.search(topic, window, by, "", most, at)

    def search(self, topic: str, window: str, by: By, text: str, most: int, at: int | None = None) -> list[Group]:  # noqa: PLR0913, PLR0917 - `top`, and a text
        """In the order of `top`, the groups whose label holds the text, in upper or lower case."""
        table = self._tables.get((topic, window))
        if table is None:
            return []
        with self._lock:
            return table.ranked(by, most, at, text)

    def group_count(self, topic: str, window: str, by: By) -> int:
        """How many groups of a group set are kept."""
        table = self._tables.get((topic, window))
        return table.sizes[by] if table else 0

    def newest_ms(self, topic: str) -> int | None:
        """When the newest row of a source topic was written."""
        return self._newest.get(topic)

    def watermark_ms(self, topic: str) -> int | None:
        """The greatest end of a final window of a source topic: its watermark is there at least. Repaired rows do not count."""
        return self._watermarks.get(topic)

    def lag(self, topic: str) -> int | None:
        """Messages of a source topic that the flow has not committed; None where that is unknown."""
        return self._lags.get(topic)

    def arrived(self, topic: str) -> int:
        """Rows of a source topic that were taken in since the start."""
        return self._arrived[topic]

    def fates(self, topic: str, fate: str) -> dict[str, int]:
        """Reason -> messages of a source topic that are "late" or "dead"."""
        with self._lock:
            return self._asides.fates(topic, fate)

    def asides(self, topic: str) -> list[Aside]:
        """The newest messages of a source topic that are late or dead, newest first: at most 20 of each."""
        with self._lock:
            return self._asides.newest(topic)

    def _series(self, topic: str, window: str, group: Group) -> Series | None:
        table = self._tables.get((topic, window))
        return table.groups.get(group) if table else None

    def _offer(self) -> None:
        catalog: dict[str, dict[str, Offer]] = {}
        for table in sorted(self._tables.values(), key=_place):
            catalog.setdefault(table.shape.topic, {})[table.shape.window] = Offer(table.shape, table.sets)
        self.catalog = MappingProxyType(catalog)
        self.version += 1


def _place(table: Table) -> tuple[str, bool, int, int, str]:
    shape = table.shape
    return shape.topic, shape.kind.is_session, shape.size_ms, shape.kind.step_ms, shape.window
