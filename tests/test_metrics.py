"""What the metrics page says of rows."""

import json

import polars as pl
from prometheus_client import REGISTRY

from flows import metrics
from flows.declaration import parse
from flows.fields import read_schema
from flows.fold import Rows
from flows.plan import plan

SCHEMA = json.dumps({"type": "record", "name": "E", "fields": [{"name": "n", "type": "long"}]})


def told(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"topic": "metrics.t", "window": "10s", **labels})


def test_rows_are_counted_and_final_ones_say_how_far_they_have_come() -> None:
    made = plan(parse('defaults.windows = ["10s"]'), "metrics.t", [read_schema(1, SCHEMA)])
    #  [0--final--)[10--final--)[20--provisional--)
    table = pl.DataFrame({"start": [10_000, 0, 20_000], "final": [True, True, False]})
    metrics.written(Rows(made, (), made.windows[0], table))
    assert told("kpi_rows_total", kind="final") == 2
    assert told("kpi_rows_total", kind="provisional") == 1
    assert told("kpi_final_window_end_seconds") == 20
    assert told("kpi_window_seconds") == 10
    metrics.written(Rows(made, (), made.windows[0], table.filter(~pl.col("final"))))
    assert told("kpi_final_window_end_seconds") == 20
    assert told("kpi_rows_total", kind="provisional") == 2
