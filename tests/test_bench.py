"""What `make bench` computes apart from the real parts: expected results, differences, times and tables."""

import io
import json
import random
from collections import defaultdict

import fastavro
import polars as pl
import pytest

from bench import expected
from bench.clicks import SCHEMA, START_MS, TOPIC
from bench.contenders import BARE, BY_KEY, FLOW, THREE, TWELVE, Entry, entries
from bench.peers import Closing, Reads, row
from bench.peers.run import FailedError, crossing, said_read
from bench.report import Result, Run, drawn, page, table

HOUR_MS = 3_600_000


def clicks(*rows: tuple[int, str, float]) -> pl.DataFrame:
    return pl.DataFrame(rows, {"time": pl.Int64, "country": pl.String, "amount": pl.Float64}, orient="row")


def rows(frame: pl.DataFrame) -> list[tuple[object, ...]]:
    return sorted(frame.rows())


# Expected results


def test_a_click_on_the_edge_belongs_to_the_later_window() -> None:
    found = expected.results(clicks((9_999, "a", 1.5), (10_000, "a", 4.0), (15_000, "a", 2.0), (3_000, "b", -1.0)), [10_000, 60_000])
    assert rows(found) == [
        (10_000, 0, "a", 1, 1.5, 1.5, 1.5),
        (10_000, 0, "b", 1, -1.0, -1.0, -1.0),
        (10_000, 10_000, "a", 2, 6.0, 2.0, 4.0),
        (60_000, 0, "a", 3, 7.5, 1.5, 4.0),
        (60_000, 0, "b", 1, -1.0, -1.0, -1.0),
    ]


def test_no_windows_have_no_results() -> None:
    assert expected.results(clicks((1, "a", 1.0)), []).is_empty()


def test_the_expected_results_are_those_of_plain_loops() -> None:
    dice = random.Random(7)
    drawn_clicks = [(START_MS + dice.randrange(900_000), f"k{dice.randrange(5)}", dice.uniform(-50, 50)) for _ in range(2_000)]
    kept: dict[tuple[int, int, str], list[float]] = defaultdict(list)
    for time_ms, country, amount in drawn_clicks:
        for size in (10_000, 45_000, 300_000):
            kept[size, time_ms - time_ms % size, country].append(amount)
    want = pl.DataFrame(
        [(*key, len(of), sum(of), min(of), max(of)) for key, of in kept.items()],
        expected.COLUMNS,
        orient="row",
    )
    assert expected.differences(expected.results(clicks(*drawn_clicks), [10_000, 45_000, 300_000]), want) == ""


def test_messages_are_read_past_their_frame_and_the_closing_ones_are_left_out() -> None:
    def message(time_ms: int, amount: float) -> bytes:
        out = io.BytesIO(b"\0\0\0\0\7")
        out.seek(5)
        click = {"event_time": time_ms, "country": "a", "user_id": 1, "amount": amount, "items": 1, "coupon": "SALE10"}
        fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), click)
        return out.getvalue()

    found = expected.clicks([message(START_MS, 1.25), message(START_MS + 1, 2.0), message(START_MS + HOUR_MS, 9.0)])
    assert found.rows()[0] == (START_MS, "a", 1.25)
    assert expected.without_closing(found)["amount"].to_list() == [1.25, 2.0]


WANT = pl.DataFrame(
    [(10_000, 0, "a", 2, 3.0, 1.0, 2.0), (10_000, 10_000, "a", 1, 1e9, 1e9, 1e9)],
    expected.COLUMNS,
    orient="row",
)


@pytest.mark.parametrize(
    ("got", "said"),
    [
        ([(10_000, 0, "a", 2, 3.0, 1.0, 2.0)], "1 rows missing, as 10000|10000|a"),
        ([*WANT.rows(), (10_000, 0, "b", 1, 1.0, 1.0, 1.0)], "1 rows that nobody wants, as 10000|0|b"),
        ([WANT.rows()[1], (10_000, 0, "a", 3, 3.0, 1.0, 2.0)], "1 rows with other figures, as 10000|0|a"),
        ([WANT.rows()[1], (10_000, 0, "a", 2, 3.1, 1.0, 2.0)], "1 rows with other figures"),
        ([WANT.rows()[1], (10_000, 0, "a", 2, float("nan"), 1.0, 2.0)], "1 rows with other figures"),
        ([WANT.rows()[1], (10_000, 0, "a", 2, 3.0, 1.0 + 1e-15, 2.0)], "1 rows with other figures"),
        ([WANT.rows()[1], (10_000, 0, "a", 2, 3.0, 1.0, 2.5)], "1 rows with other figures"),
        ([*WANT.rows(), WANT.rows()[0]], "1 rows doubled"),
        ([], "2 rows missing"),
    ],
)
def test_whatever_differs_is_said(got: list[tuple[object, ...]], said: str) -> None:
    assert said in expected.differences(pl.DataFrame(got, expected.COLUMNS, orient="row"), WANT)


def test_a_sum_may_miss_by_a_billionth_and_windows_of_closing_clicks_may_be_written() -> None:
    near = [WANT.rows()[0], (10_000, 10_000, "a", 1, 1e9 + 0.5, 1e9, 1e9), (10_000, HOUR_MS, "a", 1, 1.0, 1.0, 1.0)]
    assert expected.differences(pl.DataFrame(near, expected.COLUMNS, orient="row"), WANT) == ""


def test_of_a_peers_rows_the_last_of_a_key_counts() -> None:
    given = [row(10_000, 0, "a|b", (1, 1.0, 1.0, 1.0)), row(10_000, 0, "a|b", (2, 3.0, 1.0, 2.0))]
    assert expected.written(given).rows() == [(10_000, 0, "a|b", 2, 3.0, 1.0, 2.0)]


# Times


@pytest.mark.parametrize(
    ("line", "count"),
    [("read 1200\n", 1_200), ("read 0", 0), ("read 12 of 13\n", None), ("unread 7\n", None), ("read -1\n", None), ("", None)],
)
def test_a_line_that_says_how_many_were_read(line: str, count: int | None) -> None:
    assert said_read(line) == count


def test_a_quarter_is_passed_on_the_line_between_two_reports() -> None:
    #   0 s: 0   1 s: 0   2 s: 40   3 s: 80
    reads = [(0.0, 0), (1.0, 0), (2.0, 40), (3.0, 80)]
    assert crossing(reads, 20) == 1.5
    assert crossing(reads, 40) == 2.0
    assert crossing(reads, 50) == 2.25
    assert crossing(reads, 80) == 3.0
    with pytest.raises(FailedError, match="handled 81"):
        crossing(reads, 81)


def test_a_peer_says_at_once_when_all_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    reads = Reads(10)
    for number in (4, 3, 3):
        reads.add(number)
    assert [said_read(line) for line in capsys.readouterr().out.splitlines()] == [4, 10]


def test_the_closing_click_of_each_partition_is_known_by_its_jump() -> None:
    closing = Closing()
    assert [closing.is_last(0, 1_000), closing.is_last(1, 900_000), closing.is_last(0, 500)] == [False, False, False]
    assert [closing.is_last(0, 500 + HOUR_MS), closing.is_last(1, 900_000 + HOUR_MS)] == [True, True]


# Contenders and pages


def result(key: str, *rates: float, windows: str = THREE, said: str = "", peak_mb: int = 100) -> Result:
    return Result(Entry(BY_KEY[key], windows, key), list(rates), peak_mb, said)


RESULTS = [
    result(FLOW, 1_800_000.0, 2_000_000.0, 1_900_000.0, peak_mb=700),
    result("kafka-streams", 200_000.0, 180_000.0, 190_000.0),
    result("quix-streams", said="wrong results: 3 rows missing, as 10000|0|a (1 events, got None)"),
    result(BARE, 2_500_000.0, 2_000_000.0, 2_375_000.0),
]


def test_the_table_has_medians_ranges_and_ratios() -> None:
    assert table(RESULTS).splitlines()[2:] == [
        "| the flow, exactly once | 1,900,000 (1,800,000 to 2,000,000) | 0.8 | 1 | 700 |",
        "| Kafka Streams | 190,000 (180,000 to 200,000) | 0.08 | 10 | 100 |",
        "| Quix Streams | wrong results: 3 rows missing, as 10000/0/a (1 events, got None) | | | |",
        "| bare consumer | 2,375,000 (2,000,000 to 2,500,000) | 1 | 0.8 | 100 |",
    ]


def test_a_contender_that_failed_once_has_no_time() -> None:
    assert "| ended with exit code 1: KeyError | | | |" in table(
        [result("kafka-streams", 5.0, said="ended with exit code 1:\nat x\nKeyError")]
    )
    assert drawn([result("kafka-streams", 5.0, said="ended")]) == []


def test_the_page_says_how_it_came_about_and_repeats_the_limit_beside_each_list_of_windows() -> None:
    twelve = result(FLOW, 1_000_000.0, windows=TWELVE)
    said = page([*RESULTS, twelve], Run(8_000_000, 1_000, 5_000, 3, "make bench", "2026-01-02", 0.25), picture=True)
    assert said.startswith("<!-- Generated by `make bench`: do not edit. -->")
    assert "A short run" not in said
    assert "load in the minute before the run: 0.2" in said
    assert "8,000,000 events of 1,000 groups, 5,000 a second of event time, 3 rounds; 2026-01-02." in said
    assert said.count("| bare consumer | 2,375,000") == 2
    assert "| the flow, exactly once | 1,000,000 (1,000,000 to 1,000,000) | 0.421 | 1 | 100 |" in said
    assert "- Quix Streams: wrong results: 3 rows missing" in said
    assert "**Kafka Streams**, 1,000,000 events" in said
    assert "**Quix Streams**, 200,000 events" in said


def test_rows_of_several_lists_of_windows_name_them() -> None:
    lines = table([result(FLOW, 10.0, windows="10s"), result(FLOW, 5.0, windows="1s"), result(BARE, 20.0, windows="10s")]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == [
        "the flow, exactly once, 10s",
        "the flow, exactly once, 1s",
        "bare consumer",
    ]


def test_the_page_of_a_short_run_says_that_its_times_say_nothing() -> None:
    assert "A short run" in page(RESULTS, Run(400_000, 1_000, 5_000, 1, "make bench", "2026-01-02", 0.0), picture=True)


def test_several_lists_of_windows_compare_the_flow_alone() -> None:
    assert [(one.of.key, one.windows) for one in entries(["10s", "1h/1s"])] == [(FLOW, "10s"), (FLOW, "1h/1s"), (BARE, "10s")]
    assert {one.windows for one in entries(["10s"])} == {"10s"}
    assert {one.of.key for one in entries(["10s,1h/1s"])} == {FLOW, "flow-at-least-once", BARE}
    assert [one.key for one in entries([]) if one.windows == TWELVE] == ["flow-12", "kafka-streams-12"]


def test_the_flow_and_the_bare_consumer_read_all_of_it() -> None:
    assert {one.of.topic for one in entries([]) if one.of.key in {FLOW, "flow-at-least-once", BARE}} == {TOPIC}


def test_what_is_drawn_is_what_is_in_the_table() -> None:
    bars = drawn(RESULTS)
    assert [(bar["name"], bar["middle"], bar["ours"]) for bar in bars] == [
        ("the flow, exactly once", 1_900_000.0, True),
        ("Kafka Streams", 190_000.0, False),
        ("bare consumer", 2_375_000.0, False),
    ]
    assert json.loads(json.dumps(bars)) == bars
