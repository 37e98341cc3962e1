"""What `make bench-scale` tells, of made-up results; and the batches that it fills topics with."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kafka.record import MemoryRecords

from bench import scale
from bench.batches import Template, varint, varints
from bench.curves import BASE, CURVES, medians, page

START_MS = 1_700_000_000_000
RESULTS = {
    "command": "python -m bench.scale --only topics",
    "date": "2026-01-31",
    "events": 200_000,
    "rounds": 3,
    "cores": 2,
    "curves": {
        "topics": [
            {"x": 1, "label": "1", "rounds": [{"rate": rate, "cpu_s": 1.5, "peak_mb": 400, "rows": 11_719} for rate in (3e6, 1e6, 1.5e6)]},
            {"x": 50, "label": "50", "rounds": [{"rate": 1e6, "cpu_s": 2.25, "peak_mb": 500, "rows": 12_000}]},
        ]
    },
}


def test_the_page_says_how_it_was_made_and_has_the_medians_of_each_point() -> None:
    told = page(RESULTS)
    assert "`python -m bench.scale --only topics` on 2026-01-31" in told
    assert "200,000 events of 35 bytes" in told
    assert "| 1 | 1,500,000 | 1.50 | 400 | 11,719 |\n| 50 | 1,000,000 | 2.25 | 500 | 12,000 |\n" in told
    assert "## Groups" not in told
    assert "## A backlog" not in told


def test_a_backlog_is_told_in_about_ten_lines() -> None:
    curve = [[second, second * 1.5, 400] for second in range(100)]
    told = page({**RESULTS, "backlog": {"events": 150_000_000, "fill_s": 60, "seconds": 100, "cpu_s": 1, "peak_mb": 400, "curve": curve}})
    assert "150,000,000 events were there before the flow began" in told
    assert told.count("| 400 |") == 10 + 1  # one of the table of topics


def test_a_figure_that_a_round_lacks_is_left_out() -> None:
    assert medians([{"a": 1, "b": 2}, {"a": 3}]) == {"a": 2}


def test_what_came_after_the_first_quarter_is_told_of_long_runs_alone() -> None:
    rounds = [{"events": 4_000_000, "rate": rate, "later_rate": 1e6, "cpu_s": 1, "peak_mb": 400, "rows": 10} for rate in (2.1e6, 1.9e6)]
    points = [{"x": number, "label": f"{number}", "rounds": [one]} for number, one in enumerate(rounds)]
    told = page({**RESULTS, "curves": {"topics": points}})
    assert "| 0 | 2,100,000 |  | 1.00 | 400 | 10 |\n| 1 | 1,900,000 | 1,000,000 | 1.00 | 400 | 10 |\n" in told


def test_each_curve_turns_one_thing_and_goes_through_the_base_case() -> None:
    for name, curve in CURVES.items():
        events = curve.points[-1].events  # that many in each point, unless the curve is of events
        base = replace(BASE, events=events)
        fields = ("events", "groups", "partitions", "topics", "padding", "windows", "workers", "processes")
        turned = {field for point in curve.points for field in fields if getattr(point, field) != getattr(base, field)}
        assert turned == {"workers", "processes"} or len(turned) == 1, name
        assert any(all(getattr(point, field) == getattr(base, field) for field in fields) for point in curve.points), name


def test_what_is_measured_is_kept_after_every_curve(tmp_path: Path) -> None:
    scale.keep(RESULTS, tmp_path / "new" / "scale.json", tmp_path / "scale.md")
    assert json.loads((tmp_path / "new" / "scale.json").read_text()) == RESULTS
    assert (tmp_path / "scale.md").read_text() == page(RESULTS)


def test_a_batch_made_whole_is_what_a_kafka_client_reads() -> None:
    times = np.array([START_MS + 7, START_MS, START_MS + 1_000])
    template = Template(b"head", [b"a", b"", b"x" * 100, b"never"], 2.5)
    for _ in range(2):  # a template is used again and again
        batch = MemoryRecords(template.batch(times, START_MS)).next_batch()
        assert batch.validate_crc()
        assert (batch.last_offset, batch.max_timestamp) == (2, START_MS + 5)
        records = list(batch)
        assert [record.value for record in records] == [
            b"head" + varint(int(time)) + tail for time, tail in zip(times, (b"a", b"", b"x" * 100), strict=True)
        ]
        assert [(record.offset, record.timestamp) for record in records] == [(0, START_MS), (1, START_MS + 2), (2, START_MS + 5)]
        times = times + 1


def test_times_of_another_length_are_refused() -> None:
    assert [bytes(row) for row in varints(np.array([START_MS, START_MS + 1]))] == [varint(START_MS), varint(START_MS + 1)]
    for wrong in (1_000, 4_000_000_000_000):
        with pytest.raises(ValueError, match="want those of 6 bytes"):
            varints(np.array([START_MS, wrong]))
