"""What bench.latency and bench.soak tell is what was measured."""

import io
import json
from typing import Any

import fastavro
import numpy as np
import pytest

from bench import latency, soak
from bench.clicks import SCHEMA
from bench.figures import growth, histogram, percentile, percentiles, slope
from bench.paced import clicks
from flows.encoder import joined, texts


@pytest.mark.parametrize(("share", "wanted"), [(0.0, 1), (0.25, 1), (0.5, 2), (0.75, 3), (0.99, 4), (1.0, 4)])
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(share: float, wanted: float) -> None:
    assert percentile([3, 1, 4, 2], share) == wanted


def test_of_a_thousand_values_the_tail_is_told() -> None:
    assert percentiles([*range(1, 1_001)]) == {"p50": 500, "p99": 990, "p99.9": 999}
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_histogram_has_every_value_once_and_no_gap() -> None:
    values = [-3.0, 0, 99.9, 100, 350]  # one from before zero, as clocks are read twice, is in the first
    assert histogram(values, 100) == [(0, 3), (100, 1), (200, 0), (300, 1)]
    assert histogram([], 100) == [(0, 0)]


def test_the_slope_of_a_point_or_of_none_is_zero() -> None:
    assert slope([(0, 1), (2, 5)]) == 2
    assert slope([(1, 1)]) == slope([]) == slope([(1, 1), (1, 2)]) == 0


def test_growth_is_that_of_the_second_half() -> None:
    #  at   0 1 2 3  | 4 5 6 7
    #  is   0 9 9 9  | 9 9 9 10        the warm-up, from 0 to 9, is no growth
    steady = [(at, 9.0) for at in range(8)]
    assert growth([(0, 0.0), *steady[1:]]) == (0, 0)
    an_hour, grown = growth([(0, 0.0), *steady[1:7], (7, 10.0)])
    assert (round(an_hour, 3), grown) == (0.3, 1)


def test_a_paced_click_is_read_by_its_schema() -> None:
    times = np.array([1_700_000_000_000, 1_700_000_000_001])
    found: list[Any] = [
        fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(SCHEMA), None)
        for value in clicks(np.random.default_rng(1), b"\0\0\0\0\7", times, joined(texts(["k1"])))
    ]
    assert [int(click["event_time"].timestamp() * 1000 + 0.5) for click in found] == times.tolist()
    assert {(click["country"], click["coupon"]) for click in found} == {("k1", None)}
    assert all(0 <= click["amount"] < 100 and 0 <= click["items"] < 10 for click in found)


def one_run(final_ms: float) -> dict[str, Any]:
    return {"update": "1s", "epoch_s": 1, "provisional": latency.told([900.0, 1_200.0]), "final": latency.told([final_ms])}


@pytest.mark.parametrize(("final_ms", "said"), [(2_000.0, "held"), (2_001.0, "missed")])
def test_the_page_says_whether_final_rows_come_within_two_epochs(final_ms: float, said: str) -> None:
    page = latency.report({"rate": 5e4, "source": "as asked for", "cores": 2, "load": 1.0, "runs": [one_run(1.0), one_run(final_ms)]})
    assert page.rstrip().splitlines()[-3].endswith(f"goal 2,000 ms: {said}.")
    assert "| 1s | an event's production | its provisional row | 2 | 900 | 1,200 | 1,200 |" in page


@pytest.mark.parametrize(("last", "said"), [(31.0, "held"), (32.0, "missed")])
def test_the_page_says_whether_memory_has_grown(last: float, said: str) -> None:
    samples = [{"at_s": at * 10.0, "rss": last * (at == 7), "uss": 1.0, "recovery": 2.0, "lag": at * 100.0} for at in range(8)]
    found = {"rate": 100.0, "source": "as asked for", "groups": 10, "cores": 2, "load": 1.0, "samples": samples}
    page = soak.report({**found, "judged": soak.judged(samples)})
    assert f"grew by {last:+.1f} MiB, goal below 32: {said}." in page
    assert "Lag in the second half: 700 events at most, 7.0 s of the load." in page
    assert json.loads(json.dumps(soak.judged(samples)))["recovery"] == {"an_hour": 0, "grown": 0, "most": 2}
