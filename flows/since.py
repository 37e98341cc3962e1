"""From when on what a changed declaration brings is whole. In: former and new plans, how far was folded. Out: moments. Pure.

events   x  x x   x  | changed |  x   x x        all that was folded before the change is in slices before `since`
windows  [--------)[--------)[--------)[-----
                         since ^                 a KPI that was added is null in the windows that begin before it,
                                                 and a window that was added is left out where it begins before it
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import polars as pl

from flows.plan import Kpi, TopicPlan
from flows.watermark import NEVER
from flows.windows import START, WINDOW, Window

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Since:
    """`kpis`, `windows`: what a change has added, name or label -> the first START (UTC ms) from which on it is whole.

    `gone`: KPIs that were left out at some time: should one come back, what it had is lost.
    """

    kpis: Mapping[str, int] = field(default_factory=dict)
    windows: Mapping[str, int] = field(default_factory=dict)
    gone: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """As a snapshot holds it: `Since(**plain)` is the same again."""
        return {it.name: getattr(self, it.name) for it in fields(self)}

    def after(self, before: TopicPlan, now: TopicPlan, reached_ms: int) -> "Since":
        """The same under a plan that takes the place of another; everything folded so far is in slices that end at `reached_ms` or before.

        A KPI or window that a later generation adds is whole from then on. One that a new schema version adds is so from the beginning:
        events of earlier ones had nothing of it to measure.
        """
        had, has = ({_meaning(kpi): kpi.name for kpi in plan.kpis} for plan in (before, now))
        added = {name for meaning, name in has.items() if meaning not in had}
        if now.generation == before.generation:
            added &= {*self.gone}
        labels = {window.label for window in now.windows}
        new = labels - {window.label for window in before.windows}
        names = {*has.values()}
        if reached_ms == NEVER:  # nothing was folded yet
            added, new = set(), set()
        return Since(
            {name: at for name, at in self.kpis.items() if name in names} | dict.fromkeys(sorted(added), reached_ms),
            {label: at for label, at in self.windows.items() if label in labels} | dict.fromkeys(sorted(new), reached_ms),
            tuple(sorted({*self.gone, *had.values()} - names)),
        )

    def latest(self, other: "Since") -> "Since":
        """What is whole in two shards."""
        beside = ((self.kpis, other.kpis), (self.windows, other.windows))
        kpis, windows = (dict(one) | {name: max(at, one.get(name, at)) for name, at in two.items()} for one, two in beside)
        return Since(kpis, windows, self.gone)

    def from_ms(self, window: Window) -> int:
        """The first START of windows that are told. An earlier session might go on until a gap after the change."""
        return self.windows.get(window.label, NEVER) + (window.size_ms if window.kind == "session" else 0)

    def told(self, table: pl.DataFrame, window: Window) -> pl.DataFrame:
        """A table of windows (START) without those that are left out."""
        return table.filter(pl.col(START) >= self.from_ms(window)) if window.label in self.windows else table

    def taken(self, slices: pl.DataFrame, window: Window) -> pl.DataFrame:
        """A table of slices (START) without those that lack what a session is made of: its events' times."""
        return slices.filter(pl.col(START) >= self.windows[window.label]) if window.label in self.windows else slices

    def known(self, table: pl.DataFrame) -> pl.DataFrame:
        """A table of results (START, `kpi:<name>`) with null where a KPI is not whole."""
        found = [(f"kpi:{name}", at) for name, at in self.kpis.items() if f"kpi:{name}" in table.columns]
        return table.with_columns(pl.when(pl.col(START) >= at).then(pl.col(name)).alias(name) for name, at in found) if found else table

    def unknown(self, start_ms: int) -> list[str]:
        """The KPIs that are not whole in windows that begin then."""
        return [name for name, at in self.kpis.items() if start_ms < at]

    def begun(self, window: Window, start_ms: int) -> int | None:
        """Of the first windows of an added size, a day of them at least: from when on there are any. None of others."""
        at = self.windows.get(window.label)
        return at if at is not None and start_ms < at + max(2 * window.size_ms, DAY_MS) else None


def _meaning(kpi: Kpi) -> tuple[object, ...]:
    """A name may come again with another meaning where what types say gives way to what is declared."""
    return kpi.name, kpi.aggregate, kpi.of, kpi.q, kpi.k, kpi.edges, kpi.parts


def renumbered(table: pl.DataFrame, before: TopicPlan, now: TopicPlan) -> pl.DataFrame | None:
    """A table whose WINDOW counts a plan's windows, by those of another, without rows of windows that are gone. None: no row is left."""
    if before.windows != now.windows:
        numbers = {window.label: number for number, window in enumerate(now.windows)}
        places = {number: numbers[window.label] for number, window in enumerate(before.windows) if window.label in numbers}
        table = table.filter(pl.col(WINDOW).is_in([*places])).with_columns(pl.col(WINDOW).replace(places))
    return table if len(table) else None


def newer(one: TopicPlan, other: TopicPlan) -> bool:
    """Whether a plan is the newer one: of a later generation, or made from more schema ids, by which plans of one generation grow.

    One that lacks an id of the other's may lack a column of it, and what was folded there would be lost; one without any says nothing of
    KPIs, whatever is declared now: the plan after it will.
    """
    if one.generation != other.generation:
        return one.generation > other.generation and bool(one.version or not other.version)
    return set(one.version) > set(other.version)
