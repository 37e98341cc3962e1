"""The kinds of windows, and which stretch of event time belongs to which. In: how people spell them, times. Out: windows, edges. Pure.

tumbling  10s                    |----)|----)|----)      one after the other; `1d@Europe/Berlin`, `1w`, `1mo`, `1y` by the calendar
hopping   5m/1m                  |--------)              a new one each hop, which overlap
|--------)
cumulate  1d^1m                  |--)|-----)|--------)   from the start of a stretch so far, told at each step
session   gap 30s                 |x-x--x----)   |x--)   from a group's first event to `gap` after its last
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Literal, TypeVar
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import numpy.typing as npt
import polars as pl

from flows.durations import duration_ms, label
from flows.errors import did_you_mean

START, END = "start", "end"  # the columns of a table that say which stretch a row is of: [start, end), UTC ms
WINDOW = "window"  # the column of rows that says of which of the plan's windows they are
Times = npt.NDArray[np.int64]
Time = TypeVar("Time", pl.Expr, Times)
DAY_MS = 86_400_000
END_OF_TIME_MS = 253_402_300_800_000  # the year 10,000: event times are before it
QUARTER_MS = 900_000  # local midnight is a whole quarter of an hour in UTC, in every zone since 1972
UNITS_MS = {"1d": DAY_MS, "1w": 7 * DAY_MS, "1mo": 30 * DAY_MS, "1y": 365 * DAY_MS}  # of the calendar, and how long they are, about
MOST_HOPS = 10_000
MOST_STEPS = 100_000
WANTED = 'want a window such as "10s", "5m/1m", "1d^1m", "gap 30s", "1d@Europe/Berlin", "1w"'


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """One declared window. `label`: its spelling in topic names.

    `size_ms`: of a calendar's about, of a session its gap. `step_ms`: the hop of a hopping window, the step of a cumulate one.
    `unit`: "1d", "1w", "1mo", "1y" of the calendar of `zone` (UTC where it is empty); empty for a fixed length.
    """

    size_ms: int
    label: str
    kind: Literal["tumbling", "hopping", "cumulate", "session"] = "tumbling"
    step_ms: int = 0
    unit: str = ""
    zone: str = ""

    @property
    def spelled(self) -> str:
        """As people write it: `parse_window` of it is the window again.

        >>> [parse_window(text).spelled for text in ("60s", "5m/60s", "gap 60s", "1d^60m@Europe/Berlin")]
        ['1m', '5m/1m', 'gap 1m', '1d^1h@Europe/Berlin']
        """
        sign = {"hopping": "/", "cumulate": "^"}.get(self.kind, "")
        gap, step = "gap " if self.kind == "session" else "", f"{sign}{label(self.step_ms)}" if sign else ""
        return f"{gap}{self.unit or label(self.size_ms)}{step}{f'@{self.zone}' if self.zone else ''}"

    @property
    def is_fixed(self) -> bool:
        """Whether it is tumbling, of a length that never changes: only such windows feed others."""
        return self.kind == "tumbling" and not self.unit

    @property
    def pane_ms(self) -> int:
        """The longest stretches of fixed length, from 1970 on, that its windows are put together from; 0 for a session: by slices."""
        if self.kind == "session":
            return 0
        whole_ms = self.size_ms if not self.unit else QUARTER_MS if self.zone else DAY_MS
        return math.gcd(whole_ms, self.step_ms)


def parse_window(text: object) -> Window:
    """A window as people spell it. Raises ValueError.

    >>> parse_window("60s").label, parse_window("5m/1m").label, parse_window("gap 30s").label
    ('1m', '5m-1m', 'session-30s')
    >>> parse_window("1d^1h@Europe/Berlin").label, parse_window("1w").label
    ('cumulate-1d-1h-Europe-Berlin', '1w')
    """
    match = re.fullmatch(r"(gap )?(\w+)(?:([/^])(\w+))?(?:@([\w/+-]+))?", text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError(WANTED)
    gap, size, sign, step, zone = match.groups()
    if gap and (sign or zone):
        raise ValueError('want a session as "gap 30s", and no more')
    unit = size if size in UNITS_MS and not gap and (zone or size != "1d") else ""
    size_ms = UNITS_MS[unit] if unit else _length_ms(size)
    if zone and not unit:
        raise ValueError(f"want one of {', '.join(UNITS_MS)} in a time zone")
    if zone and zone not in _zones():
        raise ValueError(f'want a time zone such as "Europe/Berlin"{_near_zone(zone)}')
    if gap:
        return Window(size_ms, f"session-{label(size_ms)}", "session")
    spelled = "-".join([unit or label(size_ms), *([_in_topics(zone)] if zone else [])])
    if not sign:
        return Window(size_ms, spelled, unit=unit, zone=zone or "")
    step_ms = _length_ms(step)
    if sign == "/":
        return _hopping(size_ms, step_ms, unit)
    if step_ms >= size_ms or (not unit and size_ms % step_ms) or (unit and DAY_MS % step_ms):
        raise ValueError("want a step that divides " + ("a day" if unit else "the window") + ", and is shorter than the window")
    if size_ms // step_ms > MOST_STEPS:
        raise ValueError(f"want a window of at most {MOST_STEPS} steps")
    spelled = "-".join(["cumulate", unit or label(size_ms), label(step_ms), *([_in_topics(zone)] if zone else [])])
    return Window(size_ms, spelled, "cumulate", step_ms, unit, zone or "")


def _hopping(size_ms: int, hop_ms: int, unit: str) -> Window:
    if unit:
        raise ValueError('want a hopping window of a fixed length, such as "7d/1d"')
    if hop_ms > size_ms:
        raise ValueError("want a hop that is no longer than the window, or events between two windows would be in none")
    if size_ms // math.gcd(size_ms, hop_ms) > MOST_HOPS:
        raise ValueError(f"want a window of at most {MOST_HOPS} hops")
    if hop_ms == size_ms:
        return Window(size_ms, label(size_ms))
    return Window(size_ms, f"{label(size_ms)}-{label(hop_ms)}", "hopping", hop_ms)


def _length_ms(text: str) -> int:
    try:
        length_ms = duration_ms(text)
    except ValueError as error:
        raise ValueError(f"{error}" if "at most" in str(error) else WANTED) from None
    if length_ms == 0:
        raise ValueError("want a window longer than nothing")
    return length_ms


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())  # looks for files: 15 ms


def _near_zone(zone: str) -> str:
    """The zone that is meant, also where only its city was said, or the case is wrong."""
    zones = sorted(_zones())
    cities = [known for known in zones if known.rpartition("/")[2].lower() == zone.rpartition("/")[2].lower()]
    return did_you_mean(zone, cities if len(cities) == 1 else zones)


def _in_topics(zone: str) -> str:
    """A time zone as topic names may have it."""
    return zone.replace("/", "-").replace("+", "plus")


def slice_ms(windows: Sequence[Window]) -> int:
    """Greatest common divisor of all sizes, hops, steps and gaps: the smallest stretch that is folded.

    >>> slice_ms([parse_window("1m"), parse_window("5m/10s"), parse_window("gap 15s")])
    5000
    """
    return math.gcd(*(window.pane_ms or window.size_ms for window in windows))


def start_of(time: Time, size_ms: int) -> Time:
    """The start of the stretch that holds a time: floor(t / size) * size, also before 1970. (Scotty, ICDE 2018.)"""
    return time // size_ms * size_ms


def bounds(window: Window, times: Times) -> tuple[Times, Times]:
    """Start and end of the stretch that holds each time: of a tumbling window, or of the whole that a cumulate one is of."""
    if not window.unit:
        starts = times // window.size_ms * window.size_ms
        return starts, starts + window.size_ms
    if not times.size:
        return times, times
    edges = _edges(window, int(times.min()), int(times.max()))
    at = np.searchsorted(edges, times, side="right")
    return edges[at - 1], edges[at]


def _edges(window: Window, first_ms: int, last_ms: int) -> Times:
    """The calendar's edges from before the first time to after the last."""
    first, last = (datetime.fromtimestamp(time_ms // 1000, UTC).year for time_ms in (first_ms, last_ms))
    years = range(first - 1, min(last + 2, MAXYEAR) + 1)  # local years may begin a day before or after
    return np.unique(np.concatenate([*(_year(window.unit, window.zone, year) for year in years), [END_OF_TIME_MS]]))


@lru_cache(maxsize=64)
def steps(window: Window, start_ms: int) -> Times:
    """The ends of a cumulate window's steps in the stretch that starts then, rising: the last is the stretch's own end.

    By the calendar they are counted from each midnight on, and each midnight is one.
    """
    start, end = (int(edge[0]) for edge in bounds(window, np.array([start_ms])))
    days = np.array([start, end])
    if window.unit:
        edges = _edges(replace(window, unit="1d"), start, end)
        days = edges[(edges >= start) & (edges <= end)]
    begun = [np.arange(day, next_day, window.step_ms) for day, next_day in pairwise(days.tolist())]
    return np.concatenate([*begun, days[-1:]])[1:]


def next_step(window: Window, times: Times) -> Times:
    """The end of the step that holds each time."""
    starts, _ = bounds(window, times)
    ends = np.empty_like(times)
    for start in np.unique(starts).tolist():
        mine, edges = starts == start, steps(window, start)
        ends[mine] = edges[np.searchsorted(edges, times[mine], side="right")]
    return ends


@lru_cache(maxsize=1_000)
def _year(unit: str, zone: str, year: int) -> Times:
    """The starts of the days, weeks (from Monday on), months or years that begin in a year.

    A midnight that does not exist there is the moment of the clocks' jump, and of one that comes twice the first.
    """
    days = [date(year, 1, 1) + timedelta(days=number) for number in range((date(year, 12, 31) - date(year, 1, 1)).days + 1)]
    where = ZoneInfo(zone) if zone else UTC
    starts = [datetime(day.year, day.month, day.day, tzinfo=where) for day in days if _begins(unit, day)]
    return np.array([int(start.timestamp()) * 1000 for start in starts], np.int64)


def _begins(unit: str, day: date) -> bool:
    """Whether a day, week, month or year begins with a day."""
    return {"1d": True, "1w": day.weekday() == 0, "1mo": day.day == 1, "1y": day.day == day.month == 1}[unit]


def fed(windows: Sequence[Window]) -> dict[int, int | None]:
    """Each length that windows are put together of, but for that of slices, and which one feeds it (None: the slices)."""
    lengths = sorted({window.pane_ms for window in windows} - {0, slice_ms(windows)})
    return {length: None if feed is None else lengths[feed] for length, feed in zip(lengths, cascade(lengths), strict=True)}


def cascade(lengths_ms: Sequence[int]) -> list[int | None]:
    """For each length, smallest first, which one feeds it: the largest smaller one that divides it, else the slices (None).

    So a closed slice is merged once, and each larger size only merges what the smaller one has closed.

    >>> cascade([10_000, 60_000, 300_000])
    [None, 0, 1]
    >>> cascade([10_000, 15_000])
    [None, None]
    """
    return [max((j for j in range(i) if length % lengths_ms[j] == 0), default=None) for i, length in enumerate(lengths_ms)]
