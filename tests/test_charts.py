"""From points to the columns of a chart: solid finals, dashed provisional rows, gaps that stay gaps, and only what changed is sent."""

from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.document.events import ColumnsStreamedEvent, DocumentChangedEvent
from bokeh.models import ColumnDataSource

from serve.charts import Gap, Line, columns, hanging, spaced
from serve.series import POINTS, Board, Point
from serve.shape import TOTAL, Kpi, Row, Shape

SIZE_MS = 10_000
SHAPE = Shape("shop", "10s", SIZE_MS, (Kpi("orders", "count", "*", ""),), {})


def row(window: int, value: float | None = 1.0, *, final: bool = True, revision: int = 0) -> Row:
    return Row(TOTAL, window * SIZE_MS, (window + 1) * SIZE_MS, 5, revision, final, None, (value,))


def column(source: ColumnDataSource, name: str = "y0") -> Any:
    return source.data[name]


def drawn(rows: list[Row]) -> str:
    """F a final, p a provisional row, | a gap."""
    return "".join("|" if isinstance(it, Gap) else "F" if it.final else "p" for it in spaced(rows))


class Shown:
    """A line that follows a board, and what that sends to the browser."""

    def __init__(self) -> None:
        self.board, self.line, self.sent = Board(), Line("total", "#000", 1), list[DocumentChangedEvent]()
        document = Document()
        for source in (self.line.finals, self.line.open):
            document.add_root(source)
        document.on_change(self.sent.append)

    def take(self, *rows: Row) -> None:
        self.sent.clear()
        for each in rows:
            self.board.upsert(SHAPE, each, 0)
        self.line.show(*self.board.points("shop", "10s", TOTAL))


def test_a_missing_window_is_a_gap() -> None:  # [0)[1)   [3)
    assert drawn([row(0), row(1), row(3)]) == "FF|F"


def test_an_unknown_value_is_a_gap_and_zero_is_not() -> None:
    assert np.isnan(columns([row(0), row(1, None), row(2, 0.0)], 1)["y0"]).tolist() == [False, True, False]


def test_a_provisional_line_hangs_on_the_final_before_it() -> None:
    assert drawn(hanging([row(0), row(1), row(2, final=False), row(3, final=False)])) == "Fpp"


def test_a_provisional_row_between_finals_hangs_on_both() -> None:
    assert drawn(hanging([row(0), row(1), row(2, final=False), row(3), row(4)])) == "FpF"


def test_a_provisional_row_behind_a_gap_hangs_on_nothing() -> None:
    assert drawn(hanging([row(0), row(3, final=False)])) == "F|p"


def test_only_provisional_rows_are_marked_on_the_dashed_line() -> None:
    shown = Shown()
    shown.take(row(0, 7.0), row(1, 8.0, final=False))
    assert column(shown.line.open).tolist() == [7.0, 8.0]
    assert np.isnan(column(shown.line.open, "d0")).tolist() == [True, False]


def test_a_new_final_is_streamed_and_the_rest_is_not_sent_again() -> None:
    shown = Shown()
    shown.take(row(0), row(1))
    shown.take(row(2, 9.0), row(4, 9.5))
    streamed = [np.asarray(event.data["start"]).tolist() for event in shown.sent if isinstance(event, ColumnsStreamedEvent)]
    assert streamed == [[20_000.0, 30_000.0, 40_000.0]]  # the gap is streamed too
    assert np.isnan(column(shown.line.finals)).tolist() == [False, False, False, True, False]


def test_a_change_of_an_older_final_draws_the_line_anew() -> None:
    shown = Shown()
    shown.take(row(0), row(2))
    shown.take(row(1, 5.0))
    assert column(shown.line.finals).tolist() == [1.0, 5.0, 1.0]


def test_a_provisional_row_becomes_final_in_its_place() -> None:
    shown = Shown()
    shown.take(row(0), row(1, 5.0, final=False))
    shown.take(row(1, 6.0, revision=1))
    assert column(shown.line.finals).tolist() == [1.0, 6.0]
    assert column(shown.line.open).tolist() == []


def test_the_whole_line_is_the_same_whether_it_came_at_once_or_bit_by_bit() -> None:
    rows = [row(window, float(window)) for window in range(40) if window % 7]
    at_once, by_bits = Shown(), Shown()
    at_once.take(*rows)
    for each in rows:
        by_bits.take(each._replace(final=False), each)
    for name in ("start", "y0"):
        np.testing.assert_array_equal(by_bits.line.finals.data[name], at_once.line.finals.data[name])


def test_where_nothing_changed_nothing_is_sent() -> None:
    shown = Shown()
    shown.take(row(0), row(1, final=False))
    shown.take()
    assert shown.sent == []


def test_a_line_never_grows_beyond_its_bound() -> None:
    shown = Shown()
    for window in range(POINTS + 50):
        shown.take(row(window))
    assert len(column(shown.line.finals, "start")) == POINTS


def test_the_newest_value_is_the_newest_final_while_there_is_one() -> None:
    line = Line("total", "#000", 1)
    line.show(1, [Point(row(0, final=False), 1)])
    assert line.newest == row(0, final=False)
    line.show(2, [Point(row(0), 2), Point(row(1, final=False), 2)])
    assert line.newest == row(0)
