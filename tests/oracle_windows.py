"""Windows by brute force: which stretches hold a time, and which events are a session. In: windows, times. Out: stretches. Pure.

Nothing is clever here: every hop is looked at, every edge of a day is walked to on the local clock, a quarter of an hour at a time.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import TypeVar
from zoneinfo import ZoneInfo

DAY_MS, QUARTER_MS = 86_400_000, 900_000
A_DAY = timedelta(days=1)

Stretch = tuple[int, int]  # [start, end) in UTC ms
Event = TypeVar("Event")


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """One declared window. `size_ms`: of a session its gap, of a calendar's nothing; `step_ms`: hop or step."""

    kind: str  # "tumbling", "hopping", "cumulate" or "session"
    size_ms: int = 0
    step_ms: int = 0
    unit: str = ""  # "1d", "1w", "1mo", "1y" by the calendar of a zone, else by that of UTC
    zone: str = ""

    @property
    def spelling(self) -> str:
        """As kpi.toml has it."""
        size, step = self.unit or duration(self.size_ms), duration(self.step_ms)
        spelled = {"tumbling": size, "hopping": f"{size}/{step}", "cumulate": f"{size}^{step}", "session": f"gap {size}"}[self.kind]
        return f"{spelled}@{self.zone}" if self.zone else spelled

    @property
    def label(self) -> str:
        """As topic names have it."""
        begin = {"session": "session-", "cumulate": "cumulate-"}.get(self.kind, "")
        size, step, zone = self.unit or duration(self.size_ms), f"-{duration(self.step_ms)}" if self.step_ms else "", ""
        if self.zone:
            zone = "-" + self.zone.replace("/", "-").replace("+", "plus")
        return begin + size + step + zone


def tumbling(*sizes_ms: int) -> tuple[Window, ...]:
    """Windows of these lengths, one after the other."""
    return tuple(Window("tumbling", size_ms) for size_ms in sizes_ms)


def duration(length_ms: int) -> str:
    """A length in the largest unit that divides it: 10s, 5m, 1h, 1d."""
    for unit, unit_ms in (("d", DAY_MS), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if length_ms and length_ms % unit_ms == 0:
            return f"{length_ms // unit_ms}{unit}"
    return f"{length_ms}ms" if length_ms else "0s"


def floor(time_ms: int, length_ms: int) -> int:
    """The start of the stretch that holds a time, below zero too: t / length, floored, * length."""
    return time_ms // length_ms * length_ms


def slice_length(windows: Iterable[Window]) -> int:
    """The greatest common divisor of all that a window begins or ends by."""
    lengths: list[int] = []
    for window in windows:
        calendar_ms = QUARTER_MS if window.zone else DAY_MS
        lengths += [calendar_ms if window.unit else window.size_ms, window.step_ms]
    return math.gcd(*lengths)


def stretches(window: Window, time_ms: int, slice_ms: int) -> list[Stretch]:
    """Every stretch of a window, no session, that an event of this time is in. By a calendar, a slice is where its start is."""
    if window.kind == "hopping":
        size_ms, hop_ms = window.size_ms, window.step_ms
        hops = range((time_ms - size_ms) // hop_ms - 1, time_ms // hop_ms + 2)
        return [(k * hop_ms, k * hop_ms + size_ms) for k in hops if k * hop_ms <= time_ms < k * hop_ms + size_ms]
    at_ms = floor(time_ms, slice_ms) if window.unit else time_ms
    start_ms, end_ms = whole(window, at_ms)
    if window.kind == "tumbling":
        return [(start_ms, end_ms)]
    return [(start_ms, edge_ms) for edge_ms in steps(window, start_ms, end_ms) if at_ms < edge_ms]


def closes_next(window: Window, closed_ms: int) -> int:
    """The end of the hopping or cumulate window that closes next: the smallest above C."""
    if window.kind == "hopping":
        hops = range((closed_ms - window.size_ms) // window.step_ms - 1, closed_ms // window.step_ms + 2)
        return min(end_ms for k in hops if (end_ms := k * window.step_ms + window.size_ms) > closed_ms)
    start_ms, end_ms = whole(window, closed_ms)
    return min(edge_ms for edge_ms in steps(window, start_ms, end_ms) if edge_ms > closed_ms)


def sessions(events: Iterable[Event], time_of: Callable[[Event], int], gap_ms: int) -> list[list[Event]]:
    """Events in stretches of which none is `gap` or more behind the one before it."""
    found: list[list[Event]] = []
    for event in sorted(events, key=time_of):
        if not found or time_of(event) - time_of(found[-1][-1]) >= gap_ms:
            found.append([])
        found[-1].append(event)
    return found


def whole(window: Window, time_ms: int) -> Stretch:
    """The stretch of a tumbling window that holds a time, or of all that a cumulate one is of."""
    if not window.unit:
        start_ms = floor(time_ms, window.size_ms)
        return start_ms, start_ms + window.size_ms
    day = day_of(window.zone, time_ms)
    match window.unit:
        case "1d":
            first, behind = day, day + A_DAY
        case "1w":
            first = day - day.weekday() * A_DAY
            behind = first + 7 * A_DAY
        case "1mo":
            first = day.replace(day=1)
            behind = (first + 31 * A_DAY).replace(day=1)
        case _:
            first, behind = date(day.year, 1, 1), date(day.year + 1, 1, 1)
    return day_start(window.zone, first), day_start(window.zone, behind)


@lru_cache(maxsize=1_000)
def steps(window: Window, start_ms: int, end_ms: int) -> Sequence[int]:
    """The edges of the steps of a cumulate window in (start, end]: of each day anew where it is the calendar's."""
    if not window.unit:
        return range(start_ms + window.step_ms, end_ms + 1, window.step_ms)
    edges: list[int] = []
    day = day_of(window.zone, start_ms)
    while (day_ms := day_start(window.zone, day)) < end_ms:
        next_ms = day_start(window.zone, day + A_DAY)
        edges += range(day_ms + window.step_ms, next_ms, window.step_ms)
        edges += [next_ms] if next_ms > day_ms else []
        day += A_DAY
    return edges


def day_of(zone: str, time_ms: int) -> date:
    """The day that a time is in: the last one that has begun by then."""
    day = _date(zone, time_ms // 1000) + 2 * A_DAY
    while day_start(zone, day) > time_ms:
        day -= A_DAY
    return day


@lru_cache(maxsize=100_000)
def day_start(zone: str, day: date) -> int:
    """The first moment at which a local calendar shows this day, or a later one where this day is left out. UTC ms."""
    second = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) - 27 * 3600  # nowhere is it that day by then
    while _date(zone, second) < day:
        second += QUARTER_MS // 1000
    while _date(zone, second - 1) >= day:  # before 1972 some zones were off by odd seconds
        second -= 1
    return second * 1000


def _date(zone: str, second: int) -> date:
    return datetime.fromtimestamp(second, ZoneInfo(zone) if zone else UTC).date()
