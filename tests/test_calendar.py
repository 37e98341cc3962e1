"""The edges of days, weeks, months and years where clocks change, against dates that people know and the local clock walked along."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.windows import bounds, next_step, parse_window
from tests.oracle_windows import Window, duration, steps, whole

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
YEAR_10000_MS = 253_402_300_800_000
ZONES = ("Europe/Berlin", "America/New_York", "America/Havana", "America/Sao_Paulo", "America/St_Johns", "Asia/Kolkata", "Pacific/Apia")
MORE = ("Australia/Lord_Howe", "Africa/Casablanca", "Asia/Gaza", "Asia/Kathmandu", "Pacific/Chatham", "Antarctica/Troll", "Asia/Pyongyang")


def ms(text: str) -> int:
    """A moment in UTC, as 2026-03-29T01:00."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def spelled(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms // 1000, UTC).isoformat(timespec="minutes").removesuffix("+00:00")


def stretch(window: str, time: str) -> tuple[str, str]:
    """Start and end of the one that holds a moment."""
    start, end = bounds(parse_window(window), np.array([ms(time)], np.int64))
    return spelled(start[0]), spelled(end[0])


@pytest.mark.parametrize(
    ("window", "time", "start", "end", "hours"),
    [
        ("1d@Europe/Berlin", "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00", 23),
        ("1d@Europe/Berlin", "2026-03-30T12:00", "2026-03-29T22:00", "2026-03-30T22:00", 24),
        ("1d@Europe/Berlin", "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00", 25),
        ("1d@America/New_York", "2026-03-08T12:00", "2026-03-08T05:00", "2026-03-09T04:00", 23),
        ("1d@America/New_York", "2026-11-01T12:00", "2026-11-01T04:00", "2026-11-02T05:00", 25),
        ("1d@Europe/Berlin", "2028-02-29T12:00", "2028-02-28T23:00", "2028-02-29T23:00", 24),
        ("1mo@Europe/Berlin", "2028-02-29T12:00", "2028-01-31T23:00", "2028-02-29T23:00", 29 * 24),
        ("1w@Europe/Berlin", "2026-03-29T12:00", "2026-03-22T23:00", "2026-03-29T22:00", 7 * 24 - 1),
        ("1mo@America/New_York", "2026-11-15T00:00", "2026-11-01T04:00", "2026-12-01T05:00", 30 * 24 + 1),
        ("1y@Europe/Berlin", "2028-07-01T00:00", "2027-12-31T23:00", "2028-12-31T23:00", 366 * 24),
        ("1y@Asia/Kolkata", "2027-12-31T18:30", "2027-12-31T18:30", "2028-12-31T18:30", 366 * 24),  # in UTC it is 2027 still
        ("1y", "2026-07-01T00:00", "2026-01-01T00:00", "2027-01-01T00:00", 365 * 24),
        ("1w", "2026-01-01T00:00", "2025-12-29T00:00", "2026-01-05T00:00", 7 * 24),
        ("1d@Asia/Kolkata", "2026-01-01T18:29", "2025-12-31T18:30", "2026-01-01T18:30", 24),
        ("1d@Asia/Kolkata", "2026-01-01T18:30", "2026-01-01T18:30", "2026-01-02T18:30", 24),
        # No midnight on 15 October: the clocks jump from 24:00 on the 14th to 01:00.
        ("1d@America/Sao_Paulo", "2017-10-15T12:00", "2017-10-15T03:00", "2017-10-16T02:00", 23),
        ("1d@America/Sao_Paulo", "2017-10-15T02:59", "2017-10-14T03:00", "2017-10-15T03:00", 24),
        # From 24:00 back to 23:00: the 17th has 25 hours, and midnight comes once.
        ("1d@America/Sao_Paulo", "2018-02-18T02:30", "2018-02-17T02:00", "2018-02-18T03:00", 25),
        # Two midnights: from 01:00 back to 00:00, and the day begins with the first.
        ("1d@America/Havana", "2026-11-01T04:30", "2026-11-01T04:00", "2026-11-02T05:00", 25),
        ("1d@America/Havana", "2026-03-08T12:00", "2026-03-08T05:00", "2026-03-09T04:00", 23),
        # From 00:01 back to 23:01: the day has begun all the same.
        ("1d@America/St_Johns", "2006-10-29T02:31", "2006-10-29T02:30", "2006-10-30T03:30", 25),
        ("1d@America/St_Johns", "2006-10-29T02:29", "2006-10-28T02:30", "2006-10-29T02:30", 24),
        # Across the date line: 30 December is left out, and with it no day is empty.
        ("1d@Pacific/Apia", "2011-12-30T09:59", "2011-12-29T10:00", "2011-12-30T10:00", 24),
        ("1d@Pacific/Apia", "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00", 24),
        ("1mo@Pacific/Apia", "2011-12-30T10:00", "2011-12-01T10:00", "2011-12-31T10:00", 30 * 24),
        ("1d@Australia/Lord_Howe", "2026-04-05T00:00", "2026-04-04T13:00", "2026-04-05T13:30", 24.5),
    ],
)
def test_days_begin_when_the_local_calendar_says_so(window: str, time: str, start: str, end: str, hours: float) -> None:
    assert stretch(window, time) == (start, end)
    assert ms(end) - ms(start) == hours * HOUR_MS


# A year of days by hand: from these dates on, midnight is this many minutes before midnight in UTC. Where a day begins by the old offset
# and ends by the new one it is the next that is named: clocks change after it has begun.
OFFSETS: dict[tuple[str, int], list[tuple[str, int]]] = {
    ("Europe/Berlin", 2026): [("01-01", 60), ("03-30", 120), ("10-26", 60)],  # last Sundays, at 01:00 UTC
    ("Europe/Berlin", 2028): [("01-01", 60), ("03-27", 120), ("10-30", 60)],
    ("America/New_York", 2026): [("01-01", -300), ("03-09", -240), ("11-02", -300)],  # second Sunday of March, first of November
    ("America/St_Johns", 2026): [("01-01", -210), ("03-09", -150), ("11-02", -210)],
    ("Asia/Kolkata", 2026): [("01-01", 330)],
    ("Australia/Sydney", 2026): [("01-01", 660), ("04-06", 600), ("10-05", 660)],  # first Sundays, at 03:00 and 02:00
    ("Pacific/Auckland", 2026): [("01-01", 780), ("04-06", 720), ("09-28", 780)],  # first Sunday of April, last of September
    ("Asia/Kathmandu", 2026): [("01-01", 345)],
    ("America/Phoenix", 2026): [("01-01", -420)],
}


def midnights(zone: str, year: int) -> Iterator[tuple[date, int]]:
    """Each day of the year and the first of the next, and when it begins."""
    day, offset = date(year, 1, 1), 0
    changes = {date.fromisoformat(f"{year}-{since}"): minutes for since, minutes in OFFSETS[zone, year]}
    while day <= date(year + 1, 1, 1):
        offset = changes.get(day, offset)
        yield day, ms(day.isoformat()) - offset * 60_000
        day += timedelta(days=1)


@pytest.mark.parametrize(("zone", "year"), OFFSETS)
@pytest.mark.parametrize("unit", ["1d", "1w", "1mo"])
def test_a_year_of_edges_is_as_written_by_hand(zone: str, year: int, unit: str) -> None:
    edges = [at_ms for day, at_ms in midnights(zone, year) if {"1d": True, "1w": day.isoweekday() == 1, "1mo": day.day == 1}[unit]]
    starts, ends = bounds(parse_window(f"{unit}@{zone}"), np.array(edges[:-1], np.int64))

    assert starts.tolist() == edges[:-1]
    assert ends.tolist() == edges[1:]
    assert len(edges) in {"1d": (366, 367), "1w": (52, 53), "1mo": (13,)}[unit]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(ZONES + MORE),
    st.sampled_from(["1d", "1w", "1mo", "1y"]),
    st.integers(ms("1972-01-08"), ms("2037-12-01")),
    st.lists(st.integers(0, 400 * DAY_MS), min_size=1, max_size=4),
)
def test_edges_are_where_the_local_clock_shows_another_date(zone: str, unit: str, first_ms: int, more_ms: list[int]) -> None:
    times = [first_ms + more for more in more_ms]
    window = Window("tumbling", unit=unit, zone=zone)
    starts, ends = bounds(parse_window(window.spelling), np.array(times, np.int64))

    assert [*zip(starts.tolist(), ends.tolist(), strict=True)] == [whole(window, time_ms) for time_ms in times]


SWITCHES = (("Europe/Berlin", "2026-03-29T00:00"), ("Europe/Berlin", "2026-10-25T00:00"), ("America/Sao_Paulo", "2017-10-15T02:00"))
MORE_SWITCHES = (("Pacific/Apia", "2011-12-30T09:00"), ("America/Havana", "2026-11-01T04:00"), ("America/St_Johns", "2006-10-29T02:00"))


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(SWITCHES + MORE_SWITCHES),
    st.sampled_from(["1d", "1w", "1mo"]),
    st.sampled_from([900_000, 1_800_000, HOUR_MS, 6 * HOUR_MS, 12 * HOUR_MS]),
    st.integers(-(2**28), 2**28),
)
def test_steps_begin_anew_at_each_local_midnight(switch: tuple[str, str], unit: str, step_ms: int, apart_ms: int) -> None:
    zone, near = switch
    window, time_ms = Window("cumulate", 0, step_ms, unit, zone), ms(near) + apart_ms
    parsed = parse_window(window.spelling)

    start_ms, end_ms = whole(window, time_ms)
    found = next_step(parsed, np.array([time_ms], np.int64)).tolist()
    assert found == [min(edge for edge in steps(window, start_ms, end_ms) if edge > time_ms)], duration(step_ms)


@pytest.mark.parametrize("zone", [*ZONES, "Pacific/Kiritimati", "Etc/GMT+12", ""])
@pytest.mark.parametrize("unit", ["1d", "1w", "1mo", "1y"])
def test_the_last_moment_of_the_year_9999_is_in_a_window(zone: str, unit: str) -> None:
    times = np.array([YEAR_10000_MS - 1], np.int64)
    starts, ends = bounds(parse_window(f"{unit}@{zone}" if zone else unit), times)

    assert (starts <= times).all()
    assert (times < ends).all()


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(ZONES + MORE),
    st.sampled_from(["1d", "1w", "1mo", "1y"]),
    st.integers(0, 90 * 365 * DAY_MS),
    st.lists(st.integers(0, 90 * DAY_MS), min_size=1),
)
def test_each_moment_from_1970_on_is_in_the_window_that_its_bounds_say(zone: str, unit: str, first_ms: int, more_ms: list[int]) -> None:
    times = [first_ms + more for more in more_ms]
    window = parse_window(f"{unit}@{zone}")
    starts, ends = bounds(window, np.array(times, np.int64))

    assert (starts <= times).all()
    assert (times < ends).all()
    assert (bounds(window, starts)[0] == starts).all(), "its first moment is in it"
    assert (bounds(window, ends - 1)[0] == starts).all(), "its last moment too"
