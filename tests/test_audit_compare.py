"""Rows of every kind of window and aggregate, as they must be and with planted differences: what is found, and what is close enough."""

import random
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from audit.moment import iso
from tests.published import Board

T0_MS = 1_792_880_000_000  # 2026-10-24, 90 minutes before a day of 25 hours in Berlin
LABELS = ("10s", "30s-10s", "cumulate-1m-20s", "cumulate-1d-12h-Europe-Berlin", "session-3s", "1mo")
DECLARED = """[topics.t]
windows = ["10s", "30s/10s", "1m^20s", "1d^12h@Europe/Berlin", "gap 3s", "1mo"]
by = [[], ["UPPER(shop) AS store", "paid"]]
lateness = "1s"

[topics.t.kpis]
n = { count = "*" }
pace = { rate = "*" }
amounts = { sum = "amount" }
weight = { mean = "weight" }
spread = { deviation = "weight" }
lightest = { min = "weight" }
revenue = { sum = "price" }
begin = { first = "price" }
end = { last = "shop" }
paid_share = { share = "paid" }
paid_counts = { counts = "paid" }
each = { ratio = ["revenue", "n"] }
middle = { quantile = "weight", q = [0.5, 0.95] }
dear = { quantile = "price", q = [0.0, 1.0] }
buyers = { distinct = "buyer" }
best = { top = "shop", k = 2 }
often = { top = "buyer", k = 3 }
amounts_of = { histogram = "amount", edges = [0, 50] }
meter = { increase = "amount" }
paid_up = { increase = "price" }
"""
SCHEMA = {
    "type": "record",
    "name": "Sale",
    "fields": [
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "shop", "type": ["null", "string"]},
        {"name": "buyer", "type": "string"},
        {"name": "paid", "type": "boolean"},
        {"name": "amount", "type": ["null", "long"]},
        {"name": "weight", "type": "double"},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}},
    ],
}
DAY_MS = 86_400_000


def sales() -> list[dict[str, Any]]:
    """Ten seconds with 4,000 buyers, of whom two come often, a minute with few; late ones of some seconds; then, next month, one more."""
    rnd = random.Random(7)
    found = []

    def sale(time_ms: int, buyer: str) -> None:
        amount, shop = rnd.choice([None, rnd.randrange(-9, 99)]), rnd.choice([None, "a", "b", "c"])
        price = Decimal(rnd.randrange(1, 10_000)).scaleb(-2)
        told = {"event_time": time_ms, "shop": shop, "buyer": buyer, "paid": rnd.random() < 0.5, "amount": amount}
        found.append({**told, "weight": rnd.uniform(1, 9), "price": price})

    for number in range(4_500):
        sale(T0_MS + 2 * number, f"b{rnd.randrange(2_500)}" if number % 3 else "often" if number % 5 < 2 else "oftener")
    for number in range(60):
        sale(T0_MS + 20_000 + number * 977, f"b{number % 5}")
    for second in (3, 25, 26, 40):
        sale(T0_MS + 1000 * second, "late")
    sale(T0_MS + 32 * DAY_MS, "last")
    return found


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Board:
    return Board.of(tmp_path_factory.mktemp("board"), DECLARED, SCHEMA, sales())


@pytest.mark.parametrize("label", LABELS)
def test_what_is_as_it_must_be_is_equal(board: Board, label: str) -> None:
    records = board.records(board.window(label))
    found, tally = board.differences(board.window(label), records)
    assert found == []
    assert tally.rows == len(records) > 0
    assert tally.left_out == {}


def added(by: Any) -> Callable[[Any], Any]:
    return lambda value: value + by


def times(by: float) -> Callable[[Any], Any]:
    return lambda value: value * by


def first_with(field: str, by: int, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**entries[0], field: entries[0][field] + by}, *entries[1:]]


WRONG: dict[str, Callable[[Any], Any]] = {
    "events": added(1),
    "n": added(1),
    "pace": times(1.000_001),
    "amounts": added(1),
    "weight": times(1.000_001),
    "spread": times(1.000_001),
    "lightest": times(1.000_001),
    "revenue": added(Decimal("0.01")),
    "begin": added(Decimal("0.01")),
    "end": lambda value: value + "!",
    "paid_share": times(1.000_001),
    "paid_counts": lambda value: {**value, "true": value["true"] + 1},
    "each": times(1.000_001),
    "middle_p50": times(1.0101),
    "middle_p95": times(0.9899),
    "dear_p0": lambda _: None,
    "dear_p100": times(1.0101),
    "buyers": times(2),
    "best": partial(first_with, "events", 1),
    "often": partial(first_with, "events", 1),
    "amounts_of": partial(first_with, "events", -1),
    "meter": added(1),
    "paid_up": added(Decimal("0.01")),
}


@pytest.mark.parametrize("label", LABELS)
def test_a_wrong_value_of_any_aggregate_is_found_and_named_in_any_kind_of_window(board: Board, label: str) -> None:
    window = board.window(label)
    records = board.records(window)
    row = max((it for it in records if it["group_by"]), key=lambda it: it["events"] if it["paid"] == "true" and it["store"] else 0)
    edited = {**row, **{name: wrong(row[name]) for name, wrong in WRONG.items()}}
    found, _ = board.differences(window, [edited if it is row else it for it in records])
    assert [it.field for it in found] == list(WRONG)
    where = f"kpi.t.{label} [{iso(row['window_start'])}, {iso(row['window_end'])}) store = {row['store']!r}, paid = 'true'"
    assert {it.place for it in found} == {where}


@pytest.mark.parametrize("label", LABELS)
def test_a_missing_a_doubled_and_a_moved_row_are_found_in_any_kind_of_window(board: Board, label: str) -> None:
    window = board.window(label)
    records = board.records(window)
    missing, doubled, moved = (records[-1 - place] for place in range(3))
    others = [it for it in records if it is not missing and it is not moved]
    found, _ = board.differences(window, [*others, doubled, {**moved, "window_end": moved["window_end"] + 1}])
    wanted = [("final row", "", f"{it['events']} events") for it in (missing, moved)]
    wanted += [("final row", f"{moved['events']} events", ""), ("final rows", "2", "1")]
    assert sorted((it.field, str(it.published), str(it.recomputed)) for it in found) == sorted(wanted)


def crowded(board: Board) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of 10 s, and the total of the one with thousands of buyers."""
    records = board.records(board.window("10s"))
    return records, max((it for it in records if not it["group_by"]), key=lambda it: it["events"])


def found_with(board: Board, **changes: Any) -> list[str]:
    records, row = crowded(board)
    found, _ = board.differences(board.window("10s"), [{**it, **changes} if it is row else it for it in records])
    return [it.field for it in found]


def test_a_quantile_may_miss_by_one_percent_and_no_more(board: Board) -> None:
    _, row = crowded(board)
    for share in (0.9901, 0.995, 1.0, 1.0099):
        assert found_with(board, middle_p50=row["middle_p50"] * share, dear_p100=row["dear_p100"] * share) == []
    for share in (0.9899, 1.0101):
        assert found_with(board, middle_p50=row["middle_p50"] * share) == ["middle_p50"]


def test_distinct_is_exact_up_to_1024_and_an_estimate_beyond_of_which_one_in_a_thousand_may_miss(board: Board) -> None:
    records, row = crowded(board)
    assert row["buyers"] > 1_024
    for share in (0.981, 1.019):
        assert found_with(board, buyers=round(row["buyers"] * share)) == []
    for share in (0.97, 1.03, 0.5, 2):
        assert found_with(board, buyers=round(row["buyers"] * share)) == ["buyers"]
    few = next(it for it in records if 1 < it["buyers"] <= 1_024)
    found, _ = board.differences(board.window("10s"), [{**it, "buyers": it["buyers"] + 1} if it is few else it for it in records])
    assert [it.field for it in found] == ["buyers"]


def test_estimates_that_miss_a_little_are_counted_and_told_only_when_they_are_many(board: Board) -> None:
    records, row = crowded(board)
    edited = [{**it, "buyers": round(it["buyers"] * 1.03)} if it is row else it for it in records]
    found, tally = board.differences(board.window("10s"), edited)
    assert [it.is_estimate for it in found] == [True]
    assert (len(tally.beyond), tally.estimates) == (1, sum(it["buyers"] > 1_024 for it in records))
    tally.estimates = 1_000
    assert tally.too_many() == []


def test_the_top_of_many_values_may_count_each_a_little_too_low_and_no_other_way(board: Board) -> None:
    _, row = crowded(board)
    often = row["often"]
    most = row["events"] // 1_025
    assert [it["value"] for it in often[:2]] == ["oftener", "often"]
    lower = [{**it, "events": it["events"] - most} for it in often]
    for fine in (often, lower, [lower[0], *often[1:]]):
        assert found_with(board, often=fine) == []
    for wrong in (
        [{**often[0], "events": often[0]["events"] + 1}, *often[1:]],
        [{**often[0], "events": often[0]["events"] - most - 1}, *often[1:]],
        [often[1], often[0], often[2]],
        [often[0], often[2]],
        [often[0], often[0], often[1]],
        [*often, {"value": "b1", "events": 1}],
        [*often[:2], {"value": "nobody", "events": 1}],
        [],
        None,
    ):
        assert found_with(board, often=wrong) == ["often"], wrong


def test_sessions_that_may_have_begun_before_what_is_known_are_left_out(board: Board) -> None:
    window = board.window("session-3s")
    records = board.records(window)
    first = max(it["window_start"] for it in records)
    since = board.since(first - 2_999)
    found, tally = since.differences(window, [it for it in records if it["window_start"] < first])
    assert found == []
    assert tally.rows == 0
    found, _ = board.since(first - 3_000).differences(window, [it for it in records if it["window_start"] < first])
    assert {it.field for it in found} == {"final row"}


def test_kpis_that_a_row_says_began_later_are_left_out_and_counted(board: Board) -> None:
    window = board.window("10s")
    records = board.records(window)
    wrong = [{**it, "n": None, "amounts": None, "kpi.unknown": "n,amounts"} for it in records[:3]]
    found, tally = board.differences(window, [*wrong, *records[3:]])
    assert found == []
    assert tally.left_out == {"values of KPIs that were declared while their window was open": 6}
    found, _ = board.differences(window, [{**records[0], "n": None}, *records[1:]])
    assert [it.field for it in found] == ["n"]


@pytest.mark.parametrize(("label", "gap_ms"), [("10s", 0), ("session-3s", 3_000)])
def test_windows_from_before_their_size_was_declared_are_left_out_and_counted(board: Board, label: str, gap_ms: int) -> None:
    window = board.window(label)
    records = board.records(window)
    last = max(it["window_start"] for it in records)
    told = [{**it, "kpi.begun": str(last - gap_ms)} for it in records if it["window_start"] == last]
    found, tally = board.differences(window, told)
    assert found == []
    assert tally.rows == len(told)
    assert tally.left_out == {"rows of windows from before their size was declared": len(records) - len(told)}


def test_a_size_without_any_row_is_left_out_and_counted(board: Board) -> None:
    window = board.window("10s")
    found, tally = board.differences(window, [])
    assert (found, tally.left_out) == ([], {"rows of a size that has told none yet": len(board.records(window))})


def key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record[name] for name in ("group_by", "store", "paid", "window_start", "window_end"))


@pytest.mark.parametrize("label", [label for label in LABELS if label != "session-3s"])
def test_a_repair_puts_late_messages_into_every_window_of_theirs_and_is_equal_then(board: Board, label: str) -> None:
    window = board.window(label)
    records = board.records(window)
    more = board.repaired(window, records)
    wanted, known = ({key(it): it for it in some} for some in (board.records(window, late=True), records))
    assert {key(it) for it in more} == {at for at, it in wanted.items() if at not in known or it["events"] > known[at]["events"]}
    exact = ("events", "amounts", "revenue", "begin", "end", "paid_counts", "buyers", "best", "often", "amounts_of", "meter", "paid_up")
    assert all(it[name] == wanted[key(it)][name] for it in more for name in exact)
    assert all((it["final"], it["closed_by"], it["revision"]) == (True, "repair", key(it) in known) for it in more)
    found, tally = board.differences(window, [*records, *more])
    assert found == []
    assert tally.repaired == len(more)
    assert board.repaired(window, [*records, *more]) == []


def test_a_named_expression_is_a_group(board: Board) -> None:
    assert board.survey.plan.groups == ("store", "paid")
    records = board.records(board.window("10s"))
    assert {it["store"] for it in records if it["group_by"]} == {None, "A", "B", "C"}
