"""The sparklines and tiles of the overview."""

import re
from dataclasses import replace

import pytest

from serve.kinds import Kind
from serve.lines import see
from serve.overview import WINDOWS, path, tiles
from serve.series import Board
from serve.shape import TOTAL, Kpi, Row, Shape

SHAPE = Shape("shop", "10s", 10_000, (Kpi("revenue", "sum", "total", "EUR"),), {})


def row(window: int, value: float | None, *, final: bool = True) -> Row:
    return Row(TOTAL, window * 10_000, (window + 1) * 10_000, 5, 0, final, "data" if final else None, (value,))


def drawn(*values: float | None) -> str:
    return path([row(at, value) for at, value in enumerate(values)], 0, SHAPE)


def shown(*rows: Row, shape: Shape = SHAPE) -> str:
    board = Board()
    for each in rows:
        board.upsert(shape, each, 0)
    return re.sub("[ \n]+", " ", re.sub(r"<[^>]+>", " ", tiles(shape, see(board, shape, TOTAL))))


def spanning(start: int, end: int, value: float | None) -> Row:
    """The row of the window [start, end), minutes."""
    return row(0, value)._replace(start_ms=start * 60_000, end_ms=end * 60_000)


HOPPING = replace(SHAPE, window="5m-1m", size_ms=300_000, kind=Kind("hopping", 60_000))
CUMULATE = replace(SHAPE, window="cumulate-1h-10m", size_ms=3_600_000, kind=Kind("cumulate", 600_000))
SESSIONS = replace(SHAPE, window="session-1m", size_ms=60_000, kind=Kind("session"))
BERLIN = replace(SHAPE, window="1d-Europe-Berlin", size_ms=86_400_000, kind=Kind("tumbling", 0, "1d", "Europe/Berlin"))


@pytest.mark.parametrize(
    ("shape", "bounds", "said"),
    [
        (HOPPING, [(0, 5), (1, 6)], "5m every 1m · newest final window revenue 120 EUR +20.0 %"),  # the window a hop before
        (HOPPING, [(0, 5), (2, 7)], "5m every 1m · newest final window revenue 120 EUR &nbsp;"),
        (CUMULATE, [(0, 10), (0, 20)], "1h so far, each 10m · newest final window revenue 120 EUR +20.0 %"),  # the step before
        (CUMULATE, [(0, 10), (0, 30)], "1h so far, each 10m · newest final window revenue 120 EUR &nbsp;"),
        (CUMULATE, [(0, 60), (60, 70)], "1h so far, each 10m · newest final window revenue 120 EUR &nbsp;"),  # another stretch
        (SESSIONS, [(0, 3), (90, 97)], "sessions, 1m gap · newest final window revenue 120 EUR +20.0 %"),  # the session before
        (BERLIN, [(0, 1380), (1380, 2820)], "1d Europe/Berlin · newest final window revenue 120 EUR +20.0 %"),  # of 23 and of 24 hours
        (BERLIN, [(0, 1380), (1440, 2880)], "1d Europe/Berlin · newest final window revenue 120 EUR &nbsp;"),
    ],
)
def test_a_tile_compares_with_the_window_before_as_its_kind_has_it(shape: Shape, bounds: list[tuple[int, int]], said: str) -> None:
    before, newest = (spanning(*its, value) for its, value in zip(bounds, (100.0, 120.0), strict=True))
    assert shown(before, newest, shape=shape).strip() == said


def test_a_sparkline_of_each_kind_breaks_where_that_kind_breaks() -> None:
    assert path([spanning(0, 5, 1.0), spanning(1, 6, 3.0), spanning(4, 9, 2.0)], 0, HOPPING) == "M0.0 22.0L25.0 2.0M100.0 12.0"
    assert path([spanning(0, 50, 1.0), spanning(0, 60, 3.0), spanning(60, 70, 2.0)], 0, CUMULATE) == "M0.0 22.0L50.0 2.0M100.0 12.0"
    assert path([spanning(0, 2, 1.0), spanning(50, 99, 3.0), spanning(100, 101, 2.0)], 0, SESSIONS) == "M0.0 22.0L50.0 2.0L100.0 12.0"


def test_a_sparkline_goes_from_the_first_window_to_the_last_and_from_the_lowest_value_to_the_highest() -> None:
    assert drawn(1.0, 3.0, 2.0) == "M0.0 22.0L50.0 2.0L100.0 12.0"


def test_a_sparkline_breaks_where_a_window_is_missing_or_unknown() -> None:
    assert drawn(1.0, None, 3.0) == "M0.0 22.0M100.0 2.0"
    assert path([row(0, 1.0), row(2, 3.0)], 0, SHAPE) == "M0.0 22.0M100.0 2.0"


def test_the_largest_doubles_have_a_sparkline_and_no_change_that_is_no_number() -> None:
    assert drawn(-1.7e308, 1.7e308, 0.0) == "M0.0 22.0L50.0 2.0L100.0 12.0"
    assert drawn(0.0, 5e-324) == "M0.0 12.0L100.0 12.0"
    assert "%" not in shown(row(0, -1.7e308), row(1, 1.7e308))


def test_a_constant_lies_in_the_middle_and_one_without_values_is_not_drawn() -> None:
    assert drawn(5.0, 5.0) == "M0.0 12.0L100.0 12.0"
    assert drawn(None, None) == ""


def test_a_tile_shows_the_newest_final_value_and_its_change_against_the_window_before() -> None:
    assert "120 EUR +20.0 %" in re.sub(" +", " ", shown(row(0, 100.0), row(1, 120.0), row(2, 7.0, final=False)))


def test_a_tile_says_no_change_where_the_window_before_is_missing() -> None:
    assert "%" not in shown(row(0, 100.0), row(2, 120.0))


def test_while_nothing_is_final_a_tile_shows_what_there_is_so_far() -> None:
    text = shown(row(0, 7.0, final=False))
    assert "so far" in text
    assert "7" in text


def test_a_sparkline_is_bounded() -> None:
    board = Board()
    for at in range(3 * WINDOWS):
        board.upsert(SHAPE, row(at, float(at)), 0)
    assert len(re.findall("[ML]", tiles(SHAPE, see(board, SHAPE, TOTAL)).split(' d="')[1])) == WINDOWS
