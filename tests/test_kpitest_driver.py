"""Events, time and rows of the driver: what it says of the flow is what a plain loop says, and its clock is its own."""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.declaration import parse
from kpitest import Driver, WrongEventError
from kpitest.driver import schema_files
from kpitest.expect import equal

START_MS = 1_795_687_200_000  # 2026-11-26T10:00:00Z
SCHEMA = {
    "type": "record",
    "name": "Sale",
    "fields": [
        {"name": "sold_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {
            "name": "shop",
            "type": {"type": "record", "name": "Shop", "fields": [{"name": "city", "type": ["null", "string"], "default": None}]},
        },
    ],
}
DECLARED = """
[defaults]
windows = ["10s", "1m"]
[topics.sales]
by = [[], ["shop.city"]]
[topics.sales.kpis]
sales = { count = "*" }
amount = { sum = "amount", unit = "EUR" }
"""


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("schemas")
    (where / "sales.avsc").write_text(json.dumps(SCHEMA))
    (where / "other.avsc").write_text(json.dumps(SCHEMA))
    return where


@pytest.fixture
def driver(schemas: Path) -> Driver:
    return Driver(parse(DECLARED), schema_files(schemas))


def sale(amount: str = "1.00", city: str | None = "Rom", **more: object) -> dict[str, Any]:
    return {"amount": amount, "shop": {"city": city}, **more}


def totals(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {row["window_start"][11:19]: row["sales"] for row in rows if not row["group_by"]}


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 9_000), st.integers(1, 999), st.sampled_from(["Rom", "Bari", None])), min_size=1, max_size=30))
def test_windows_and_groups_are_what_a_plain_loop_says(schemas: Path, sold: list[tuple[int, int, str | None]]) -> None:
    driver, counts, cents, time_ms = Driver(parse(DECLARED), schema_files(schemas)), Counter[Any](), Counter[Any](), START_MS
    for step_ms, amount, city in sold:
        time_ms += step_ms
        driver.send("sales", sale(f"{amount / 100:.2f}", city, sold_at=time_ms))
        for size_s in (10, 60):
            for group in ("all", city):
                counts[size_s, time_ms // (1000 * size_s) * 1000 * size_s, group] += 1
                cents[size_s, time_ms // (1000 * size_s) * 1000 * size_s, group] += amount
    driver.close()
    rows = driver.table()
    places = [
        (
            10 if row["topic"].endswith("10s") else 60,
            round(row["window_start"].timestamp() * 1000),
            row["shop_city"] if row["group_by"] else "all",
        )
        for row in rows
    ]
    assert dict(zip(places, (row["sales"] for row in rows), strict=True)) == counts
    assert {place: row["amount"] * 100 for place, row in zip(places, rows, strict=True)} == cents
    assert all(row["final"] for row in rows)


def test_looking_changes_nothing(schemas: Path) -> None:
    one, other = (Driver(parse(DECLARED), schema_files(schemas)) for _ in "ab")
    for second in (0, 3, 3, 14, 61):
        for driver in (one, other):
            driver.send("sales", sale(), at=START_MS + 1000 * second)
        one.rows()
    assert one.rows(every=True) == other.rows(every=True)


def test_a_row_is_plain_json_and_knows_the_groups_of_its_group_set_alone(driver: Driver) -> None:
    driver.send("sales", sale("12.50", None), at="2026-11-26T10:00:01.250Z")
    driver.close()
    total, of_city = driver.rows("kpi.sales.10s")
    assert total == {
        "topic": "kpi.sales.10s",
        "window_start": "2026-11-26T10:00:00Z",
        "window_end": "2026-11-26T10:00:10Z",
        "group_by": [],
        "events": 1,
        "sales": 1,
        "amount": "12.50",
        "revision": 1,
        "final": True,
        "closed_by": "idle",
    }
    assert (of_city["group_by"], of_city["shop_city"]) == (["shop.city"], None)


def test_the_clock_goes_on_by_events_and_by_advance_and_closes_what_it_passes(driver: Driver) -> None:
    #   10:00:01  x                 15 s idle, then the promise: clock - 10 s
    driver.send("sales", sale(), at="2026-11-26T10:00:01Z")
    assert [row["final"] for row in driver.rows("kpi.sales.10s")] == [False, False]
    driver.advance("18s")  # 10:00:19: the promise is 10:00:09
    assert [row["final"] for row in driver.rows("kpi.sales.10s")] == [False, False]
    driver.advance("1s")
    assert [row["final"] for row in driver.rows("kpi.sales.10s")] == [True, True]
    assert [row["final"] for row in driver.rows("kpi.sales.1m")] == [False, False]
    assert driver.clock_ms == START_MS + 20_000


def test_a_timestamp_is_the_event_time_and_an_event_time_the_timestamp_where_the_other_is_missing(driver: Driver) -> None:
    driver.send("sales", sale(), at=START_MS + 20_000)
    driver.send("sales", sale(sold_at=START_MS + 31_000))
    driver.send("sales", sale(sold_at="2026-11-26T10:00:29Z"), at=START_MS + 32_000, key="both")
    assert driver.clock_ms == START_MS + 32_000
    assert totals(driver.rows("kpi.sales.10s")) == {"10:00:20": 2, "10:00:30": 1}


@pytest.mark.parametrize(
    ("want", "got", "said"),
    [
        ("12.5", Decimal("12.50"), True),
        (12.5, Decimal("12.50"), True),
        ("12.51", Decimal("12.50"), False),
        ("much", Decimal(1), False),
        ("2026-11-26T11:00:00+01:00", datetime(2026, 11, 26, 10, tzinfo=UTC), True),
        ("then", datetime(2026, 11, 26, 10, tzinfo=UTC), False),
        ("2026-11-26", date(2026, 11, 26), True),
        ("2026-11-27", date(2026, 11, 26), False),
        (0.3, 0.1 + 0.2, True),
        (0.3, 0.3001, False),
        (1, True, False),
        (2**60, 2**60 + 1, False),
        (None, 0, False),
        ({"WEB": 2}, {"WEB": 2}, True),
        ({"WEB": 2}, {"WEB": 2, "APP": 1}, False),
        ([{"value": "a", "events": 2}], [{"value": "a", "events": 2}], True),
        ([], [1], False),
    ],
)
def test_values_are_equal_as_people_mean_it(want: object, got: object, said: bool) -> None:
    assert equal(want, got) is said


def test_every_shows_what_was_told_of_a_window_before_it_was_final(driver: Driver) -> None:
    for second in (1, 4):
        driver.send("sales", sale(), at=START_MS + 1000 * second)
    driver.close()
    told = [(row["sales"], row["final"]) for row in driver.rows("kpi.sales.10s", every=True) if not row["group_by"]]
    assert told == [(1, False), (2, False), (2, True)]


def test_time_passes_for_partitions_only_while_it_is_moved_on(driver: Driver) -> None:
    #   p0  10:00:00 ... 10:02:00        p1 then begins at 10:00:00, and nothing of it is late
    for second in (0, 60, 120):
        driver.send("sales", sale(), at=START_MS + 1000 * second, partition=0)
    for second in (0, 60, 120):
        driver.send("sales", sale(), at=START_MS + 1000 * second, partition=1)
    driver.close()
    assert driver.late() == []
    assert totals(driver.rows("kpi.sales.10s")) == {"10:00:00": 2, "10:01:00": 2, "10:02:00": 2}


def test_what_comes_below_an_idle_promise_is_late(driver: Driver) -> None:
    driver.send("sales", sale(), at=START_MS)
    driver.advance("1m")
    driver.send("sales", sale(sold_at="2026-11-26T10:00:02Z"), key="k")
    (late,) = driver.late()
    assert (late["source"], late["offset"], late["error"], late["key"]) == ("sales", 1, "cause: idle", "k")


def test_what_is_no_avro_is_a_dead_letter_and_harms_no_neighbour(driver: Driver) -> None:
    driver.send("sales", b'{"amount": 1}', at=START_MS, key="json")
    driver.send("sales", b"\x0a\x03abc", at=START_MS, key="protobuf")
    driver.send("sales", sale(), at=START_MS)
    driver.send("sales", None, key="gone")
    driver.close()
    assert [(letter["key"], letter["reason"]) for letter in driver.dead_letters()] == [("json", "magic"), ("protobuf", "magic")]
    assert totals(driver.rows("kpi.sales.10s")) == {"10:00:00": 1}


def test_several_topics_run_in_one_flow(driver: Driver) -> None:
    driver.send("sales", sale(), at=START_MS)
    driver.send("other", sale(), at=START_MS + 1000)
    driver.close()
    assert {row["topic"] for row in driver.rows()} == {"kpi.sales.10s", "kpi.sales.1m", "kpi.other.10s", "kpi.other.1m"}


@pytest.mark.parametrize("window", ["7s", "5h", "365d", "gap 3d", "30d/7d", "1y@Europe/Berlin", "1mo^1d"])
def test_close_closes_every_window_however_long(schemas: Path, window: str) -> None:
    driver = Driver(parse(DECLARED, windows=window), schema_files(schemas))
    driver.send("sales", sale(), at=START_MS)
    driver.close()
    assert {row["final"] for row in driver.rows()} == {True}


def test_what_cannot_be_sent_says_why(driver: Driver) -> None:
    with pytest.raises(WrongEventError, match=r"^nothing was sent yet"):
        driver.advance("1s")
    with pytest.raises(WrongEventError, match=r"^at: missing"):
        driver.send("sales", None)
    with pytest.raises(WrongEventError, match=r"^topic: got 'sale', .* want one of other, sales \(did you mean 'sales'\?\)$"):
        driver.send("sale", sale())
    with pytest.raises(WrongEventError, match=r"^at: got 'noon'"):
        driver.send("sales", sale(), at="noon")
    with pytest.raises(WrongEventError, match=r"^sold_at: missing"):
        driver.send("sales", sale())


def test_expected_rows_are_compared_in_the_fields_that_are_given(driver: Driver) -> None:
    driver.send("sales", sale("12.50"), at=START_MS)
    driver.close()
    driver.expect({"topic": "kpi.sales.10s", "amount": "12.5", "group_by": []})
    with pytest.raises(AssertionError, match=r"^differs .*: sales: got 1, want 2$"):
        driver.expect({"topic": "kpi.sales.10s", "group_by": [], "sales": 2})
    with pytest.raises(AssertionError, match=r"^unexpected "):
        driver.expect({"topic": "kpi.sales.10s", "group_by": []}, only=True)
    with pytest.raises(WrongEventError, match=r"^amont: no such field in kpi\.sales\.10s, want .*did you mean 'amount'"):
        driver.expect({"topic": "kpi.sales.10s", "amont": 1})
