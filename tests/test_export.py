"""Rows as CSV: which rows, which columns, nothing that a spreadsheet would run, nothing that it would misread."""

import csv
import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from serve.export import PART, chosen, csv_parts, csv_text, file_name, known
from serve.kinds import Kind
from serve.selection import ALL, Wish, resolve
from serve.series import Board
from serve.shape import TOTAL, Group, Kpi, Row, Shape

REVENUE, ORDERS = Kpi("revenue", "sum", "total", "EUR"), Kpi("orders", "count", "*", "")
SHAPE = Shape("shop.orders", "10s", 10_000, (REVENUE, ORDERS), {"country": "country", "customer.tier": "customer_tier"})
ROW = Row(TOTAL, 1_700_000_000_000, 1_700_000_010_000, 12, 3, True, "data", (0.1 + 0.2, None))


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_row_has_all_that_is_known_of_it_in_columns() -> None:
    (row,) = read(csv_text([(SHAPE, ROW._replace(group=Group(("country",), ("DE",))))]))
    assert row == {
        "topic": "shop.orders",
        "window": "10s",
        "country": "DE",
        "customer_tier": "",
        "window_start": "2023-11-14T22:13:20.000Z",
        "window_end": "2023-11-14T22:13:30.000Z",
        "events": "12",
        "revenue": "0.30000000000000004",
        "orders": "",
        "revision": "3",
        "final": "true",
        "closed_by": "data",
    }


@pytest.mark.parametrize("value", [1e308, 5e-324, 1 / 3, -2.5, 123456789012345.6])
def test_a_number_comes_back_exactly(value: float) -> None:
    (row,) = read(csv_text([(SHAPE, ROW._replace(values=(value, None)))]))
    assert float(row["revenue"]) == value


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_a_text_that_a_spreadsheet_would_run_has_a_quote_in_front(begin: str) -> None:
    text = f'{begin}HYPERLINK("http://x","y")'
    row = ROW._replace(group=Group(("country",), (text,)), closed_by=text, values=(text, -1.0))
    (got,) = read(csv_text([(replace(SHAPE, topic=text, window=text), row)]))
    assert [got[name] for name in ("topic", "window", "country", "closed_by", "revenue")] == [f"'{text}"] * 5
    assert got["orders"] == "-1.0"  # a number is one


def test_the_name_of_a_column_is_no_formula_either() -> None:
    shape = replace(SHAPE, kpis=(Kpi("=1+1", "sum", "", ""), ORDERS), fields={"x": "@x"})
    assert (
        csv_text([(shape, ROW)]).splitlines()[0] == "topic,window,'@x,window_start,window_end,events,'=1+1,orders,revision,final,closed_by"
    )


def test_line_ends_commas_and_quotes_stay_inside_their_cell() -> None:
    text = 'a,"b"\nc'
    (row,) = read(csv_text([(SHAPE, ROW._replace(group=Group(("country",), (text,))))]))
    assert row["country"] == text


def test_what_is_no_number_and_no_text_is_json() -> None:
    bars: Any = (("ä", 3), ("b", 1))
    (row,) = read(csv_text([(SHAPE, ROW._replace(values=(bars, None)))]))
    assert json.loads(row["revenue"]) == [["ä", 3], ["b", 1]]


def test_rows_of_several_shapes_share_their_columns() -> None:
    other = replace(SHAPE, window="1m", kpis=(ORDERS, Kpi("basket", "mean", "total", "EUR")), fields={"channel": "channel"})
    one, two = read(csv_text([(SHAPE, ROW), (other, ROW._replace(values=(5.0, 7.0)))]))
    assert list(one) == list(two)
    assert (one["revenue"], one["basket"], two["revenue"], two["orders"], two["basket"]) == ("0.30000000000000004", "", "", "5.0", "7.0")


def test_a_moment_that_no_calendar_has_is_its_number() -> None:
    (row,) = read(csv_text([(SHAPE, ROW._replace(start_ms=10**17))]))
    assert row["window_start"] == str(10**17)


@pytest.fixture
def in_tokyo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock shows another time."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_tokyo")
def test_moments_are_utc_wherever_the_machine_is() -> None:
    assert read(csv_text([(SHAPE, ROW)]))[0]["window_start"] == "2023-11-14T22:13:20.000Z"


def test_without_rows_there_is_a_head_alone() -> None:
    assert csv_text([]).splitlines() == ["topic,window,window_start,window_end,events,revision,final,closed_by"]


def test_many_rows_come_in_parts_that_make_the_same_text() -> None:
    many = [(SHAPE, ROW._replace(start_ms=number)) for number in range(2 * PART + 1)]
    parts = list(csv_parts(many))
    assert [part.count("\r\n") for part in parts] == [1, PART, PART, 1]
    assert "".join(parts) == csv_text(many)


@pytest.fixture
def board() -> Board:
    filled = Board()
    for number in range(3):
        for country, events in ((None, 1), *((f"c{at}", 10 + at) for at in range(7))):
            group = Group(("country",), (country,))
            filled.upsert(SHAPE, ROW._replace(group=group, start_ms=number, values=(float(events), None)), 0)
        filled.upsert(SHAPE, ROW._replace(start_ms=number, values=(float(number), float(number))), 0)
    return filled


def exported(board: Board, wish: Wish) -> list[dict[str, str]]:
    view = resolve(wish, board.catalog)
    assert view
    return read(csv_text(chosen(known(view, board), view, wish)))


def test_without_a_choice_the_rows_are_those_of_the_total(board: Board) -> None:
    rows = exported(board, Wish("shop.orders"))
    assert [(row["country"], row["revenue"], row["orders"]) for row in rows] == [("", f"{n}.0", f"{n}.0") for n in range(3)]


def test_the_rows_are_those_of_the_chosen_groups_and_kpis(board: Board) -> None:
    rows = exported(board, Wish("shop.orders", "10s", ("orders",), ("country",), (("c1",), (None,))))
    assert [row["country"] for row in rows] == ["c1"] * 3 + [""] * 3
    assert "orders" in rows[0]
    assert "revenue" not in rows[0]


def test_where_no_group_is_chosen_the_rows_are_those_of_the_groups_with_the_largest_values(board: Board) -> None:
    rows = exported(board, Wish("shop.orders", by=("country",)))
    assert list(dict.fromkeys(row["country"] for row in rows)) == ["c6", "c5", "c4", "c3", "c2"]


def test_the_name_of_the_file_holds_nothing_that_a_header_or_a_disk_would_misread(board: Board) -> None:
    view = resolve(Wish("shop.orders"), board.catalog)
    assert view
    assert file_name(view) == "shop.orders.10s.csv"
    assert file_name(replace(view, shapes=(replace(SHAPE, topic='../"\r\nX: y;<é'),))) == "X_y.10s.csv"


def test_rows_outside_of_the_chosen_time_are_left_out() -> None:
    board = Board()
    for number in range(100):
        board.upsert(SHAPE, ROW._replace(start_ms=number * 10_000, end_ms=(number + 1) * 10_000), 0)
    assert len(exported(board, Wish(last="5m"))) == 31
    assert [row["window_start"][11:19] for row in exported(board, Wish(until_ms=15_000))] == ["00:00:00", "00:00:10"]
    assert len(exported(board, Wish(last="5m", until_ms=900_000))) == 31


def test_of_a_stretch_so_far_the_chosen_time_counts_by_steps() -> None:
    #  [0--1)           minutes
    #  [0----2) ...
    #  [0-----------99)
    shape, board = replace(SHAPE, window="cumulate-1d-1m", size_ms=86_400_000, kind=Kind("cumulate", 60_000)), Board()
    for number in range(1, 100):
        board.upsert(shape, ROW._replace(start_ms=0, end_ms=number * 60_000), 0)
    assert [row["window_end"][11:16] for row in exported(board, Wish(last="5m"))] == ["01:34", "01:35", "01:36", "01:37", "01:38", "01:39"]
    assert [row["window_end"][11:16] for row in exported(board, Wish(until_ms=90_000))] == ["00:01", "00:02"]
    assert {(row["window"], row["window_start"][11:16]) for row in exported(board, Wish())} == {("cumulate-1d-1m", "00:00")}


def test_all_window_sizes_are_in_one_file() -> None:
    board = Board()
    for shape in (SHAPE, replace(SHAPE, window="1m", size_ms=60_000)):
        board.upsert(shape, ROW, 0)
    assert [row["window"] for row in exported(board, Wish(window=ALL))] == ["10s", "1m"]
