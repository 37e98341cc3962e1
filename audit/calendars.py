"""Stretches of the calendar. In: days, a unit, a time zone. Out: where they begin and end, UTC ms. Pure."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

FIRST = date(1970, 1, 1)
Stretch = tuple[int, int]  # start, end


def stretches(unit: str, zone: str, days: Iterable[int]) -> list[Stretch]:
    """Those that hold a moment of one of these UTC days, counted from 1970. A day that a zone left out is none.

    >>> stretches("1mo", "Europe/Berlin", [30])[:2]
    [(-3600000, 2674800000), (2674800000, 5094000000)]
    """
    where = _zone(zone)
    near = {day + shift for day in days for shift in (-1, 0, 1)}
    found = {(_midnight(first, where), _midnight(last, where)) for first, last in (_around(unit, day) for day in near)}
    return sorted(it for it in found if it[0] < it[1])


def days_of(stretch: Stretch, zone: str) -> list[Stretch]:
    """The days of the zone that a stretch is made of, each from its midnight to the next one."""
    where = _zone(zone)
    day, found = datetime.fromtimestamp(stretch[0] / 1000, where).date(), list[Stretch]()
    while (start := _midnight(day, where)) < stretch[1]:
        day += timedelta(days=1)
        if start < (end := _midnight(day, where)):
            found.append((start, end))
    return found


def _around(unit: str, number: int) -> tuple[date, date]:
    """The first day of the stretch that holds a day, and of the one behind it."""
    day = FIRST + timedelta(days=number)
    match unit:
        case "1d":
            return day, day + timedelta(days=1)
        case "1w":
            monday = day - timedelta(days=day.isoweekday() - 1)
            return monday, monday + timedelta(days=7)
        case "1mo":
            return day.replace(day=1), date(day.year + day.month // 12, day.month % 12 + 1, 1)
        case _:
            return date(day.year, 1, 1), date(day.year + 1, 1, 1)


def _zone(zone: str) -> tzinfo:
    return ZoneInfo(zone) if zone else UTC


def _midnight(day: date, where: tzinfo) -> int:
    """The first of two; the moment of the jump where there is none."""
    return int(datetime(day.year, day.month, day.day, tzinfo=where).timestamp()) * 1000
