"""From points to the columns of charts: finals, provisional rows, gaps, groups side by side, and only what changed is sent."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from bokeh.document import Document
from bokeh.document.events import ColumnsStreamedEvent, DocumentChangedEvent
from bokeh.models import ColumnDataSource
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.kinds import TUMBLING, Kind
from serve.lines import GAP, Gap, Lines, hanging, spaced
from serve.series import Board
from serve.shape import IDLE, OPEN, TOTAL, Group, Kpi, Row, Shape
from serve.table import POINTS

SIZE_MS = 10_000
SHAPE = Shape("shop", "10s", SIZE_MS, (Kpi("orders", "count", "*", ""),), {})
DE, FR = Group(("country",), ("DE",)), Group(("country",), ("FR",))


def row(window: int, value: float | None = 1.0, *, final: bool = True, revision: int = 0, group: Group = TOTAL) -> Row:
    return Row(group, window * SIZE_MS, (window + 1) * SIZE_MS, 5, revision, final, "data" if final else None, (value,))


def column(source: ColumnDataSource, name: str = "y0") -> list[Any]:
    """A column, with None for NaN."""
    return [None if isinstance(it, float) and np.isnan(it) else it for it in np.asarray(source.data[name]).tolist()]


def drawn(rows: list[Row]) -> str:
    """F a final, p a provisional row, | a gap."""
    return "".join("|" if isinstance(it, Gap) else "F" if it.final else "p" for it in spaced(rows, TUMBLING))


class Shown:
    """Lines that follow a board, and what that sends to the browser."""

    def __init__(self, *groups: Group, shape: Shape = SHAPE) -> None:
        self.board, self.lines, self.sent = Board(), Lines(shape, groups or (TOTAL,)), list[DocumentChangedEvent]()
        self.shape = shape
        self.finals, self.open = self.lines.finals, self.lines.open
        document = Document()
        for source in (self.finals, self.open):
            document.add_root(source)
        document.on_change(self.sent.append)

    def take(self, *rows: Row, until_ms: int = 0) -> "Shown":
        self.sent.clear()
        for each in rows:
            self.board.upsert(self.shape, each, 0)
        self.lines.show(self.board, until_ms)
        return self

    def streamed(self) -> list[list[float]]:
        return [np.asarray(event.data["start"]).tolist() for event in self.sent if isinstance(event, ColumnsStreamedEvent)]


def test_a_missing_window_is_a_gap() -> None:  # [0)[1)   [3)
    assert drawn([row(0), row(1), row(3)]) == "FF|F"


def test_an_unknown_value_a_missing_window_and_zero_are_three_different_rows() -> None:
    shown = Shown().take(row(0), row(1, None), row(2, 0.0), row(4))
    assert column(shown.finals) == [1.0, None, 0.0, None, 1.0]
    assert column(shown.finals, "how") == ["final", "final", "final", GAP, "final"]


def test_a_line_leads_to_a_point_from_the_window_before_and_from_nowhere_behind_a_gap() -> None:
    shown = Shown().take(row(0, 7.0), row(1, 8.0), row(3, 9.0))
    assert column(shown.finals, "from") == [None, 5_000, 15_000, None]  # the third is the gap, which has no value to lead to
    assert column(shown.finals, "p0") == [None, 7.0, 8.0, None]


def test_the_stretch_around_a_point_is_as_wide_as_its_window_and_meets_its_neighbours() -> None:
    shown = Shown().take(row(0), row(1), row(3))
    assert column(shown.finals, "left")[1:] == column(shown.finals, "right")[:-1]
    assert (column(shown.finals, "left")[0], column(shown.finals, "right")[-1]) == (0, 40_000)
    assert column(shown.finals, "at") == [5_000, 15_000, 25_000, 35_000]


def test_a_provisional_line_hangs_on_the_final_before_it() -> None:
    assert drawn(hanging([row(0), row(1), row(2, final=False), row(3, final=False)])) == "Fpp"


def test_a_provisional_row_between_finals_hangs_on_both() -> None:
    assert drawn(hanging([row(0), row(1), row(2, final=False), row(3), row(4)])) == "FpF"


def test_a_provisional_row_behind_a_gap_hangs_on_nothing() -> None:
    assert drawn(hanging([row(0), row(3, final=False)])) == "F|p"


def test_a_provisional_row_between_finals_is_no_gap_and_has_no_solid_point() -> None:
    shown = Shown().take(row(0, 7.0), row(1, 8.0, final=False), row(2, 9.0))
    assert (column(shown.finals), column(shown.finals, "how")) == ([7.0, None, 9.0], ["final", OPEN, "final"])
    assert column(shown.finals, "p0") == [None, 7.0, None]
    assert column(shown.open) == [7.0, 8.0, 9.0]


def test_only_provisional_rows_are_marked_on_the_dashed_line() -> None:
    shown = Shown().take(row(0, 7.0), row(1, 8.0, final=False))
    assert column(shown.open) == [7.0, 8.0]
    assert column(shown.open, "d0") == [None, 8.0]


def test_a_window_that_idle_closed_and_one_that_was_repaired_say_so() -> None:
    shown = Shown().take(row(0)._replace(closed_by="idle"), row(1)._replace(closed_by="repair"), row(2))
    assert column(shown.finals, "how") == [IDLE, "final, repaired", "final"]


def test_a_new_final_is_streamed_and_the_rest_is_not_sent_again() -> None:
    shown = Shown().take(row(0), row(1)).take(row(2, 9.0), row(4, 9.5))
    assert shown.streamed() == [[20_000.0, 30_000.0, 40_000.0]]  # the gap is streamed too
    assert column(shown.finals) == [1.0, 1.0, 9.0, None, 9.5]
    assert column(shown.finals, "p0") == [None, 1.0, 1.0, 9.0, None]


def test_a_change_of_an_older_final_draws_the_lines_anew() -> None:
    shown = Shown().take(row(0), row(2)).take(row(1, 5.0))
    assert column(shown.finals) == [1.0, 5.0, 1.0]


def test_a_provisional_row_becomes_final_in_its_place() -> None:
    shown = Shown().take(row(0), row(1, 5.0, final=False)).take(row(1, 6.0, revision=1))
    assert column(shown.finals) == [1.0, 6.0]
    assert column(shown.open) == []


def test_each_group_has_its_colour_and_its_own_line() -> None:
    shown = Shown(DE, FR).take(row(0, 1.0, group=DE), row(0, 5.0, group=FR), row(1, 2.0, group=DE), row(1, 6.0, group=FR))
    assert column(shown.finals, "group") == ["DE", "FR", "DE", "FR"]
    assert column(shown.finals) == [1.0, 5.0, 2.0, 6.0]
    assert column(shown.finals, "p0") == [None, None, 1.0, 5.0]
    assert column(shown.finals, "colour")[:2] == [*shown.lines.colours]


def test_a_group_that_has_no_final_yet_does_not_make_the_others_be_sent_again() -> None:
    shown = (
        Shown(DE, FR)
        .take(row(0, group=DE), row(0, group=FR, final=False))
        .take(row(1, group=DE), row(0, 2.0, group=FR, final=False, revision=1))
    )
    assert shown.streamed() == [[10_000.0]]


def test_what_begins_after_the_pause_is_not_shown_and_comes_when_it_is_over() -> None:
    shown = Shown().take(row(0), row(1), row(2), until_ms=15_000)
    assert column(shown.finals) == [1.0, 1.0]
    assert column(shown.take(row(3)).finals) == [1.0] * 4
    assert shown.streamed() == [[20_000.0, 30_000.0]]


def test_one_session_that_is_paused_does_not_hide_rows_from_another() -> None:
    shown = Shown().take(row(0), row(1), until_ms=5_000)
    other = Lines(SHAPE, [TOTAL])
    other.show(shown.board)
    assert (column(shown.finals), column(other.finals)) == ([1.0], [1.0, 1.0])


def test_only_the_chosen_stretch_of_time_is_drawn_and_it_moves_on() -> None:
    shown = Shown()
    shown.lines = Lines(SHAPE, [TOTAL], 30_000)
    shown.take(*(row(window) for window in range(10)))
    assert column(shown.lines.finals, "start") == [60_000, 70_000, 80_000, 90_000]
    shown.take(row(10))
    assert column(shown.lines.finals, "start") == [70_000, 80_000, 90_000, 100_000]


# Windows of other kinds. Times in the drawings are minutes.

MINUTE_MS = 60_000
HOPPING = replace(SHAPE, window="5m-1m", size_ms=5 * MINUTE_MS, kind=Kind("hopping", MINUTE_MS))
CUMULATE = replace(SHAPE, window="cumulate-1h-10m", size_ms=60 * MINUTE_MS, kind=Kind("cumulate", 10 * MINUTE_MS))
MONTHS = replace(SHAPE, window="1mo", size_ms=30 * 1440 * MINUTE_MS, kind=Kind("tumbling", 0, "1mo"))
SESSIONS = replace(SHAPE, window="session-30s", size_ms=MINUTE_MS // 2, kind=Kind("session"))


def spanning(start: float, end: float, value: float | None = 1.0, *, final: bool = True, group: Group = TOTAL) -> Row:
    """The row of the window [start, end), minutes."""
    return row(0, value, final=final, group=group)._replace(start_ms=int(start * MINUTE_MS), end_ms=int(end * MINUTE_MS))


def minutes(source: ColumnDataSource, name: str) -> list[Any]:
    return [it if it is None else it / MINUTE_MS for it in column(source, name)]


def test_a_hopping_windows_point_is_at_its_end_and_its_strip_is_a_hop_wide() -> None:
    #  [0------------5)
    #     [1------------6)         a hop later: no gap, though it begins before the other ends
    #              [3------------8)   [2---7) is missing
    shown = Shown(shape=HOPPING).take(spanning(0, 5, 10.0), spanning(1, 6, 20.0), spanning(3, 8, 40.0))
    assert column(shown.finals) == [10.0, 20.0, None, 40.0]
    assert column(shown.finals, "how") == ["final", "final", GAP, "final"]
    assert minutes(shown.finals, "at") == [5, 6, 7, 8]
    assert minutes(shown.finals, "left") == [4.5, 5.5, 6.5, 7.5]
    assert minutes(shown.finals, "right") == [5.5, 6.5, 7.5, 8.5]
    assert minutes(shown.finals, "from") == [None, 5, 6, None]


def test_rows_of_a_stretch_that_begin_together_are_windows_of_their_own_and_the_next_stretch_begins_anew() -> None:
    #  [0--10)                   so far, told at each step
    #  [0-----20)
    #  [0-----------40)          [0--30) is missing
    #                  [60--70)  the next stretch: its line does not come from the last; [0--50), [0--60) are missing
    shown = Shown(shape=CUMULATE).take(spanning(0, 10, 1.0), spanning(0, 20, 2.0), spanning(0, 40, 4.0), spanning(60, 70, 1.5))
    assert column(shown.finals) == [1.0, 2.0, None, 4.0, None, 1.5]
    assert minutes(shown.finals, "at") == [10, 20, 30, 40, 55, 70]
    assert minutes(shown.finals, "from") == [None, 10, None, None, None, None]
    shown.take(spanning(60, 80, 3.0))
    assert shown.streamed() == [[60 * MINUTE_MS]]
    assert minutes(shown.finals, "from")[-1] == 70


def test_from_one_stretch_to_the_next_nothing_is_missing_and_no_line_leads() -> None:  # [0--50) [0---60) [60-70)
    shown = Shown(shape=CUMULATE).take(spanning(0, 50, 5.0), spanning(0, 60, 6.0), spanning(60, 70, 1.0))
    assert column(shown.finals) == [5.0, 6.0, 1.0]
    assert minutes(shown.finals, "from") == [None, 50, None]


def test_a_stretch_of_the_calendar_whose_last_step_is_shorter_has_no_gap_there() -> None:
    #  a day of 23 hours, each 2 hours:  [0---20h) [0----22h) [0-----23h) [23h-25h)
    shape = replace(SHAPE, window="cumulate-1d-2h-Europe-Berlin", kind=Kind("cumulate", 120 * MINUTE_MS, "1d", "Europe/Berlin"))
    shown = Shown(shape=shape).take(*(spanning(0, 60 * end) for end in (20, 22, 23)), spanning(60 * 23, 60 * 25))
    assert column(shown.finals) == [1.0] * 4
    assert minutes(shown.finals, "at") == [60 * end for end in (20, 22, 23, 25)]


def test_months_of_31_and_28_days_are_as_wide_as_they_are_and_meet() -> None:  # [January)[February)   [April)
    days = [(0, 31), (31, 59), (90, 120)]
    shown = Shown(shape=MONTHS).take(*(spanning(1440 * start, 1440 * end) for start, end in days))
    assert column(shown.finals, "how") == ["final", "final", GAP, "final"]
    assert [it / 1440 for it in minutes(shown.finals, "left")] == [0, 31, 59, 90]
    assert [it / 1440 for it in minutes(shown.finals, "right")] == [31, 59, 90, 120]
    assert [it / 1440 for it in minutes(shown.finals, "at")] == [15.5, 45, 74.5, 105]


def test_between_sessions_nothing_is_missing_and_each_has_its_start_and_its_length() -> None:  # [0-1)    [7----9.5)  [60-60.5)
    shown = Shown(shape=SESSIONS).take(spanning(0, 1, 3.0), spanning(7, 9.5, 4.0), spanning(60, 60.5, 5.0))
    assert column(shown.finals) == [3.0, 4.0, 5.0]
    assert column(shown.finals, "how") == ["final"] * 3
    assert minutes(shown.finals, "at") == minutes(shown.finals, "start") == [0, 7, 60]
    assert minutes(shown.finals, "length") == [1, 2.5, 0.5]
    assert minutes(shown.finals, "from") == [None, 0, 7]


def test_sessions_of_two_groups_keep_their_own_windows() -> None:
    shown = Shown(DE, FR, shape=SESSIONS).take(spanning(0, 1, group=DE), spanning(0.5, 4, group=FR), spanning(2, 3, group=DE))
    assert list(zip(column(shown.finals, "group"), minutes(shown.finals, "at"), strict=True)) == [("DE", 0), ("FR", 0.5), ("DE", 2)]


def test_a_page_that_was_paused_within_a_stretch_shows_it_as_far_as_it_was_then() -> None:
    #  [0--10)
    #  [0-----20)
    #  [0--------30)   the one under way when it was paused at 25
    #  [0-----------40)
    rows = [spanning(0, end, float(end)) for end in (10, 20, 30, 40)]
    shown = Shown(shape=CUMULATE).take(*rows, until_ms=25 * MINUTE_MS)
    assert column(shown.finals) == [10.0, 20.0, 30.0]


def test_of_a_stretch_the_chosen_range_of_time_is_drawn_and_it_moves_on() -> None:
    shown = Shown(shape=CUMULATE)
    shown.lines = Lines(CUMULATE, [TOTAL], 20 * MINUTE_MS)
    shown.take(*(spanning(0, end) for end in (10, 20, 30, 40, 50)))
    assert minutes(shown.lines.finals, "end") == [30, 40, 50]
    shown.take(spanning(0, 60))
    assert minutes(shown.lines.finals, "end") == [40, 50, 60]


KINDS: dict[str, tuple[Shape, Callable[[int], tuple[int, int]]]] = {  # the windows by their numbers, minutes
    "hopping": (HOPPING, lambda number: (number, number + 5)),
    "cumulate": (CUMULATE, lambda number: (number // 6 * 60, (number + 1) * 10)),
    "months": (MONTHS, lambda number: (1440 * 30 * number + number, 1440 * 30 * (number + 1) + number + 1)),
    "sessions": (SESSIONS, lambda number: (number * 3 + number % 2, number * 3 + 2)),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=40)
@given(said=st.lists(st.tuples(st.integers(0, 20), st.sampled_from([DE, FR]), st.booleans()), max_size=40), bit=st.integers(1, 7))
def test_what_is_drawn_of_any_kind_is_the_same_whether_it_came_at_once_or_bit_by_bit(kind: str, said: list[Any], bit: int) -> None:
    shape, bounds = KINDS[kind]
    rows = [spanning(*bounds(number), float(number), final=final, group=group) for number, group, final in said]
    at_once, by_bits = Shown(DE, FR, shape=shape).take(*rows), Shown(DE, FR, shape=shape)
    for at in range(0, len(rows), bit):
        by_bits.take(*rows[at : at + bit])
    for one, other in ((by_bits.finals, at_once.finals), (by_bits.open, at_once.open)):
        assert lines_of(one) == lines_of(other)
    places = {
        group: [at for at, its in zip(column(by_bits.finals, "at"), column(by_bits.finals, "group"), strict=True) if its == group]
        for group in ("DE", "FR")
    }
    assert all(sorted(set(its)) == its for its in places.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_line_of_any_kind_never_grows_beyond_its_bound(kind: str) -> None:
    shape, bounds = KINDS[kind]
    shown = Shown(shape=shape)
    for number in range(0, POINTS + 200, 50):
        shown.take(*(spanning(*bounds(number + at)) for at in range(50)))
    assert len(column(shown.finals, "at")) == POINTS
    newest = max(range(0, POINTS + 200, 50)) + 49
    assert minutes(shown.finals, "end")[-1] == bounds(newest)[1]


def lines_of(source: ColumnDataSource) -> list[Any]:
    return sorted(zip(*(map(str, column(source, name)) for name in source.column_names), strict=True))


@settings(deadline=None)  # a busy machine is no mistake
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.sampled_from([DE, FR]), st.booleans(), st.integers(0, 3), st.none() | st.floats(-9, 9)),
        max_size=40,
    ),
    st.integers(1, 7),
)
def test_what_is_drawn_is_the_same_whether_it_came_at_once_or_bit_by_bit(said: list[Any], bit: int) -> None:
    rows = [row(window, value, final=final, revision=revision, group=group) for window, group, final, revision, value in said]
    at_once, by_bits = Shown(DE, FR).take(*rows), Shown(DE, FR)
    for at in range(0, len(rows), bit):
        by_bits.take(*rows[at : at + bit])
    for one, other in ((by_bits.finals, at_once.finals), (by_bits.open, at_once.open)):
        assert lines_of(one) == lines_of(other)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from([DE, FR])), max_size=60), st.integers(1, 5), st.integers(0, 12))
def test_what_has_left_the_range_of_time_is_drawn_no_more_however_few_windows_there_are(
    said: list[tuple[int, Group]], bit: int, last: int
) -> None:
    moving, board = Shown(DE, FR), Board()
    moving.lines, moving.board = Lines(SHAPE, (DE, FR), last * SIZE_MS), board
    rows = [row(window, group=group) for window, group in said]
    for at in range(0, len(rows), bit):
        moving.take(*rows[at : at + bit])
    fresh = Lines(SHAPE, (DE, FR), last * SIZE_MS)
    fresh.show(board)
    one, other = ([*zip(column(it.finals, "start"), column(it.finals, "group"), strict=True)] for it in (moving.lines, fresh))
    assert sorted(one) == sorted(other)


def test_where_nothing_changed_nothing_is_sent() -> None:
    assert Shown().take(row(0), row(1, final=False)).take().sent == []


def test_a_line_never_grows_beyond_its_bound() -> None:
    shown = Shown()
    for window in range(0, POINTS + 200, 50):
        shown.take(*(row(window + at) for at in range(50)))
    assert len(column(shown.finals, "start")) == POINTS


def test_the_newest_value_is_the_newest_final_while_there_is_one() -> None:
    shown = Shown().take(row(0, final=False))
    assert shown.lines.newest == [row(0, final=False)]
    shown.take(row(0), row(1, final=False))
    assert shown.lines.newest == [row(0)]
