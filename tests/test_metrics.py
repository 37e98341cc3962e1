"""What the metrics page says of rows, of the state, and of sink parts."""

import json
from dataclasses import replace

import polars as pl
from prometheus_client import REGISTRY

from flows import metrics
from flows.declaration import parse
from flows.fields import read_schema
from flows.fold import Rows
from flows.plan import plan
from flows.records import Barrier, Record
from flows.sink import WriteAhead
from flows.topology import FoldLogic, bytes_of
from flows.watermark import Mark
from tests.atomic_log import Log, LogEdge
from tests.core import partial, planned, schema

SCHEMA = json.dumps({"type": "record", "name": "E", "fields": [{"name": "n", "type": "long"}]})


def told(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"topic": "metrics.t", "window": "10s", **labels})


def test_rows_are_counted_and_final_ones_say_how_far_they_have_come() -> None:
    made = plan(parse('defaults.windows = ["10s"]'), "metrics.t", [read_schema(1, SCHEMA)])
    #  [0--final--)[10--final--)[20--provisional--)
    table = pl.DataFrame({"window": [0, 0, 0], "start": [10_000, 0, 20_000], "end": [20_000, 10_000, 30_000], "final": [True, True, False]})
    metrics.written(Rows(made, (), table))
    assert told("kpi_rows_total", kind="final") == 2
    assert told("kpi_rows_total", kind="provisional") == 1
    assert told("kpi_final_window_end_seconds") == 20
    assert told("kpi_window_seconds") == 10
    metrics.written(Rows(made, (), table.filter(~pl.col("final"))))
    assert told("kpi_final_window_end_seconds") == 20
    assert told("kpi_rows_total", kind="provisional") == 2


def test_open_slices_and_their_groups_are_counted_over_shards() -> None:
    made = replace(planned("windows = ['10s']\nby = [['g']]", schema({"ts": "long", "g": "string"})), topic="metrics.open")
    shards = [FoldLogic(set(), None) for _ in range(2)]

    def open_now() -> list[float | None]:
        return [REGISTRY.get_sample_value(name, {"topic": made.topic}) for name in ("kpi_open_slices", "kpi_open_groups")]

    shards[0].snapshot()
    assert open_now() == [None, None]
    #                     [0--------)[10-------)
    #  groups of shard 0:   a b        a
    #  groups of shard 1:   c
    shards[0].on_batch([partial(made, [(1_000, "a"), (2_000, "b"), (11_000, "a")], Mark(0, 0))])
    shards[1].on_batch([partial(made, [(1_000, "c")], Mark(0, 0))])
    for logic in shards:
        logic.snapshot()
        logic.snapshot()
    assert open_now() == [3, 4]
    shards[0].on_batch([partial(made, [], Mark(10_000, 10_000))])
    shards[0].snapshot()
    assert open_now() == [2, 2]


def test_snapshots_are_timed_and_their_bytes_counted() -> None:
    made = replace(planned("windows = ['10s']\nby = [['g']]", schema({"ts": "long", "g": "string"})), topic="metrics.snapshots")
    logic = FoldLogic(set(), None)

    def told(name: str) -> float | None:
        return REGISTRY.get_sample_value(name, {"topic": made.topic})

    logic.on_batch([partial(made, [(1_000, "a")], Mark(0, 0))])
    size = bytes_of(logic.snapshot())
    assert size > 0
    assert (told("kpi_snapshot_seconds_count"), told("kpi_snapshot_bytes_total")) == (1, size)
    size += bytes_of(logic.snapshot())
    assert (told("kpi_snapshot_seconds_count"), told("kpi_snapshot_bytes_total")) == (2, size)


def test_epochs_and_transactions_of_a_sink_part_are_timed() -> None:
    def count(name: str) -> float:
        return REGISTRY.get_sample_value(f"{name}_count", {"part": "0"}) or 0

    epochs, transactions = count("kpi_epoch_seconds"), count("kpi_transaction_seconds")
    part = WriteAhead(LogEdge(Log()), None)
    part.snapshot()
    for rows in (1, 0, 1):
        part.write_batch([Barrier(), [Record("t", b"k", b"v")] * rows])
        part.snapshot()
    part.write_batch([Barrier()])
    assert count("kpi_epoch_seconds") - epochs == 3
    assert count("kpi_transaction_seconds") - transactions == 2
