"""The kinds of windows, as charts must know them. In: bounds of windows, ms. Out: places on an axis of time, which follows which. Pure.

tumbling   |----)|----)|----)      a point in the middle
hopping    |--------)              at the end, as it says "the last 5 minutes"
              |--------)
cumulate   |--)|-----)|--------)   at the end, as it says "the day so far"
session     |x-x--x----)   |x--)   at the start; between two of them nothing is missing
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from flows.durations import label

NAMES = ("tumbling", "hopping", "cumulate", "session")
Bounds = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Kind:
    """What kind a window is of. `step_ms`: from one to the next where they overlap, else 0. `unit`, `zone`: of the calendar."""

    name: str = "tumbling"
    step_ms: int = 0
    unit: str = ""
    zone: str = ""

    @property
    def is_session(self) -> bool:
        """Whether windows begin and end as events do."""
        return self.name == "session"

    def spacing_ms(self, size_ms: int) -> int:
        """From one window to the next, about; of sessions at least."""
        return self.step_ms or size_ms

    def fresh(self, bounds: Bounds) -> Bounds:
        """The part of a window that none before it had: all of it, or its last step.

        >>> Kind().fresh((0, 300)), Kind("hopping", 60).fresh((0, 300))
        ((0, 300), (240, 300))
        """
        start_ms, end_ms = bounds
        return (end_ms - self.step_ms if self.step_ms else start_ms), end_ms

    def strip(self, fresh: Bounds) -> tuple[float, float]:
        """The stretch of the axis that stands for a part of time; that of the next one begins where it ends.

        >>> Kind().strip((0, 300)), Kind("hopping", 60).strip((240, 300))
        ((0.0, 300.0), (270.0, 330.0))
        """
        start_ms, end_ms = fresh
        return start_ms + self.step_ms / 2, end_ms + self.step_ms / 2

    def place(self, bounds: Bounds) -> float:
        """Where a window's point is: the middle of its strip; of a session its start.

        >>> Kind().place((0, 300)), Kind("hopping", 60).place((0, 300)), Kind("session").place((0, 300))
        (150.0, 300.0, 0.0)
        """
        left, right = self.strip(self.fresh(bounds))
        return float(bounds[0]) if self.is_session else (left + right) / 2

    def missing(self, before: Bounds, bounds: Bounds) -> Bounds | None:
        """What of time lies between a window and the one known before it, and is in neither; None where nothing is missing.

        >>> Kind().missing((0, 10), (30, 40)), Kind("hopping", 60).missing((0, 300), (60, 360)), Kind("session").missing((0, 10), (30, 40))
        ((10, 30), None, None)
        """
        from_ms, _ = self.fresh(bounds)
        return (before[1], from_ms) if from_ms > before[1] and not self.is_session else None

    def follows(self, before: Bounds, bounds: Bounds) -> bool:
        """Whether a window goes on with the one known before it: its next one, and where it says "so far", of the same stretch."""
        return self.missing(before, bounds) is None and (self.name != "cumulate" or before[0] == bounds[0])

    def words(self, size_ms: int, window: str) -> str:
        """What people call such windows. `window`: what their topic calls them.

        >>> Kind("hopping", 60_000).words(300_000, "5m-1m"), Kind("session").words(30_000, "session-30s")
        ('5m every 1m', 'sessions, 30s gap')
        >>> Kind("cumulate", 60_000, "1d", "Europe/Berlin").words(86_400_000, ""), Kind("tumbling", 0, "1w", "Asia/Tokyo").words(0, "")
        ('1d so far, each 1m, Europe/Berlin', '1w Asia/Tokyo')
        """
        size = self.unit or label(size_ms)
        if self.is_session:
            return f"sessions, {size} gap"
        if self.name == "hopping":
            return f"{size} every {label(self.step_ms)}"
        if self.name == "cumulate":
            return f"{size} so far, each {label(self.step_ms)}" + (f", {self.zone}" if self.zone else "")
        return f"{self.unit} {self.zone}" if self.unit and self.zone else window


TUMBLING = Kind()


def read_kind(about: Mapping[str, object]) -> Kind:
    """The kind that a schema says its rows are of; one that says none, or an unknown one, is tumbling.

    >>> read_kind({"kind": "hopping", "step_ms": 60_000}), read_kind({"kind": "hopping"}).name, read_kind({}).name
    (Kind(name='hopping', step_ms=60000, unit='', zone=''), 'tumbling', 'tumbling')
    """
    name, step, unit, zone = (about.get(said) for said in ("kind", "step_ms", "unit", "zone"))
    step_ms = step if isinstance(step, int) and not isinstance(step, bool) and step > 0 else 0
    if name not in NAMES or (name in {"hopping", "cumulate"} and not step_ms):
        name = "tumbling"
    return Kind(str(name), step_ms if name in {"hopping", "cumulate"} else 0, _spelled(unit), _spelled(zone))


def _spelled(said: object) -> str:
    return said if isinstance(said, str) and re.fullmatch(r"[A-Za-z0-9_/+-]{1,80}", said) else ""
