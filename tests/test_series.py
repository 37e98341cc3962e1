"""What the dashboard remembers of KPI topics: which row a window shows, in what order, and how much at most."""

from itertools import pairwise, permutations
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.asides import NEWEST, SOURCES, Aside, read_aside
from serve.kinds import TUMBLING, Kind
from serve.series import BUDGET, GROUPS, POINTS, POINTS_FEW, POINTS_GROUP, REASONS, Board
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


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.booleans()), unique_by=lambda it: it[:2]), st.randoms())
def test_the_order_in_which_rows_come_does_not_matter(said: list[tuple[int, int, bool]], random: Random) -> None:
    rows = [row(window, window * 100.0 + revision, revision, final=final) for window, revision, final in said]
    mixed = [*rows]
    random.shuffle(mixed)
    best = {it.start_ms: it for it in sorted(rows, key=lambda it: (it.final, it.revision))}
    assert shown(board(*mixed)) == sorted(best.values(), key=lambda it: it.start_ms)


@pytest.mark.parametrize(("group", "most"), [(TOTAL, POINTS), (Group(("country",), ("DE",)), POINTS_GROUP)])
def test_a_group_keeps_its_newest_windows_in_order(group: Group, most: int) -> None:
    windows = Random(1).choices(range(2 * most), k=4 * most)
    starts = [it.start_ms for it in shown(board(*(row(window, group=group) for window in windows)), group)]
    assert all(one < other for one, other in pairwise(starts))
    assert starts == [window * SIZE_MS for window in sorted(set(windows))[-most:]]


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
    assert made.group_count("shop", "10s", ("country",)) == GROUPS


def test_in_a_full_topic_a_group_makes_room_that_has_had_no_step_for_long_though_its_stretch_is_under_way() -> None:
    cumulate = Shape("shop", "10s", 10_000 * SIZE_MS, (ORDERS,), {}, kind=Kind("cumulate", SIZE_MS))
    made = Board()
    for number in range(GROUPS):
        made.upsert(cumulate, row(0, group=country(f"c{number}")), 0)
    for end in (POINTS_FEW, POINTS_FEW + 1):
        made.upsert(cumulate, row(0, group=country(f"new{end}"), end_ms=end * SIZE_MS), 0)
    assert [len(shown(made, country(name))) for name in ("c0", f"new{POINTS_FEW}", f"new{POINTS_FEW + 1}")] == [0, 0, 1]


def test_groups_are_offered_by_the_events_of_their_newest_window() -> None:
    made = board(row(0, group=country("DE"), events=5), row(0, group=country("FR"), events=9), row(1, group=country("FR"), events=1))
    assert made.top("shop", "10s", ("country",), 5) == [country("DE"), country("FR")]


def test_windows_are_offered_by_their_size_and_sessions_last() -> None:
    made = Board()
    windows = {
        "1m-10s": (60_000, Kind("hopping", 10_000)),
        "1m": (60_000, TUMBLING),
        "session-5s": (5_000, Kind("session")),
        "10s": (10_000, TUMBLING),
    }
    for window, (size_ms, kind) in windows.items():
        made.upsert(Shape("shop", window, size_ms, (ORDERS,), {}, kind=kind), row(0), 0)
    assert list(made.catalog["shop"]) == ["10s", "1m", "1m-10s", "session-5s"]


def test_windows_that_begin_together_are_rows_of_their_own() -> None:
    #  [0--10)        a row of its own each, whatever order they come in
    #  [0------20)
    #  [0----------30)
    cumulate = Shape("shop", "10s", 60_000, (ORDERS,), {}, kind=Kind("cumulate", 10_000))
    rows = [row(0, float(end), end_ms=end * SIZE_MS) for end in (1, 2, 3)]
    for order in permutations([*rows, row(0, 9.0, -1, end_ms=2 * SIZE_MS)]):  # the last one is an older revision
        made = Board()
        for each in order:
            made.upsert(cumulate, each, 0)
        assert shown(made) == rows


def test_of_a_long_stretch_the_newest_steps_are_kept() -> None:
    cumulate = Shape("shop", "10s", 10_000 * SIZE_MS, (ORDERS,), {}, kind=Kind("cumulate", SIZE_MS))
    made = Board()
    for end in Random(1).sample(range(1, 2 * POINTS + 1), 2 * POINTS):
        made.upsert(cumulate, row(0, end_ms=end * SIZE_MS), 0)
    assert [it.end_ms for it in shown(made)] == [end * SIZE_MS for end in range(POINTS + 1, 2 * POINTS + 1)]


def test_a_topic_that_is_forgotten_is_offered_no_more_and_its_source_keeps_its_other_windows() -> None:
    made = board(row(0))
    made.upsert(Shape("shop", "1m", 60_000, (ORDERS,), {}), row(0, end_ms=60_000), 5)
    made.upsert(Shape("pay", "10s", SIZE_MS, (ORDERS,), {}), row(0), 0)
    made.forget("shop", "10s")
    made.forget("shop", "never")
    assert {topic: [*offers] for topic, offers in made.catalog.items()} == {"shop": ["1m"], "pay": ["10s"]}
    assert (shown(made), made.newest_ms("shop")) == ([], 5)
    before = made.version
    made.forget("shop", "1m")
    assert ([*made.catalog], made.newest_ms("shop"), made.watermark_ms("shop"), made.arrived("shop")) == (["pay"], None, None, 0)
    assert made.version > before


def test_a_new_schema_adds_its_kpi_and_keeps_what_was_known() -> None:
    made = board(row(0, 5.0))
    wider = Shape("shop", "10s", SIZE_MS, (REVENUE, ORDERS), {}, schema_id=2)
    made.upsert(wider, row(1)._replace(values=(99.5, 6.0)), 0)
    made.upsert(SHAPE, row(2, 7.0), 0)  # a writer with the older schema
    assert made.catalog["shop"]["10s"].shape == wider
    assert [it.values for it in shown(made)] == [(None, 5.0), (99.5, 6.0), (None, 7.0)]


def test_a_kpi_that_was_renamed_and_named_as_before_is_shown_again_whichever_end_of_the_past_is_read_first() -> None:
    renamed = Shape("shop", "10s", SIZE_MS, (REVENUE,), {}, schema_id=2)
    said = [(SHAPE, row(0, 1.0), 0), (renamed, row(1, 2.0), 20_000), (SHAPE, row(4, 3.0), 50_000), (SHAPE, row(5, 4.0), 60_000)]
    for order in (said, [*reversed(said)]):
        made = Board()
        for each in order:
            made.upsert(*each)
        assert made.catalog["shop"]["10s"].shape == SHAPE
        assert [it.values for it in shown(made)][1:] == [(None,), (3.0,), (4.0,)]


def test_groups_are_offered_by_the_newest_value_of_a_kpi_unknown_last_and_equal_ones_by_name() -> None:
    said = {"DE": 5.0, "FR": 9.0, "IT": None, "AT": 5.0, "ES": -1.0}
    made = board(*(row(0, group=country(name), values=(value,)) for name, value in said.items()))
    made.upsert(SHAPE, row(1, 7.0, group=country("ES")), 0)
    assert made.top("shop", "10s", ("country",), 9, at=0) == [country(name) for name in ("FR", "ES", "AT", "DE", "IT")]
    assert made.top("shop", "10s", ("country",), 2, at=0) == [country("FR"), country("ES")]


def test_groups_are_found_by_a_part_of_what_is_shown_of_them_in_any_case_and_in_the_same_order() -> None:
    made = board(*(row(0, group=country(name), events=events) for name, events in {"Berlin": 1, "BERN": 3, "Köln": 2, "a\n": 1}.items()))
    assert made.search("shop", "10s", ("country",), "ber", 9) == [country("BERN"), country("Berlin")]
    assert made.search("shop", "10s", ("country",), "ÖLN", 9) == [country("Köln")]
    assert made.search("shop", "10s", ("country",), "\\n", 9) == [country("a\n")]
    assert made.search("shop", "10s", ("country",), "ber", 1) == [country("BERN")]
    assert made.search("shop", "1m", ("country",), "ber", 1) == made.search("shop", "10s", (), "ber", 1) == []


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("aAbBß")), min_size=1, max_size=30),
    st.integers(0, 9),
    st.sampled_from(["", "a", "S"]),
)
def test_the_first_groups_are_those_of_the_whole_order(said: list[tuple[int, str]], most: int, text: str) -> None:
    made = board(*(row(0, group=country(f"{name}{number}"), events=events) for number, (events, name) in enumerate(said)))
    by = sorted((-events, f"{name}{number}".casefold()) for number, (events, name) in enumerate(said))
    expected = [name for _, name in by if text.casefold() in name]
    found = [str(group.values[0]).casefold() for group in made.search("shop", "10s", ("country",), text, most)]
    assert found == expected[:most]


def test_groups_are_counted_by_their_group_set() -> None:
    made = board(row(0), row(0, group=country("DE")), row(1, group=country("DE")), row(0, group=country("FR")))
    assert [made.group_count("shop", "10s", by) for by in ((), ("country",), ("city",))] == [1, 2, 0]
    assert made.group_count("pay", "10s", ()) == 0


def test_all_who_ask_get_the_same_points_until_something_changes() -> None:
    made = board(row(0), row(1))
    before = made.points("shop", "10s", TOTAL)
    made.upsert(SHAPE, row(0, group=country("DE")), 0)  # another group
    made.upsert(SHAPE, row(0, revision=-1), 0)  # nothing new
    assert made.points("shop", "10s", TOTAL) is before
    made.upsert(SHAPE, row(2), 0)
    assert len(before[1]) == 2
    assert made.points("shop", "10s", TOTAL)[0] == made.points_version("shop", "10s", TOTAL) > before[0]
    assert made.points_version("shop", "10s", country("FR")) == 0


def test_the_watermark_is_at_least_at_the_end_of_the_newest_final_window_of_any_size_repaired_ones_left_out() -> None:
    made = board(row(3), row(9, final=False, closed_by=None), row(8, closed_by="repair"), row(1))
    assert (made.watermark_ms("shop"), made.watermark_ms("pay")) == (4 * SIZE_MS, None)
    made.upsert(Shape("shop", "1m", 60_000, (ORDERS,), {}), row(0, end_ms=60_000), 0)
    assert made.watermark_ms("shop") == 60_000


def test_what_has_arrived_is_counted_whether_it_changes_something_or_not() -> None:
    made = board(row(0, revision=1), row(0, revision=0), row(0, group=country("DE")))
    assert (made.arrived("shop"), made.arrived("pay")) == (3, 0)


def test_a_lag_that_is_not_told_is_unknown_and_the_same_one_wakes_no_session() -> None:
    made = board()
    made.put_lags({"shop": 7, "pay": 0})
    before = made.version
    made.put_lags({"shop": 7, "pay": 0})
    assert (made.lag("shop"), made.lag("pay"), made.lag("web"), made.version) == (7, 0, None, before)
    made.put_lags({})
    assert made.lag("shop") is None


def test_of_equal_revisions_the_one_written_last_is_shown_in_whatever_order_they_come() -> None:
    for order in permutations([(1_000, 1.0), (2_000, 2.0), (3_000, 3.0)]):
        made = Board()
        for at_ms, value in order:
            made.upsert(SHAPE, row(0, value), at_ms)
        assert [it.values for it in shown(made)] == [(3.0,)]


def test_all_rows_of_a_group_share_its_name() -> None:
    groups = [Group(("country",), (str(b"DE", "ascii"),)) for _ in range(3)]
    made = board(*(row(window, group=group) for window, group in enumerate(groups)))
    assert len({id(it.group) for it in shown(made, groups[0])}) == 1


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


def aside(number: int, fate: str = "dead", topic: str = "shop", value: bytes | None = None) -> Aside:
    return read_aside(fate, {"kpi.topic": topic.encode(), "kpi.reason": b"magic", "kpi.offset": str(number).encode()}, b"key", value)


def test_the_newest_late_and_dead_messages_are_kept_newest_first_whatever_order_they_come_in() -> None:
    made, numbers = Board(), [*range(2 * NEWEST)]
    Random(1).shuffle(numbers)
    for number in numbers:
        made.put_aside(aside(number), at_ms=1_000 * number)
    made.put_aside(aside(7, "late"), at_ms=1)
    assert [it.offset for it in made.asides("shop")] == [*reversed(range(NEWEST, 2 * NEWEST)), 7]
    assert made.fates("shop", "dead") == {"magic": 2 * NEWEST}
    assert made.asides("pay") == []


def test_a_message_of_a_megabyte_is_kept_by_its_beginning_and_its_size() -> None:
    kept = aside(0, value=b"x" * 1_000_000)
    assert (kept.value, kept.size) == (b"x" * 256, 1_000_000)
    cut = read_aside("dead", {"kpi.topic": b"shop", "kpi.truncated": b"5000000"}, None, b"x" * 65_536)
    assert (cut.key, cut.size) == (None, 5_000_000)


def test_headers_that_are_missing_or_nonsense_do_no_harm() -> None:
    said: dict[str, bytes | str | None] = {
        "kpi.offset": "٣".encode(),
        "kpi.partition": b"9" * 5_000,
        "kpi.error": b"\xff" * 2_000,
        "kpi.timestamp": None,
    }
    found = read_aside("dead", said, None, None)
    assert (found.topic, found.reason, found.partition, found.offset, found.timestamp_ms, found.size) == (
        "unknown",
        "unknown",
        -1,
        -1,
        -1,
        0,
    )
    assert len(found.error) == 250


def test_no_flood_of_topics_fills_the_memory_with_messages() -> None:
    made = Board()
    for number in range(2 * SOURCES):
        made.put_aside(aside(number, topic=f"t{number}"), at_ms=number)
    assert sum(bool(made.asides(f"t{number}")) for number in range(2 * SOURCES)) == SOURCES
    assert made.asides(f"t{2 * SOURCES - 1}")
