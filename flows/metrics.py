"""Every Prometheus metric of the flow in one table. In: labels and numbers. Out: the page at KPI_METRICS_PORT. Never a group in a label."""

from collections.abc import Mapping

import numpy as np
from prometheus_client import Counter, Gauge, Histogram

from flows.fold import Rows
from flows.intake import Position
from flows.watermark import NEVER

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

messages = Counter("kpi_messages", "Messages by their one fate; their sum is what was read", ["topic", "partition", "fate"])
gap = Counter("kpi_gap_messages", "Offsets that had expired before they were read", ["topic", "partition"])
late_closed = Counter("kpi_late_closed_events", "Folded events whose slice was found closed, summed over group sets", ["topic"])
groups_over = Counter("kpi_groups_over_limit", "Times that a group of a stretch was put into __other__; again if it comes again", ["topic"])
unmeasured = Counter("kpi_unmeasured_values", "Values of folded events that KPIs leave out, by cause", ["topic", "of", "cause"])
watermark = Gauge("kpi_watermark_seconds", "Event time a partition has reached (its lateness taken off)", ["topic", "partition"])
rows = Counter("kpi_rows", "Rows of KPI topics, of closed windows (final) and of open ones (provisional)", ["topic", "window", "kind"])
final_end = Gauge("kpi_final_window_end_seconds", "The end, in event time, of the latest window with final rows", ["topic", "window"])
window_length = Gauge("kpi_window_seconds", "How long the windows of a KPI topic are", ["topic", "window"])
open_slices = Gauge("kpi_open_slices", "Slices that are not closed yet, summed over group sets and their shards", ["topic"])
open_groups = Gauge("kpi_open_groups", "Groups in open slices, summed over slices and group sets: what the state's size follows", ["topic"])
snapshot = Histogram("kpi_snapshot_seconds", "Time that the snapshot of a fold's shard took", ["topic"], buckets=SECONDS)
snapshot_bytes = Counter("kpi_snapshot_bytes", "Bytes of tables that snapshots of folds have handed to the engine", ["topic"])
epoch = Histogram("kpi_epoch_seconds", "Time from one snapshot of a sink part to its next", ["part"], buckets=SECONDS)
transaction = Histogram("kpi_transaction_seconds", "Time that a transaction of a sink part took", ["part"], buckets=SECONDS)
waiting = Gauge("kpi_waiting_topics", "Topics that wait for registry or cluster", ["reader"])


def count(topic: str, partition: int, before: Mapping[str, int], after: Mapping[str, int]) -> None:
    """Add to the books what a partition's fates have grown by."""
    for fate, number in after.items():
        if (more := number - before.get(fate, 0)) > 0:
            messages.labels(topic, partition, fate).inc(more)


def watermarks(topic: str, positions: Mapping[int, Position]) -> None:
    """Show how far each partition has come, once it has any event time."""
    for partition, position in positions.items():
        if (reached := position.reached_ms) != NEVER:
            watermark.labels(topic, partition).set(reached / 1000)


def written(made: Rows) -> None:
    """Count rows that are to be written, and show how far the final ones have come."""
    topic, (windows, finals, ends) = made.plan.topic, (made.table[name].to_numpy() for name in ("window", "final", "end"))
    for number in np.unique(windows).tolist():
        window, of_one = made.plan.windows[number], windows == number
        final = of_one & finals
        rows.labels(topic, window.label, "final").inc(int(final.sum()))
        rows.labels(topic, window.label, "provisional").inc(int((of_one & ~finals).sum()))
        window_length.labels(topic, window.label).set(window.size_ms / 1000)
        if final.any():
            final_end.labels(topic, window.label).set(int(ends[final].max()) / 1000)
