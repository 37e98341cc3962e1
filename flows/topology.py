"""The whole dataflow on one screen. In: a source and a sink, which are arguments so that tests run the same flow. Out: a Dataflow.

source ──► slice ──► fold ──────────► encode ──► sink
   │                   └── rest ──┘              │
   └── late records, dead letters, barriers ─────┘
"""

import logging
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import Source
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import Sink

from flows import metrics, records, slices
from flows.fold import Fold, Passed, Rows
from flows.limit import OTHER
from flows.plan import TopicPlan
from flows.records import Block
from flows.rest import Rest
from flows.slices import Events, Partial
from flows.stop import BEGIN_ANEW, MISMATCH, Stop, leave
from flows.vault import Vault

LOG = logging.getLogger(__name__)
FOLD = "kpi.fold"  # the step of the recovery store that holds the folds

ToSink = tuple[str, Any]  # (sink part, records or a barrier)


@contextmanager
def _readable() -> Iterator[None]:
    """Ends the process, with the way on, where a state is of another version of this program, or damaged."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        line = f"the recovery directory holds what cannot be read: {error or 'nothing'} ({type(error).__name__})"
        leave(Stop(MISMATCH, f"kpi: {line}: bring back the program that wrote it, or its backup, or begin anew: {BEGIN_ANEW}"))


class FoldLogic(StatefulBatchLogic[Partial, Rows | Passed, dict[str, Any]]):
    """Bytewax's view of a Fold. Nothing here knows the time: it comes with the partials. `told`: topics that were over their limit."""

    def __init__(self, told: set[str], state: dict[str, Any] | None, directory: Path | None = None) -> None:
        with _readable():
            self.fold, self.told = Fold(state, Vault(directory)), told
        self.shown = (0, 0)

    def on_batch(self, values: list[Partial]) -> tuple[Iterable[Rows | Passed], bool]:
        """Rows of what these partials closed or changed; then how far windows have closed, if they have."""
        turn = self.fold.take(values)
        if turn.closed:
            topic = values[-1].plan.topic
            metrics.late_closed.labels(topic).inc(turn.closed)
            LOG.warning(
                "%s: %d events found their slice closed (offsets %s)", topic, turn.closed, [dict(value.offsets) for value in values]
            )
        if turn.over:
            self._over(values[-1].plan, turn.over)
        return [*turn.rows, *([turn.passed] if turn.passed else [])], False

    def on_eof(self) -> tuple[Iterable[Rows | Passed], bool]:
        """The end of the input closes nothing: the flow goes on with this state after a restart."""
        return [], False

    def snapshot(self) -> dict[str, Any]:
        """See Fold.snapshot."""
        began_s, before_bytes = time.perf_counter(), self.fold.vault.written
        try:
            state = self.fold.snapshot()
        except Stop as stop:
            leave(stop)
        if hasattr(self.fold, "plan"):
            metrics.snapshot.labels(self.fold.plan.topic).observe(time.perf_counter() - began_s)
            metrics.snapshot_bytes.labels(self.fold.plan.topic).inc(bytes_of(state) + self.fold.vault.written - before_bytes)
            before, self.shown = self.shown, self.fold.size()
            for gauge, was, now in zip((metrics.open_slices, metrics.open_groups), before, self.shown, strict=True):
                gauge.labels(self.fold.plan.topic).inc(now - was)
        return state

    def _over(self, plan: TopicPlan, groups: int) -> None:
        metrics.groups_over.labels(plan.topic).inc(groups)
        if plan.topic not in self.told:
            self.told.add(plan.topic)
            LOG.warning(
                "%s: a window has more than %d groups; those over the limit share the group %s (see `groups`)",
                plan.topic,
                plan.max_groups,
                OTHER,
            )


def bytes_of(state: object) -> int:
    """The bytes in a state, however deep they lie.

    >>> bytes_of({"levels": {1: b"abc", 2: [b"d"]}, "published": None})
    4
    """
    if isinstance(state, dict):
        state = list(state.values())
    return sum(map(bytes_of, state)) if isinstance(state, list | tuple) else len(state) if isinstance(state, bytes) else 0


class RestLogic(StatefulBatchLogic[tuple[int, Passed], Rows, dict[str, Any]]):
    """Bytewax's view of a Rest."""

    def __init__(self, state: dict[str, Any] | None) -> None:
        with _readable():
            self.rest = Rest(state)

    def on_batch(self, values: list[tuple[int, Passed]]) -> tuple[Iterable[Rows], bool]:
        """The rest's rows of the windows that all shards have closed."""
        return self.rest.take(values), False

    def on_eof(self) -> tuple[Iterable[Rows], bool]:
        """As for the fold."""
        return [], False

    def snapshot(self) -> dict[str, Any]:
        """See Rest.snapshot."""
        return self.rest.snapshot()


def kpi_flow(source: Source[Any], sink: Sink[ToSink], sink_parts: int = 2, directory: Path | None = None) -> Dataflow:
    """Events to KPI records. Names of flow and steps are part of the recovery state: never rename them.

    `directory`: the recovery directory, where large tables of the state get files of their own.
    """
    flow = Dataflow("kpi")
    items = op.input("source", flow, source)
    split: op.BranchOut[Events, ToSink] = op.branch("split", items, lambda item: isinstance(item, Events))
    partials = op.flat_map("slice", split.trues, slices.partials)
    told = set[str]()
    folded = op.stateful_batch("fold", partials, lambda state: FoldLogic(told, state, directory))
    closed: op.BranchOut[Any, Any] = op.branch("closed", folded, lambda keyed: isinstance(keyed[1], Passed))
    rests = op.stateful_batch("rest", op.map("whole", closed.trues, _of_group_set), RestLogic)
    encoded = op.map("encode", op.merge("rows", closed.falses, rests), lambda keyed: _for_sink(keyed, sink_parts))
    op.output("sink", op.merge("merge", encoded, split.falses), sink)
    return flow


def _of_group_set(keyed: tuple[str, Passed]) -> tuple[str, tuple[int, Passed]]:
    """From `topic|group set|shard` to `topic|group set|0`: the rest of all shards has one key, and so one sink part."""
    key, _, shard = keyed[0].rpartition("|")
    return f"{key}|0", (int(shard), keyed[1])


def _for_sink(keyed: tuple[str, Rows], sink_parts: int) -> tuple[str, Block]:
    """The same group and window always goes through the same sink part, as its shard does, or the rest of its group set.

    The shards of a group set take turns. (A crc32 of the whole key would not do: of texts that end in 0 to 3, all or none are odd.)
    """
    key, rows = keyed
    of, _, shard = key.rpartition("|")
    metrics.written(rows)
    return str((zlib.crc32(of.encode()) + int(shard)) % sink_parts), records.encode(rows)
