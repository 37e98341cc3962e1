"""The whole dataflow on one screen. In: a source and a sink, which are arguments so that tests run the same flow. Out: a Dataflow.

source ──► slice ──► fold ──► encode ──► sink
   └── late records, dead letters, barriers ─┘
"""

import logging
import zlib
from collections.abc import Iterable
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import Sink

from flows import metrics, records, slices
from flows.fold import Fold, Rows
from flows.records import Record
from flows.slices import Events, Partial

LOG = logging.getLogger(__name__)
SHARDS = 8  # of a group set: how many workers can share it; changing it needs a reset

ToSink = tuple[str, Any]  # (sink part, records or a barrier)


class FoldLogic(StatefulBatchLogic[Partial, Rows, dict[str, Any]]):
    """Bytewax's view of a Fold. Nothing here knows the time: it comes with the partials."""

    def __init__(self, shards: int, state: dict[str, Any] | None) -> None:
        self.fold = Fold(shards, state)

    def on_batch(self, values: list[Partial]) -> tuple[Iterable[Rows], bool]:
        """Rows of what these partials closed or changed."""
        turn = self.fold.take(values)
        if turn.closed:
            topic = values[-1].plan.topic
            metrics.late_closed.labels(topic).inc(turn.closed)
            LOG.warning(
                "%s: %d events found their slice closed (offsets %s)", topic, turn.closed, [dict(value.offsets) for value in values]
            )
        return turn.rows, False

    def on_eof(self) -> tuple[Iterable[Rows], bool]:
        """The end of the input closes nothing: the flow goes on with this state after a restart."""
        return [], False

    def snapshot(self) -> dict[str, Any]:
        """See Fold.snapshot."""
        return self.fold.snapshot()


def kpi_flow(source: Source[Any], sink: Sink[ToSink], sink_parts: int = 2, shards: int = SHARDS) -> Dataflow:
    """Events to KPI records. Names of flow and steps are part of the recovery state: never rename them."""
    flow = Dataflow("kpi")
    items = op.input("source", flow, source)
    split: op.BranchOut[Events, ToSink] = op.branch("split", items, lambda item: isinstance(item, Events))
    partials = op.flat_map("slice", split.trues, lambda events: slices.partials(events, shards))
    rows = op.stateful_batch("fold", partials, lambda state: FoldLogic(shards, state))
    encoded = op.map("encode", rows, lambda keyed: _for_sink(keyed, sink_parts))
    op.output("sink", op.merge("merge", encoded, split.falses), sink)
    return flow


def _for_sink(keyed: tuple[str, Rows], sink_parts: int) -> tuple[str, list[Record]]:
    """The same group and window always goes through the same sink part, as its shard does."""
    key, rows = keyed
    return str(zlib.crc32(key.encode()) % sink_parts), records.encode(rows)
