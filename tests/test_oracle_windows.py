"""Hand-worked examples that hold the oracle's windows. Times are small whole milliseconds where no calendar is meant."""

from datetime import UTC, date, datetime

import pytest

from tests.oracle import Kpi, Message, Outcome, Row, Spec, Step, expect
from tests.oracle_windows import Window, closes_next, day_start, sessions, slice_length, steps, stretches, tumbling, whole

HOUR_MS = 3_600_000


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def told(*polls: list[tuple[int, str]], window: Window, groups: int = 9, shards: int = 1, lateness_ms: int = 0) -> Outcome:
    """What becomes of (time, group) in one partition, poll by poll."""
    kpis = (Kpi("n", "count", "*"), Kpi("pace", "rate", "*"))
    spec = Spec((window,), kpis, lateness_ms=lateness_ms, group_sets=(("g",),), max_groups=groups, shards=shards)
    offsets = iter(range(99))
    read = [[Message(0, next(offsets), 2000, None, {"t": time_ms, "g": group}) for time_ms, group in poll] for poll in polls]
    return expect(spec, [Step(2000, {0: messages}, 1) for messages in read])


def brief(rows: list[Row]) -> list[tuple[int, int, str | None, int]]:
    return sorted((row.start_ms, row.end_ms, row.group[0], row.events) for row in rows)


@pytest.mark.parametrize(
    ("size", "hop", "time", "want"),
    [
        (10, 5, 12, [(5, 15), (10, 20)]),  #   [5 ···· 15)  [10 ···· 20)
        (10, 5, 10, [(5, 15), (10, 20)]),  #   on the edge: [0, 10) is over
        (10, 4, 11, [(4, 14), (8, 18)]),  #    4 does not divide 10: two windows here
        (10, 4, 12, [(4, 14), (8, 18), (12, 22)]),  # and three there
        (10, 4, 1, [(-8, 2), (-4, 6), (0, 10)]),  # some begin before 1970
        (7, 7, 7, [(7, 14)]),
    ],
)
def test_a_hopping_window_begins_at_each_multiple_of_the_hop(size: int, hop: int, time: int, want: list[tuple[int, int]]) -> None:
    assert stretches(Window("hopping", size, hop), time, 1) == want


def test_a_cumulate_window_is_told_from_each_step_on_until_the_whole_is_over() -> None:
    #  12^4:  [0 ·· 4) [0 ···· 8) [0 ······ 12)[12 ·· 16)
    #               5                11  12
    window = Window("cumulate", 12, 4)
    assert stretches(window, 5, 4) == [(0, 8), (0, 12)]
    assert stretches(window, 11, 4) == [(0, 12)]
    assert stretches(window, 12, 4) == [(12, 16), (12, 20), (12, 24)]


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_a_day_of_steps_ends_with_the_day_however_long_it_is(day: str, hours: int) -> None:
    window = Window("cumulate", 0, 6 * HOUR_MS, "1d", "Europe/Berlin")
    start_ms, end_ms = whole(window, ms(f"{day}T12:00"))
    last_ms = (hours - 18) * HOUR_MS  # 5, 6 or 7 hours: the fourth step, and where that is not all a fifth of one hour
    more = [start_ms + 24 * HOUR_MS] if last_ms > 6 * HOUR_MS else []
    assert list(steps(window, start_ms, end_ms)) == [*(start_ms + n * 6 * HOUR_MS for n in (1, 2, 3)), *more, start_ms + hours * HOUR_MS]


def test_steps_of_a_week_begin_anew_at_each_midnight() -> None:
    window = Window("cumulate", 0, 12 * HOUR_MS, "1w", "Europe/Berlin")
    start_ms, end_ms = whole(window, ms("2026-03-29T12:00"))
    edges = steps(window, start_ms, end_ms)
    assert len(edges) == 14
    assert list(edges[-3:]) == [ms("2026-03-28T23:00"), ms("2026-03-29T11:00"), ms("2026-03-29T22:00")]  # Sunday: 23 hours


def test_a_day_begins_when_the_local_calendar_first_shows_it() -> None:
    assert day_start("America/Sao_Paulo", date(2017, 10, 15)) == ms("2017-10-15T03:00"), "no midnight: the clocks' jump"
    assert day_start("America/Havana", date(2026, 11, 1)) == ms("2026-11-01T04:00"), "two of them: the first"
    assert day_start("America/St_Johns", date(2006, 10, 29)) == ms("2006-10-29T02:30"), "back from 00:01: it has begun"
    assert day_start("Pacific/Apia", date(2011, 12, 30)) == day_start("Pacific/Apia", date(2011, 12, 31)) == ms("2011-12-30T10:00")
    assert day_start("Africa/Monrovia", date(1971, 1, 1)) == ms("1971-01-01T00:44") + 30_000


def test_a_slice_is_in_the_day_that_holds_its_start() -> None:
    #  Monrovia 1971: midnight is 00:44:30 UTC, in the slice [00:30, 00:45)
    window = Window("tumbling", unit="1d", zone="Africa/Monrovia")
    before, behind = day_start("Africa/Monrovia", date(1970, 12, 31)), day_start("Africa/Monrovia", date(1971, 1, 1))
    assert stretches(window, behind + 29_000, 900_000) == [(before, behind)]
    assert stretches(window, behind + 30_000, 900_000)[0][0] == behind


@pytest.mark.parametrize(
    ("times", "want"),
    [
        ([1, 5, 9], [[1, 5, 9]]),
        ([1, 6], [[1], [6]]),  #           6 is 1 + gap: a new session
        ([1, 5, 10, 14], [[1, 5], [10, 14]]),
        ([10, 1, 14, 5], [[1, 5], [10, 14]]),  # in whatever order they come
        ([1, 9, 5], [[1, 5, 9]]),  #           the one that came last is the bridge
    ],
)
def test_a_session_ends_where_nothing_comes_for_as_long_as_the_gap(times: list[int], want: list[list[int]]) -> None:
    assert sessions(times, int, 5) == want


def test_an_event_that_comes_after_others_but_is_not_late_bridges_two_sessions() -> None:
    #  gap 5, lateness 10:   a 1 ····· a 9   then a 5: one session [1, 14)      a 30: w = 20
    outcome = told([(1, "a"), (9, "a"), (5, "a"), (3, "b")], [(30, "a")], window=Window("session", 5), lateness_ms=10)
    assert brief(outcome.finals) == [(1, 14, "a", 3), (3, 8, "b", 1)]
    assert [row.kpis["pace"] for row in outcome.finals] == [1000 * 3 / 13, 200.0]
    assert brief(outcome.open) == [(30, 35, "a", 1)]
    assert outcome.told == outcome.perhaps == [], "an open session has no rows"


def test_a_session_closes_when_the_watermark_by_whole_slices_is_a_gap_behind_its_last_event() -> None:
    #  gap 5: slices of 5        a 1: [1, 6)      w = 6 counts as 5: open      w = 10: closed
    outcome = told([(1, "a")], [(6, "b")], [(10, "b")], window=Window("session", 5))
    assert [(row.start_ms, row.end_ms, row.closed_step) for row in outcome.finals] == [(1, 6, 2)]


def test_of_sessions_the_limit_holds_for_each_slice() -> None:
    #  one group a slice of 10 keeps its name; by crc32 "b" comes before "a"
    #  [0: a b)[10: a)        a in [0, 10) is of the rest, a in [10, 20) keeps its name
    outcome = told([(1, "a"), (2, "b"), (11, "a")], [(90, "b")], window=Window("session", 10), groups=1)
    assert brief(outcome.finals) == [(1, 11, "__other__", 1), (2, 12, "b", 1), (11, 21, "a", 1)]


def test_the_rest_of_all_shards_is_one_stream_of_sessions() -> None:
    #  rest: 1, 4, 8 whatever their shards: one session
    events = [(1, "a"), (2, "b"), (4, "c"), (5, "d"), (8, "e"), (8, "f"), (9, "g")]
    outcome = told(events, [(90, "b")], window=Window("session", 10), groups=2, shards=2)
    rests = [row for row in outcome.finals if row.rest]
    assert len(rests) == 1
    assert rests[0].events == len(events) - 2


@pytest.mark.parametrize(
    ("window", "closed", "want"),
    [
        (Window("hopping", 10, 5), 10, 15),
        (Window("hopping", 10, 4), 10, 14),
        (Window("hopping", 10, 4), 13, 14),
        (Window("cumulate", 12, 4), 11, 12),
        (Window("cumulate", 12, 4), 12, 16),
    ],
)
def test_of_windows_that_overlap_the_next_to_close_has_the_smallest_end_above_the_watermark(window: Window, closed: int, want: int) -> None:
    assert closes_next(window, closed) == want


def test_of_windows_that_overlap_only_the_next_to_close_has_provisional_rows() -> None:
    #  10/5, w = 12 counts as 10:    [5 ···· 15) is next; 12 is in [10, 20) too, of which nothing is told
    outcome = told([(8, "a"), (12, "a")], [(13, "a")], window=Window("hopping", 10, 5))
    assert brief(outcome.finals) == [(0, 10, "a", 1)]
    assert brief(outcome.open) == [(5, 15, "a", 3), (10, 20, "a", 2)]
    assert brief(outcome.told) == [(5, 15, "a", 3)]
    early = told([(8, "a"), (12, "a")], window=Window("hopping", 10, 5))
    assert (brief(early.told), brief(early.perhaps)) == ([], [(5, 15, "a", 2)]), "it became the next when both were there"


@pytest.mark.parametrize(
    ("windows", "want"),
    [
        (tumbling(10_000, 60_000), 10_000),
        ((Window("hopping", 10_000, 4_000), Window("session", 6_000)), 2_000),
        ((Window("cumulate", 86_400_000, 3_600_000),), 3_600_000),
        ((Window("tumbling", unit="1d", zone="Asia/Kolkata"),), 900_000),
        ((Window("tumbling", unit="1mo"),), 86_400_000),
        ((Window("cumulate", 0, 86_400_000, "1w", "Europe/Berlin"), *tumbling(600_000)), 300_000),
    ],
)
def test_a_slice_is_the_greatest_common_divisor_of_all_that_windows_begin_or_end_by(windows: tuple[Window, ...], want: int) -> None:
    assert slice_length(windows) == want


@pytest.mark.parametrize(
    ("window", "spelling", "label"),
    [
        (Window("tumbling", 86_400_000), "1d", "1d"),
        (Window("hopping", 300_000, 60_000), "5m/1m", "5m-1m"),
        (Window("session", 30_000), "gap 30s", "session-30s"),
        (Window("cumulate", 0, 60_000, "1d", "Europe/Berlin"), "1d^1m@Europe/Berlin", "cumulate-1d-1m-Europe-Berlin"),
        (Window("tumbling", unit="1w"), "1w", "1w"),
    ],
)
def test_windows_are_spelled_as_kpi_toml_and_topics_have_them(window: Window, spelling: str, label: str) -> None:
    assert (window.spelling, window.label) == (spelling, label)
