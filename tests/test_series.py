"""What the dashboard remembers of KPI topics: which row a window shows, in what order, and how much at most."""

from itertools import pairwise, permutations
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serve.series import BUDGET, GROUPS, POINTS, POINTS_FEW, REASONS, Board
from serve.shape import TOTAL, Group, Kpi, Row, Shape

SIZE_MS = 10_000
ORDERS, REVENUE = Kpi("orders", "count", "*", ""), Kpi("revenue", "sum", "total", "EUR")
SHAPE = Shape("shop", "10s", SIZE_MS, (ORDERS,), {"country": "country"}, schema_id=1)


def row(window: int, value: float = 1.0, revision: int = 0, **said: Any) -> Row:
    """The final row of the total, unless something else is said."""
    made = Row(TOTAL, window * SIZE_MS, (window + 1) * SIZE_MS, 1, revision, True, "data", (value,))
    return made._replace(**said)


def board(*rows: Row) -> Board:
    made = Board()
    for each in rows:
        made.upsert(SHAPE, each, 0)
    return made


def shown(made: Board, group: Group = TOTAL) -> list[Row]:
    return [point.row for point in made.points("shop", "10s", group)[1]]


def country(name: str) -> Group:
    return Group(("country",), (name,))


def test_a_later_revision_replaces_a_provisional_row() -> None:
    assert shown(board(row(0, 1.0, 1, final=False), row(0, 2.0, 2, final=False))) == [row(0, 2.0, 2, final=False)]


def test_a_lower_revision_never_replaces_a_higher_one() -> None:
    assert shown(board(row(0, 2.0, 2, final=False), row(0, 1.0, 1, final=False))) == [row(0, 2.0, 2, final=False)]


def test_a_final_row_wins_whatever_its_revision_and_whenever_it_comes() -> None:
    rows = [row(0, 9.0, 9, final=False), row(0, 3.0, 3, final=True), row(0, 5.0, 5, final=False)]
    assert {tuple(shown(board(*order))) for order in permutations(rows)} == {(rows[1],)}


def test_a_repaired_row_replaces_the_final_one_in_whatever_order_they_come() -> None:
    rows = [row(0, 3.0, 4, closed_by="data"), row(0, 7.0, 5, closed_by="repair"), row(0, 8.0, 6, closed_by="repair")]
    assert {tuple(shown(board(*order))) for order in permutations(rows)} == {(rows[2],)}


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.booleans()), unique_by=lambda it: it[:2]), st.randoms())
def test_the_order_in_which_rows_come_does_not_matter(said: list[tuple[int, int, bool]], random: Random) -> None:
    rows = [row(window, window * 100.0 + revision, revision, final=final) for window, revision, final in said]
    mixed = [*rows]
    random.shuffle(mixed)
    best = {it.start_ms: it for it in sorted(rows, key=lambda it: (it.final, it.revision))}
    assert shown(board(*mixed)) == sorted(best.values(), key=lambda it: it.start_ms)


@given(st.lists(st.integers(0, 3 * POINTS), max_size=3 * POINTS))
def test_a_group_keeps_its_newest_windows_in_order(windows: list[int]) -> None:
    starts = [it.start_ms for it in shown(board(*(row(window) for window in windows)))]
    assert all(one < other for one, other in pairwise(starts))
    assert starts == [window * SIZE_MS for window in sorted(set(windows))[-POINTS:]]


def test_every_change_has_a_higher_number_than_what_was_there_before() -> None:
    made = board(row(0), row(1))
    seen, _ = made.points("shop", "10s", TOTAL)
    made.upsert(SHAPE, row(2), 0)
    version, points = made.points("shop", "10s", TOTAL)
    assert version > seen
    assert [point.row.start_ms for point in points if point.change > seen] == [2 * SIZE_MS]


def test_a_row_that_changes_nothing_wakes_no_session() -> None:
    made = board(row(0, 2.0, 2))
    before = made.version
    made.upsert(SHAPE, row(0, 1.0, 1), 0)
    assert made.version == before


def test_many_groups_share_one_budget_and_the_total_keeps_all_its_windows() -> None:
    names, windows = [f"c{number}" for number in range(1000)], 80
    made = board(*(row(window, group=group) for window in range(windows) for group in (TOTAL, *map(country, names))))
    assert len(shown(made)) == windows
    assert sum(len(shown(made, country(name))) for name in names) <= BUDGET


def test_a_full_topic_keeps_the_groups_it_has_while_they_change() -> None:
    made = board(*(row(0, group=country(f"c{number}")) for number in range(GROUPS)))
    made.upsert(SHAPE, row(1, group=country("new")), 0)
    assert shown(made, country("new")) == []
    assert len(made.top("shop", "10s", ("country",), 2 * GROUPS)) == GROUPS


def test_in_a_full_topic_a_group_that_has_ended_makes_room() -> None:
    made = board(*(row(0, group=country(f"c{number}")) for number in range(GROUPS)))
    made.upsert(SHAPE, row(POINTS_FEW, group=country("new")), 0)
    assert [shown(made, country(name)) for name in ("c0", "new")] == [[], [row(POINTS_FEW, group=country("new"))]]


def test_groups_are_offered_by_the_events_of_their_newest_window() -> None:
    made = board(row(0, group=country("DE"), events=5), row(0, group=country("FR"), events=9), row(1, group=country("FR"), events=1))
    assert made.top("shop", "10s", ("country",), 5) == [country("DE"), country("FR")]


def test_windows_are_offered_by_their_size() -> None:
    made = Board()
    for window, size_ms in (("1m", 60_000), ("10s", 10_000), ("5m", 300_000)):
        made.upsert(Shape("shop", window, size_ms, (ORDERS,), {}), row(0), 0)
    assert list(made.catalog["shop"]) == ["10s", "1m", "5m"]


def test_a_new_schema_adds_its_kpi_and_keeps_what_was_known() -> None:
    made = board(row(0, 5.0))
    wider = Shape("shop", "10s", SIZE_MS, (REVENUE, ORDERS), {}, schema_id=2)
    made.upsert(wider, row(1)._replace(values=(99.5, 6.0)), 0)
    made.upsert(SHAPE, row(2, 7.0), 0)  # a writer with the older schema
    assert made.catalog["shop"]["10s"].shape == wider
    assert [it.values for it in shown(made)] == [(None, 5.0), (99.5, 6.0), (None, 7.0)]


def test_data_is_as_old_as_its_newest_row() -> None:
    made = Board()
    for at_ms in (1_000, 3_000, 2_000):
        made.upsert(SHAPE, row(0), at_ms)
    assert (made.newest_ms("shop"), made.newest_ms("other")) == (3_000, None)


def test_fates_are_counted_by_topic_and_reason() -> None:
    made = Board()
    for fate, topic, reason in (("late", "shop", "late"), ("dead", "shop", "magic"), ("dead", "shop", "magic"), ("dead", "pay", "short")):
        made.count(fate, topic, reason)
    assert (made.fates("shop", "late"), made.fates("shop", "dead")) == ({"late": 1}, {"magic": 2})


def test_no_flood_of_reasons_fills_the_memory_and_none_is_lost() -> None:
    made = Board()
    for number in range(3 * REASONS):
        made.count("dead", "shop", f"r{number}")
    reasons = made.fates("shop", "dead")
    assert len(reasons) <= REASONS + 1
    assert sum(reasons.values()) == 3 * REASONS
