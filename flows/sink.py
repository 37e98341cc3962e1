"""Exactly once into Kafka: the Bytewax sink. In: (sink part, records or a barrier). Out: rows in Kafka.

Rows wait in the engine's snapshot until that is durable, then travel with their marker in one transaction:

    write_batch ──► open ──snapshot()──► pending ──barrier──► transaction [rows, marker] ──► offsets, for display
                    this epoch           in the recovery directory

A row that is pending in a durable snapshot is never computed again; a marker says which of them Kafka has. So a kill at any moment
neither loses nor doubles a row, and nothing depends on epochs being computed alike twice.
"""

import contextlib
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeAlias

from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition

from flows import metrics
from flows.delivery import deliver
from flows.edge import Edge, Marker
from flows.records import Barrier, Block, Joined, Row
from flows.stop import BEGIN_ANEW, MISMATCH, Stop, leave
from flows.transactions import Transactions

Item: TypeAlias = Collection[Row] | Barrier


class Closed(NamedTuple):
    """The rows of a closed epoch: its sequence, the life of the part that computed it, and the rows as they came."""

    sequence: int
    run: str
    rows: list[Collection[Row]]


State: TypeAlias = tuple[str, tuple[int, str], list[Closed]]  # lineage; sequence and run committed last; pending


class KafkaSink(FixedPartitionedSink[Item, Any]):
    """Parts "0" to "n-1". Durable: write-ahead, exactly once. Else rows go out at once and an undelivered one stops the flow.

    Durable needs a recovery directory, a barrier to every part in each epoch, and the topic PROGRESS with a partition a part
    (topics.ensure with PROGRESS_SETTINGS). The number of parts is fixed for the life of a flow.
    """

    def __init__(
        self,
        settings: Mapping[str, object],
        flow_id: str,
        *,
        durable: bool,
        parts: int = 2,
        edge: Callable[[Mapping[str, object], str, int], Edge] = Edge,
    ) -> None:
        self._durable = durable
        self._order = {key: index for index, key in enumerate(sorted(map(str, range(parts))))}  # the engine's order of the parts
        self._edge = partial(edge, settings, flow_id)

    def list_parts(self) -> list[str]:
        """Every worker reaches all parts; the engine gives each to one."""
        return list(self._order)

    def part_fn(self, item_key: str) -> int:
        """The key of an item is the name of its part."""
        return self._order[item_key]

    def build_part(self, step_id: str, for_part: str, resume_state: State | None) -> "WriteAhead | Direct":  # noqa: ARG002 - the engine's signature
        """The first barrier builds a part that has no state: when the flow starts, before anything is durable."""
        edge = self._edge(int(for_part))
        return WriteAhead(edge, resume_state) if self._durable else Direct(edge)


class WriteAhead(StatefulSinkPartition[Item, State]):
    """Rows: open (this epoch) → pending (closed epochs, in the snapshot) → Kafka, on a barrier. Nothing is committed in close()."""

    def __init__(self, edge: Edge, state: State | None, stop: Callable[[Stop], NoReturn] = leave) -> None:
        self._edge, self._stop = edge, stop
        self._run = uuid.uuid4().hex
        self._snapshot_s: float | None = None
        self._lineage, self._committed, pending = state or (uuid.uuid4().hex, (0, ""), [])
        self._pending, self._open = list(pending), list[Collection[Row]]()
        with self._stopping():
            self._transactions = Transactions(edge, admit=partial(self._check, fresh=state is None))
            self._claim()

    def write_batch(self, values: list[Item]) -> None:
        """Keep rows. A barrier says that all pending ones are durable: commit them."""
        for value in values:
            if isinstance(value, Barrier):
                with self._stopping():
                    self._commit()
                self._edge.show(value.offsets)
            elif value:  # an epoch without rows has no sequence
                self._open.append(value if isinstance(value, Block) else [(*row,) for row in value])

    def snapshot(self) -> State:
        """The end of an epoch: what was open is pending from now on."""
        before_s, self._snapshot_s = self._snapshot_s, time.monotonic()
        if before_s is not None:
            metrics.epoch.labels(self._edge.part).observe(self._snapshot_s - before_s)
        if self._open:
            sequence, _ = self._last()
            self._pending.append(Closed(sequence + 1, self._run, self._open))
            self._open = []
        return self._lineage, self._committed, list(self._pending)

    def close(self) -> None:
        """The input has ended, and every row went out with the last barriers."""
        self._edge.close()

    def _last(self) -> tuple[int, str]:
        return self._pending[-1][:2] if self._pending else self._committed

    def _check(self, marker: Marker | None, *, fresh: bool) -> None:
        """The marker must be one that this state knows: the last committed or a pending one, computed by the same life. Raises Stop."""
        known = [self._committed, *(closed[:2] for closed in self._pending)]
        sequence, _ = self._last()
        if marker is None:
            wrong = self._committed[0] > 0 and "its rows were committed, but their marker is lost with the topic that held it"
        elif fresh:
            wrong = (
                marker.sequence > 0
                and f"Kafka has rows under this id, up to batch {marker.sequence}, but the directory is empty: lost or replaced"
            )
        elif marker.lineage != self._lineage:
            wrong = f"what Kafka has under this id, up to batch {marker.sequence}, was written from another directory"
        else:
            wrong = (marker.sequence, marker.run) not in known and (
                f"Kafka has batch {marker.sequence}, the directory knows of batch {sequence}: an older or a diverged directory"
            )
        if wrong:
            raise Stop(
                MISMATCH,
                f"{self._edge.transactional_id}: the recovery directory does not belong to what Kafka has: {wrong}. Nothing was written. "
                "Bring back the right directory; or, where another flow uses this KPI_FLOW_ID, give this one its own; "
                f"or begin anew: {BEGIN_ANEW}",
            )

    def _claim(self) -> None:
        """Commit what is pending; at the least write the marker again under our name, so that an older instance sees that it is over.

        After a reset the marker says that nothing was committed: a fresh part puts its own lineage there, before its first snapshot.
        """
        if self._pending:
            self._commit()
        marker = self._transactions.marker
        if marker is not None and marker.owner != self._run:
            self._transactions.commit([], Marker(self._lineage, *self._committed, self._run))

    def _commit(self) -> None:
        """One transaction with every pending row above the marker."""
        marker = self._transactions.marker
        closed = [closed for closed in self._pending if marker is None or closed.sequence > marker.sequence]
        rows = Joined(tuple(rows for one in closed for rows in one.rows))
        if rows:
            with metrics.transaction.labels(self._edge.part).time():
                self._transactions.commit(rows, Marker(self._lineage, *self._last(), self._run))
        self._committed, self._pending = self._last(), []

    @contextlib.contextmanager
    def _stopping(self) -> Iterator[None]:
        try:
            yield
        except Stop as stop:
            self._stop(stop)


class Direct(StatefulSinkPartition[Item, None]):
    """Rows go out at once: at least once. Returns from write_batch when Kafka has them, or raises Undelivered."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._producer = edge.idempotent()

    def write_batch(self, values: list[Item]) -> None:
        """Deliver all rows; then show what the barriers say."""
        deliver(self._producer, Joined(tuple(value for value in values if not isinstance(value, Barrier))))
        for value in values:
            if isinstance(value, Barrier):
                self._edge.show(value.offsets)

    def snapshot(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Every row is out already."""
        self._edge.close()
